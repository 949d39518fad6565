"""f·B of a depth stream, told by the steps of depth that was made on a known one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_training
from numpy.typing import NDArray
from realdiff_core.config import camera_profile
from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.data.stream_grid import stream_factor
from realdiff_enhancer.fitting_pairs import with_recorded_stream
from scipy.ndimage import gaussian_filter

DATA = Path(os.environ.get("REALDIFF_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
STEP_PX = 1 / 32


def recorded(factor: float, near_m: float, far_m: float, step_px: float = STEP_PX) -> list[NDArray[np.uint16]]:
    """Slanted walls under smooth noise of 0.1 px, rounded as a camera rounds, aligned to another grid, with holes."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(4):
        noise = gaussian_filter(rng.standard_normal((240, 320)), 3)
        disparity = factor / np.linspace(near_m, far_m, 320)[None] + 0.1 * noise / noise.std()
        if step_px:
            disparity = np.round(disparity / step_px) * step_px
        image = np.round(1e3 * factor / disparity).astype(np.uint16)
        image[rng.random(image.shape) < 0.1] = 0
        images.append(cv2.resize(image, (240, 180), interpolation=cv2.INTER_NEAREST))
    return images


@pytest.mark.parametrize("factor", [384 * 0.018, 384 * 0.05, 424 * 0.05, 640 * 0.05, 889 * 0.055, 640 * 0.095])
def test_the_steps_tell_the_stream(factor: float) -> None:
    assert stream_factor(recorded(factor, 1.1, 3.5), STEP_PX) == pytest.approx(factor, rel=0.005)


@pytest.mark.parametrize(
    ("near_m", "far_m", "step_px"),
    [(0.3, 0.9, STEP_PX), (1.1, 3.5, 0.0), (2.0, 2.02, STEP_PX)],
    ids=["too near", "steps blurred by a filter", "one wall"],
)
def test_where_they_do_not_nothing_is_said(near_m: float, far_m: float, step_px: float) -> None:
    assert stream_factor(recorded(32.0, near_m, far_m, step_px), STEP_PX) is None


def test_nothing_recorded_tells_nothing() -> None:
    assert stream_factor([np.zeros((4, 4), np.uint16)], STEP_PX) is None
    assert stream_factor(recorded(32.0, 1.1, 3.5), 0.0) is None


@pytest.mark.parametrize(("folder", "fx_px"), [("aims_d435/depth", 384), ("tron_d435/seq99/depth", 640)])
def test_real_cameras(folder: str, fx_px: float) -> None:
    path = DATA / folder
    if not path.is_dir():
        pytest.skip("no real frames: set REALDIFF_SHARED_DATA")
    images = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(path.glob("*.png"))[:30]]
    assert stream_factor(images, STEP_PX) == pytest.approx(fx_px * 0.05, rel=0.01)


def local_noise(image_mm: NDArray[np.uint16], near_m: float, far_m: float, window: int = 24) -> float:
    """Robust σ [1/m] of inverse depth around a quadratic surface: median over whole windows at that depth."""
    y, x = np.mgrid[:window, :window] / window - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    found = []
    for top in range(0, image_mm.shape[0] - window, window // 2):
        for left in range(0, image_mm.shape[1] - window, window // 2):
            depth = image_mm[top : top + window, left : left + window].ravel() / 1e3
            if depth.min() == 0 or not near_m <= np.median(depth) < far_m:
                continue
            rest = 1 / depth - terms @ np.linalg.lstsq(terms, 1 / depth, rcond=None)[0]
            sigma = 1.4826 * np.median(np.abs(rest))
            if np.abs(rest).max() < 8 * sigma:  # no edge
                found.append(sigma)
    return float(np.median(found))


def test_a_finer_stream_is_as_noisy_in_metres() -> None:
    """What `on_stream` assumes, on the real frames that shipped weights may learn from; px for px it would be 0.4."""
    coarse, fine = DATA / "aims_d435/depth", DATA / "pose_annotator/depth.png"
    if not (coarse.is_dir() and fine.is_file()):
        pytest.skip("no real frames: set REALDIFF_SHARED_DATA")
    image = cv2.imread(str(fine), cv2.IMREAD_UNCHANGED)
    # every millimetre occurs: steps of 1 mm at 1.25 m are those of f·B = 49 px·m at least, 2.5 times the other's 19
    assert set(range(1100, 1250)) <= set(image.ravel().tolist())
    files = sorted(coarse.glob("*.png"))[::10]
    for near_m, far_m in ((0.6, 0.8), (0.8, 1.0)):
        others = [local_noise(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), near_m, far_m) for file in files]
        assert 0.75 < local_noise(image, near_m, far_m) / float(np.nanmedian(others)) < 1.25


def test_a_fit_takes_the_stream_that_the_recording_tells(tmp_path: Path) -> None:
    tiny_training.make_pack(tmp_path / "pack.npz")
    noisy = np.array(recorded(640 * 0.05, 1.1, 3.5))[:, :96, :128].repeat(2, axis=0)[:5]
    pack = replace(PairPack.load(tmp_path / "pack.npz"), noisy_mm=noisy)
    d435, lines = camera_profile("d435"), list[str]()
    found = with_recorded_stream(d435, pack, 384.0, lines.append)
    assert found.noise["two_stage"]["stream_fx_px"] == pytest.approx(640, rel=0.005)
    assert "f = 640 px: the noise is learned on its grid" in lines[0]
    # what the profile names goes before, but not silently; and what is known already changes nothing
    named = d435.model_copy(update={"noise": {"two_stage": {"stream_fx_px": 424.0}}})
    assert with_recorded_stream(named, pack, 384.0, lines.append) is named
    assert "names 424 px, which is taken" in lines[1]
    for base, own in ((camera_profile("d435_720p"), 384.0), (d435, 640.0)):
        assert with_recorded_stream(base, pack, own, lines.append) is base
    assert len(lines) == 2


@pytest.mark.parametrize("factor", [None, 4.2, 90.0])
def test_no_stream_or_one_that_does_not_exist_leaves_the_profile_alone_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float | None
) -> None:
    tiny_training.make_pack(tmp_path / "pack.npz")
    pack, lines = PairPack.load(tmp_path / "pack.npz"), list[str]()
    monkeypatch.setattr("realdiff_enhancer.fitting_pairs.stream_factor", lambda images, step: factor)
    d435, named = camera_profile("d435"), camera_profile("d435_720p")
    assert with_recorded_stream(d435, pack, 384.0, lines.append) is d435
    assert "f = 384 px; another is named in the base profile" in lines[0]
    assert with_recorded_stream(named, pack, 384.0, lines.append) is named
    assert len(lines) == 1
