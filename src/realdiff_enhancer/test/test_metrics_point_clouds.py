"""Point cloud scores against brute force on tiny clouds and against values known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdiff_core.camera import CameraModel
from realdiff_core.errors import DepthError
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.point_clouds import cloud_scores, compare_clouds, sampled_cloud

CAMERA = CameraModel(width=80, height=60, fx=70.0, fy=70.0, cx=39.5, cy=29.5, baseline_m=0.05)


def brute_force(sample: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """All pairwise distances and explicit voxel sets, straight from the definitions."""
    low, high = reference.min(0), reference.max(0)
    scale = (high - low).max()
    a, b = (sample - low) / scale, (reference - low) / scale
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    d1, d2 = distances.min(1), distances.min(0)
    precision, recall = np.mean(d1 < 0.01), np.mean(d2 < 0.01)
    f_score = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)

    def voxels(points: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(127 if c == 1.0 else int(np.floor(c * 128)) for c in point) for point in points}

    first, second = voxels(a), voxels(b)
    return 1000 * (np.mean(d1**2) + np.mean(d2**2)), f_score, len(first & second) / len(first | second)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.sampled_from([0.0, 0.004, 0.3]))
def test_scores_agree_with_brute_force(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.uniform(-1, 1, (60, 3)) * [1.0, 0.5, 0.2]
    sample = np.concatenate([reference[:30] + shift, rng.uniform(-1.2, 1.2, (20, 3))])
    scores = compare_clouds(sample, reference)
    chamfer, f_score, iou = brute_force(sample, reference)
    assert scores.chamfer_l2 == pytest.approx(chamfer, rel=1e-9)
    assert scores.f_score == pytest.approx(f_score, rel=1e-9)
    assert scores.voxel_iou == pytest.approx(iou, rel=1e-9)


def test_a_shift_of_the_whole_cloud_by_half_of_tau() -> None:
    """A sparse cloud shifted by s along the longest side: every nearest neighbour is at s exactly."""
    reference = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 3), -1).reshape(-1, 3) * 2.0
    scores = compare_clouds(reference + np.array([0.01, 0, 0]), reference)
    assert scores.chamfer_l2 == pytest.approx(1000 * 2 * 0.005**2)
    assert scores.f_score == 1.0
    far = compare_clouds(reference + np.array([0.1, 0, 0]), reference)
    assert far.f_score == 0.0
    assert far.chamfer_l2 == pytest.approx(1000 * 2 * 0.05**2)


def frame(depth: np.ndarray) -> Measurement:
    clean = np.full((60, 80), 1.0, dtype=np.float32)
    clean[20:40, 30:50] = 0.8
    clean[:5] = np.nan
    return Measurement(CleanContext(clean, CAMERA), depth.astype(np.float32))


def test_a_frame_compared_with_itself_is_perfect_and_unknown_pixels_do_not_count() -> None:
    depth = np.full((60, 80), 1.01)
    depth[20:40, 30:50] = 0.81
    other = depth.copy()
    other[:5] = 7.0
    scores = cloud_scores(frame(other), frame(depth), seed=3)
    assert (scores.chamfer_l2, scores.f_score, scores.voxel_iou) == (0.0, 1.0, 1.0)


def test_the_sample_is_seeded_limited_and_without_repeats() -> None:
    measured = frame(np.random.default_rng(0).uniform(0.9, 1.1, (60, 80)))
    cloud = sampled_cloud(measured, seed=1, points=500)
    assert cloud.shape == (500, 3)
    assert len(np.unique(cloud, axis=0)) == 500
    np.testing.assert_array_equal(cloud, sampled_cloud(measured, seed=1, points=500))
    assert not np.array_equal(cloud, sampled_cloud(measured, seed=2, points=500))
    assert len(sampled_cloud(measured, seed=1)) == 55 * 80


def test_empty_and_degenerate_clouds_are_refused() -> None:
    point = np.zeros((1, 3))
    with pytest.raises(DepthError, match="empty"):
        compare_clouds(np.zeros((0, 3)), point)
    with pytest.raises(DepthError, match="single point"):
        compare_clouds(point, point)
