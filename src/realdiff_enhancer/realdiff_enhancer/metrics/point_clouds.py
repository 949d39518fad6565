"""Chamfer distance, F-score and voxel mIoU between a generated and the real depth image of one frame.

Definitions (the published ones): both depth images are back-projected with the same K; one affine map takes the
reference's bounding box to the unit cube (ours: one scale for all three axes, so that distances stay Euclidean);
100 000 seeded points of each cloud are compared. CD_L2 = (mean d₁² + mean d₂²)·1000; F = 2PR/(P+R) at τ = 0.01, 0 where
P = R = 0; voxel IoU at an edge of 1/128, mIoU = mean over frames.

They compare one sample with one real frame. A noiseless input can win over a realistic sample, because two draws of the
same noise differ by √2 σ while clean and real differ by σ only: read them together with the other metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import DepthError

from realdiff_enhancer.metrics.frames import Measurement

SAMPLE_POINTS = 100_000
F_SCORE_TAU = 0.01
VOXELS_PER_SIDE = 128


@dataclass(frozen=True)
class CloudScores:
    """Scores of one frame.

    Attributes:
        chamfer_l2: CD_L2 in thousandths of the squared side of the unit cube.
        f_score: in [0, 1].
        voxel_iou: in [0, 1].
    """

    chamfer_l2: float
    f_score: float
    voxel_iou: float


def compare_clouds(sample: NDArray[np.floating], reference: NDArray[np.floating]) -> CloudScores:
    """Compare two point clouds after the affine map from the reference to the unit cube.

    Args:
        sample: [N, 3], metres.
        reference: [M, 3], metres.

    Returns:
        The scores.

    Raises:
        DepthError: a cloud is empty, or the reference is a single point.
    """
    from scipy.spatial import cKDTree

    if len(sample) == 0 or len(reference) == 0:
        raise DepthError("point cloud is empty: the depth image has no valid pixel")
    low = reference.min(axis=0)
    scale = float((reference.max(axis=0) - low).max())
    if scale <= 0:
        raise DepthError("reference cloud is a single point and spans no cube")
    a = (np.asarray(sample, dtype=np.float64) - low) / scale
    b = (np.asarray(reference, dtype=np.float64) - low) / scale
    to_reference = cKDTree(b, balanced_tree=False).query(a)[0]
    to_sample = cKDTree(a, balanced_tree=False).query(b)[0]
    precision, recall = float((to_reference < F_SCORE_TAU).mean()), float((to_sample < F_SCORE_TAU).mean())
    f_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    chamfer = 1000 * float((to_reference**2).mean() + (to_sample**2).mean())
    return CloudScores(chamfer, f_score, _voxel_iou(a, b))


def _voxel_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the IoU of the occupied voxels; a sample's voxels outside the unit cube count in the union."""

    def occupied(points: NDArray[np.float64]) -> NDArray[np.int64]:
        # The cube's far faces belong to its last voxels, not to a layer of their own.
        index = np.floor(points * VOXELS_PER_SIDE).astype(np.int64)
        index[points == 1.0] = VOXELS_PER_SIDE - 1
        offset, base = 1 << 20, 1 << 21
        index = np.clip(index, -offset, offset - 1) + offset
        return np.unique((index[:, 0] * base + index[:, 1]) * base + index[:, 2])

    first, second = occupied(a), occupied(b)
    shared = np.intersect1d(first, second, assume_unique=True).size
    return shared / (first.size + second.size - shared)


def sampled_cloud(measurement: Measurement, seed: int, points: int = SAMPLE_POINTS) -> NDArray[np.float32]:
    """Back-project a depth image and keep a seeded choice of its points.

    The choice is made by one random order of the image's pixels, so two depth images with (nearly) the same valid
    pixels yield (nearly) the same pixels, and a cloud compared with itself scores CD 0.

    Args:
        measurement: the frame; only pixels with a known clean depth take part.
        seed: the same seed gives the same order.
        points: at most this many points.

    Returns:
        float32 [N, 3], metres, camera optical frame.
    """
    cloud = np.asarray(measurement.context.camera.back_project(measurement.depth), dtype=np.float32).reshape(-1, 3)
    order = np.random.default_rng(seed).permutation(len(cloud))
    chosen = order[measurement.valid.ravel()[order]][:points]
    return cloud[chosen]


def cloud_scores(generated: Measurement, real: Measurement, seed: int) -> CloudScores:
    """Compare a generated depth image with the real one of the same frame.

    Raises:
        DepthError: one of them has no valid pixel.
    """
    return compare_clouds(sampled_cloud(generated, seed), sampled_cloud(real, seed))
