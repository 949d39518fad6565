"""NumPy and torch give the same camera; the parts of the matching against slow and plain references."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.stereo.arrays import gaussian_kernel, make_arrays, seed_words
from realdiff_sim_bridge.stereo.census import COST_MAX, PAIRS
from realdiff_sim_bridge.stereo.sensor import StereoFrame, StereoSensor
from realdiff_sim_bridge.stereo.settings import load_ranges
from realdiff_sim_bridge.stereo.synthetic import desk_views
from scipy import ndimage

CAMERA = CameraModel(width=240, height=136, fx=120.0, fy=120.0, cx=119.5, cy=67.5)
NUMPY = make_arrays("numpy")


@pytest.fixture(scope="module")
def torch_arrays():  # type: ignore[no-untyped-def]
    pytest.importorskip("torch")
    return make_arrays("torch", "cpu")


def _images(seed: int, height: int = 40, width: int = 90, shift: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (2, height, width + shift)).astype(np.uint8)
    noisy = np.clip(wide[:, :, shift:] + rng.normal(0, 20, (2, height, width)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(wide[:, :, :width]), noisy  # the right image shows the left one's columns − shift


def _reference(left: np.ndarray, right: np.ndarray, disparities: int, threshold: int, p1: int, p2: int) -> np.ndarray:
    """Sums of the four paths by the textbook's recursion (Hirschmüller 2008), int64 [H,W,D]."""
    height, width = left.shape

    def codes(image: np.ndarray) -> np.ndarray:
        reach = 4
        padded = np.pad(image.astype(int), reach, "edge")
        out = np.zeros((height, width, len(PAIRS)), bool)
        for y in range(height):
            for x in range(width):
                for k, (dy, dx) in enumerate(PAIRS):
                    above = padded[y + reach - dy, x + reach - dx]
                    out[y, x, k] = above > padded[y + reach + dy, x + reach + dx] + threshold
        return out

    a, b = codes(left), codes(right)
    cost = np.full((height, width, disparities), COST_MAX)
    for d in range(disparities):
        cost[:, d:, d] = (a[:, d:] != b[:, : width - d]).sum(-1)
    total = np.zeros(cost.shape, np.int64)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        path = np.zeros(cost.shape, np.int64)
        for y in range(height)[:: 1 if dy >= 0 else -1]:
            for x in range(width)[:: 1 if dx >= 0 else -1]:
                fy, fx = y - dy, x - dx
                if not (0 <= fy < height and 0 <= fx < width):
                    path[y, x] = cost[y, x]
                    continue
                before = path[fy, fx]
                for d in range(disparities):
                    options = [before[d], before.min() + p2]
                    options += [before[e] + p1 for e in (d - 1, d + 1) if 0 <= e < disparities]
                    path[y, x, d] = cost[y, x, d] + min(options) - before.min()
        total += path
    return total


def test_semi_global_matching_is_the_textbooks() -> None:
    left, right = _images(0, 14, 40, 5)
    disparity, valid = NUMPY.semi_global(left, right, 16, 3, (7, 40), 5, 1)
    total = _reference(left[0], right[0], 16, 3, 7, 40)
    best = total.argmin(-1)
    assert np.array_equal(np.floor(disparity[0] + 0.5), best) or np.abs(disparity[0] - best).max() <= 0.5
    assert (
        best == np.clip(np.rint(disparity[0]), 0, 15)
    ).mean() > 0.98  # fractions of ± 0.5 may round to the neighbour
    assert valid[0, :, 6:].mean() > 0.5
    assert np.median(disparity[0][valid[0]]) == pytest.approx(5, abs=0.2)


def test_semi_global_matching_is_bit_exact_in_torch(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    for threshold, uniqueness in ((0, 0), (4, 10)):
        left, right = _images(1)
        a = NUMPY.semi_global(left, right, 24, threshold, (6, 50), uniqueness, 1)
        b = torch_arrays.semi_global(
            torch_arrays.upload(left), torch_arrays.upload(right), 24, threshold, (6, 50), uniqueness, 1
        )
        assert a[0].tobytes() == torch_arrays.download(b[0]).tobytes()
        assert np.array_equal(a[1], torch_arrays.download(b[1]))
        assert 0.5 < a[1].mean() < 1


def test_triton_kernels_are_bit_exact() -> None:
    """The kernels of the GPU, interpreted on the CPU, choose what the torch path chooses."""
    pytest.importorskip("torch")
    pytest.importorskip("triton", reason="triton comes with the CUDA builds of torch")
    code = (
        "import torch; from realdiff_sim_bridge.stereo import sgm_torch, sgm_triton;"
        "torch.manual_seed(0); left, right, noise = torch.randint(0, 2**31 - 1, (3, 2, 7, 21), dtype=torch.int32);"
        "right = left.roll(-3, 2) ^ (noise & right);"
        "found = sgm_triton.choices(left, right, 12, (7, 50));"
        "expected = sgm_torch.SemiGlobalTorch().choices(left, right, 12, (7, 50));"
        "assert torch.equal(found, expected), (found != expected).sum(); print(found[0].unique().numel(), 'choices')"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # must be set before the kernels are imported
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 3


def test_random_numbers_are_normal_and_bit_exact(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    seeds = seed_words([3, 4, -1])
    numbers = NUMPY.normals(seeds, 1, 200, 300)
    assert numbers.tobytes() == torch_arrays.download(torch_arrays.normals(seeds, 1, 200, 300)).tobytes()
    assert abs(numbers.mean()) < 0.01
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(numbers) > 1.96) == pytest.approx(0.05, abs=0.004)
    flat = numbers.reshape(3, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.02  # frames
    assert abs(np.corrcoef(flat[0, 1:], flat[0, :-1])[0, 1]) < 0.02  # pixels
    assert abs(np.corrcoef(flat[0], NUMPY.normals(seeds, 0, 200, 300)[0].ravel())[0, 1]) < 0.02  # streams


def test_filters_agree_with_scipy(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    image = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    expected = ndimage.correlate1d(image, gaussian_kernel(3.0), axis=2, mode="mirror")
    expected = ndimage.correlate1d(expected, gaussian_kernel(1.5), axis=1, mode="mirror")
    highest = ndimage.maximum_filter(image, (0, 3, 7), mode="constant", cval=-1)
    for arrays in (NUMPY, torch_arrays):
        given = arrays.upload(image)
        assert np.allclose(arrays.download(arrays.blur(given, 3.0, 1.5)), expected, atol=1e-6)
        assert np.array_equal(arrays.download(arrays.highest(given, 3, 1)), highest)


def test_values_between_pixels_agree_with_scipy(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    images = rng.random((2, 20, 30)).astype(np.float32)
    x, y = (rng.uniform(-3, size + 3, (2, 7, 9)).astype(np.float32) for size in (30, 20))
    inside = np.clip(y, 0, 19), np.clip(x, 0, 29)
    several = [ndimage.map_coordinates(images[i], [inside[0][i], inside[1][i]], order=1) for i in (0, 1)]
    one = ndimage.map_coordinates(images[1], [inside[0], inside[1]], order=1)
    found = []
    for arrays in (NUMPY, torch_arrays):
        given, places = arrays.upload(images), (arrays.upload(x), arrays.upload(y))
        found.append([arrays.download(arrays.bilinear(image, *places)) for image in (given, given[1])])
        assert np.allclose(found[-1][0], several, atol=2e-3)  # clipped a thousandth of a pixel before the border
        assert np.allclose(found[-1][1], one, atol=2e-3)
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_means_of_one_side_of_a_jump_and_cubic_rows(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    disparity = rng.uniform(20, 23, (2, 12, 17)).astype(np.float32)
    valid = rng.random(disparity.shape) < 0.7
    near = np.pad(np.where(valid, disparity, np.nan), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(near, (3, 3), (1, 2)).reshape(*disparity.shape, 9).copy()
    windows[np.abs(windows - disparity[..., None]) >= 1] = np.nan
    windows[..., 4] = disparity  # the pixel itself counts in any case
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32) * 3, (2, 12, 40)).copy()  # cubics keep straight lines
    shift = rng.uniform(0, 3, ramp.shape).astype(np.float32)
    inside = (slice(None), slice(None), slice(6, -3))
    means, rows = [], []
    for arrays in (NUMPY, torch_arrays):
        means.append(arrays.download(arrays.same_side(arrays.upload(disparity), arrays.upload(valid))))
        rows.append(arrays.download(arrays.sample_rows(arrays.upload(ramp), arrays.upload(shift))))
        assert np.allclose(means[-1], np.nanmean(windows, axis=-1), atol=1e-5)
        assert np.allclose(rows[-1][inside], (ramp - 3 * shift)[inside], atol=1e-4)
    assert np.array_equal(*means)
    assert np.array_equal(*rows)


def test_islands_agree_with_labelled_regions(torch_arrays) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(5)
    steps = rng.integers(0, 3, (2, 20, 30)).astype(np.float32) * 4  # regions of equal disparity, far from each other
    disparity = steps.repeat(3, 1).repeat(2, 2)
    valid = rng.random(disparity.shape) < 0.85
    expected = np.zeros_like(valid)
    for frame in range(2):
        for value in (0, 4, 8):
            labels, count = ndimage.label(valid[frame] & (disparity[frame] == value))
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            expected[frame] |= (labels > 0) & (sizes[labels] <= 25)
    assert 0.1 < expected.mean() < 0.7
    for arrays in (NUMPY, torch_arrays):
        found = arrays.islands(arrays.upload(disparity), arrays.upload(valid), 25)
        assert np.array_equal(arrays.download(found), expected)


def _frames(backend: str, purpose: str) -> list[StereoFrame]:
    settings = load_ranges(purpose).middle()
    sensor = StereoSensor(CAMERA, settings, 1, backend=backend, device="cpu")  # type: ignore[arg-type]
    views = [desk_views(CAMERA, settings.baseline_m, settings.projector_offset_m, seed) for seed in (0, 3)]
    left, right, shadows = ([view[side] for view in views] for side in range(3))
    return sensor.measure_batch(left, right, [10, 11], shadows)  # type: ignore[arg-type]


@pytest.mark.parametrize("purpose", ["train", "evaluation"])
def test_numpy_and_torch_are_the_same_camera(torch_arrays, purpose: str) -> None:  # type: ignore[no-untyped-def]
    """The stated tolerance: images differ in at most 1 pixel of 1000, by one grey level; depth likewise by one step."""
    for a, b in zip(_frames("numpy", purpose), _frames("torch", purpose), strict=True):
        for name in ("left", "right"):
            change = np.abs(getattr(a, name).astype(int) - getattr(b, name))
            assert change.max() <= 1
            assert (change > 0).mean() <= 0.001
        holes = np.isnan(a.disparity), np.isnan(b.disparity)
        assert 0.02 < holes[0].mean() < 0.8
        assert (holes[0] == holes[1]).mean() >= 0.998
        both = ~holes[0] & ~holes[1]
        difference = np.abs(a.disparity - b.disparity)[both]
        assert (difference <= 1 / 32).mean() >= 0.999
        assert (difference == 0).mean() >= 0.99


def test_a_batch_is_its_frames() -> None:
    settings = load_ranges("evaluation").middle()
    together = _frames("numpy", "evaluation")
    sensor = StereoSensor(CAMERA, settings, 1)
    for seed, scene, frame in ((10, 0, together[0]), (11, 3, together[1])):
        left, right, shadow = desk_views(CAMERA, settings.baseline_m, settings.projector_offset_m, scene)
        alone = sensor.measure(left, right, seed, shadow)
        assert alone.depth.tobytes() == frame.depth.tobytes()
        assert alone.left.tobytes() == frame.left.tobytes()


def test_unknown_back_ends_are_refused() -> None:
    with pytest.raises(ConfigError, match="numpy or torch"):
        make_arrays("cupy")
    with pytest.raises(ConfigError, match="CPU only"):
        make_arrays("numpy", "cuda")


def test_the_benchmark_runs_without_opencv_and_numba_on_torch() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('cv2', 'numba', 'mujoco', 'yaml')));"
        "from realdiff_sim_bridge.stereo import bench; from realdiff_core.camera import CameraModel;"
        "bench.CAMERA = CameraModel(width=160, height=90, fx=80, fy=80, cx=79.5, cy=44.5);"
        "bench.run(['--device', 'cpu', '--frames', '2', '--batch', '2'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "frames/s" in done.stdout
