"""Everything that is measured on one frame, in one call."""

from __future__ import annotations

from realdiff_enhancer.metrics.bootstrap import Key
from realdiff_enhancer.metrics.frames import Measurement
from realdiff_enhancer.metrics.holes import hole_iou, hole_statistics
from realdiff_enhancer.metrics.point_clouds import cloud_scores
from realdiff_enhancer.metrics.residual import residual_statistics
from realdiff_enhancer.metrics.structure import structure_statistics


def own_statistics(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    """Measure what a depth image has by itself (against its clean depth): residual, holes, structure.

    Returns:
        Values and weights by (name, bin).
    """
    return {
        **residual_statistics(measurement),
        **hole_statistics(measurement),
        **structure_statistics(measurement),
    }


def paired_statistics(generated: Measurement, real: Measurement, seed: int) -> dict[Key, tuple[float, float]]:
    """Measure a generated depth image against the one real image of the same frame.

    Names: ``chamfer_l2``, ``f_score_pct``, ``voxel_miou_pct``, ``hole_iou_pct``; every frame weighs the same.
    A frame in which the model left no valid pixel has no point cloud and no such scores.

    Returns:
        Values and weights by (name, "").
    """
    holes = {("hole_iou_pct", ""): (100 * hole_iou(real, generated), 1.0)}
    if not generated.valid.any():
        return holes
    clouds = cloud_scores(generated, real, seed)
    return {
        ("chamfer_l2", ""): (clouds.chamfer_l2, 1.0),
        ("f_score_pct", ""): (100 * clouds.f_score, 1.0),
        ("voxel_miou_pct", ""): (100 * clouds.voxel_iou, 1.0),
        **holes,
    }
