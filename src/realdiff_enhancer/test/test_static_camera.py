"""A camera at rest: fusion over time, a hand in the scene, a moving camera, and the noise's behaviour in time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import DepthError, RealdiffError
from realdiff_enhancer.commands.make_pairs import run
from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.sequence import SequenceOptions, read_sequence
from realdiff_enhancer.data.static_camera import fuse_static, make_static_pairs
from realdiff_enhancer.evaluation.pairs import load_scene, parse_scene
from realdiff_enhancer.metrics.temporal import temporal_statistics_of_clip

DATA = Path(os.environ.get("REALDIFF_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
SHAPE = (160, 200)
K = np.array([[200.0, 0, 100], [0, 200.0, 80], [0, 0, 1]])
BASELINE = 0.05
FACTOR = 200.0 * BASELINE


def _blurred(rng: np.random.Generator, sigma: float) -> np.ndarray:
    import cv2

    noise = cv2.GaussianBlur(rng.standard_normal(SHAPE), (0, 0), sigma)
    return noise / noise.std()


def scene() -> np.ndarray:
    """Disparity of a slanted table with a box on it."""
    y = np.mgrid[: SHAPE[0], : SHAPE[1]][0]
    disparity = 9.0 + 4.0 * y / SHAPE[0]
    disparity[50:90, 60:110] = 18.0
    return disparity


def clip(frames: int = 20, fixed_px: float = 0.1, jitter_px: float = 0.05, rho: float = 0.0) -> DepthSequence:
    """Fixed pattern + AR(1) jitter."""
    rng = np.random.default_rng(0)
    fixed = fixed_px * _blurred(rng, 4.0)
    state = _blurred(rng, 2.0)
    depths = []
    for _ in range(frames):
        state = rho * state + np.sqrt(1 - rho**2) * _blurred(rng, 2.0)
        depths.append((FACTOR / (scene() + fixed + jitter_px * state)).astype(np.float32))
    return DepthSequence(depths, list(range(frames)), K, BASELINE)


def test_fusion_takes_off_jitter_and_evens_planes() -> None:
    result = fuse_static(clip())
    truth = FACTOR / scene()
    error_px = FACTOR / result.clean_m - scene()
    assert result.flat.mean() > 0.4 and not result.moving.any()
    assert error_px[result.flat].std() < 0.05, "half of the fixed pattern's 0.1 px, or less"
    box = (slice(60, 80), slice(75, 95))
    np.testing.assert_allclose(result.clean_m[box], truth[box], rtol=0.03)


def test_a_hand_is_cut_out_of_its_frames_only() -> None:
    sequence = clip()
    depths = [depth.copy() for depth in sequence.depths_m]
    for index in (4, 5, 6):
        depths[index][10:45, 20 * index - 60 : 20 * index - 20] = 0.45
    pairs = list(make_static_pairs(replace(sequence, depths_m=depths)))
    with_hand = pairs[5]
    assert np.isnan(with_hand.clean_m[12:43, 42:78]).all()
    assert np.isfinite(pairs[0].clean_m[12:43, 42:78]).mean() > 0.95
    assert (
        abs(float(np.nanmedian(pairs[0].clean_m[15:40, 45:75])) - float(np.median(FACTOR / scene()[15:40, 45:75])))
        < 0.01
    )


def test_moving_camera_and_short_clips_are_refused() -> None:
    rng = np.random.default_rng(1)
    shifted = [(FACTOR / (scene() + 0.3 * i + 0.02 * _blurred(rng, 3))).astype(np.float32) for i in range(20)]
    with pytest.raises(DepthError, match="camera moves"):
        fuse_static(DepthSequence(shifted, list(range(20)), K, BASELINE))
    with pytest.raises(DepthError, match="too few"):
        fuse_static(clip(frames=1))


def test_pairs_of_a_folder_come_with_their_colour(tmp_path: Path) -> None:
    import cv2

    source = tmp_path / "bench"
    for name in ("depth", "color"):
        (source / name).mkdir(parents=True)
    for number, depth in enumerate(clip(frames=12).depths_m):
        cv2.imwrite(str(source / "depth" / f"{number}.png"), np.rint(1000 * depth).astype(np.uint16))
        cv2.imwrite(str(source / "color" / f"{number}.png"), np.full((*SHAPE, 3), 10 * number, np.uint8))
    np.savetxt(source / "K.txt", K)
    assert run([str(source), "-o", str(tmp_path / "pairs"), "--static", "--colour"]) == 0
    pairs = load_scene(parse_scene(str(tmp_path / "pairs"), "d435"))
    assert len(pairs.frames) > 6
    for index, frame in enumerate(pairs.frames):
        colour = pairs.colour(index)
        assert colour is not None and colour.shape == (*SHAPE, 3) and (colour == 10 * frame.number).all()
    (source / "color" / "3.png").write_bytes((source / "color" / "3.png").read_bytes()[:30])
    with pytest.raises(RealdiffError, match=r"3\.png"):
        run([str(source), "-o", str(tmp_path / "broken"), "--static", "--colour"])
    assert not (tmp_path / "broken").exists()
    assert run([str(source), "-o", str(tmp_path / "plain"), "--static"]) == 0
    assert not (tmp_path / "plain" / "colour").exists()


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_ar1_coefficient_is_recovered(rho: float) -> None:
    sequence = clip(frames=40, fixed_px=0.0, jitter_px=0.1, rho=rho)
    statistics = temporal_statistics_of_clip([FACTOR / depth for depth in sequence.depths_m])
    assert statistics.ar1(0.1) == pytest.approx(rho, abs=0.04)
    np.testing.assert_allclose(statistics.correlation(0.1)[:3], [rho, rho**2, rho**4], atol=0.06)


def test_fixed_pattern_counts_as_correlation() -> None:
    statistics = temporal_statistics_of_clip([FACTOR / d for d in clip(40, 0.1, 0.05).depths_m])
    total = np.hypot(0.1, 0.05)
    np.testing.assert_allclose(statistics.correlation(total), 0.1**2 / total**2, atol=0.05)
    assert statistics.jitter_px == pytest.approx(0.05, rel=0.1)
    with pytest.raises(DepthError, match="differ by more"):
        statistics.ar1(0.02)


def test_hole_rates_over_time() -> None:
    rng = np.random.default_rng(2)
    images = [np.ones(SHAPE) for _ in range(60)]
    hole = rng.random(SHAPE) < 0.2
    for image in images:
        hole = np.where(hole, rng.random(SHAPE) < 0.9, rng.random(SHAPE) < 0.02)
        image[hole] = np.nan
    statistics = temporal_statistics_of_clip(images)
    assert statistics.hole_persistence == pytest.approx(0.9, abs=0.01)
    assert statistics.hole_appearance == pytest.approx(0.02, abs=0.002)
    with pytest.raises(DepthError, match="more frames"):
        temporal_statistics_of_clip(images[:2])


@pytest.mark.skipif(not DATA.is_dir(), reason="no real frames: set REALDIFF_SHARED_DATA")
def test_real_cameras_at_rest_and_in_motion() -> None:
    still = read_sequence(DATA / "ovni_d415", SequenceOptions(baseline_m=0.055, last=29))
    result = fuse_static(still)
    assert result.moving.mean() < 0.02 and np.isfinite(result.clean_m).mean() > 0.7
    moving = read_sequence(DATA / "tron_d435" / "seq2480", SequenceOptions(baseline_m=0.05, every=3, limit=14))
    with pytest.raises(DepthError, match="camera moves"):
        fuse_static(moving)
