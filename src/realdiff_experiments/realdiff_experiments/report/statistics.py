"""Hole rate and σ(z) of depth, as the report shows them beside a real camera's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_enhancer.metrics.bins import DEPTH_BINS, EDGE_BINS
from realdiff_enhancer.metrics.bootstrap import Estimate, aggregate, block_counts
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.holes import hole_statistics
from realdiff_enhancer.metrics.residual import residual_statistics

DEPTH_LABELS = tuple(b.label for b in DEPTH_BINS)
EDGE_LABELS = tuple(b.label for b in EDGE_BINS)


@dataclass(frozen=True)
class DepthStatistics:
    """What one source of depth looks like in numbers.

    Attributes:
        name: for legends, such as "enhanced".
        source: where the numbers come from, one sentence.
        sigma_mm: robust σ away from edges by depth bin (labels in metres), millimetres; bins without data are absent.
        holes_by_edge_pct: hole rate by distance to a depth edge (labels in pixels), per cent.
        hole_rate_pct: overall hole rate, per cent; None where unknown.
    """

    name: str
    source: str
    sigma_mm: Mapping[str, Estimate]
    holes_by_edge_pct: Mapping[str, Estimate]
    hole_rate_pct: Estimate | None = None


def measure(
    name: str,
    source: str,
    clean: Sequence[NDArray[np.float32]],
    measured: Sequence[NDArray[np.float32]],
    camera: CameraModel,
) -> DepthStatistics:
    """Measure frames against their clean depth; intervals are over frames.

    Args:
        name: for legends.
        source: where the frames come from.
        clean: float32 [H, W] per frame, metres, NaN where unknown.
        measured: float32 [H, W] per frame, metres, NaN in holes.
        camera: intrinsics with baseline.

    Returns:
        The statistics.
    """
    per_frame = []
    for clean_frame, measured_frame in zip(clean, measured, strict=True):
        measurement = Measurement(CleanContext(clean_frame, camera), measured_frame)
        per_frame.append({**residual_statistics(measurement), **hole_statistics(measurement)})
    result = aggregate(per_frame, block_counts(len(per_frame), 500, seed=0))

    def present(metric: str, labels: Sequence[str]) -> dict[str, Estimate]:
        return {label: result.estimate((metric, label)) for label in labels if (metric, label) in result.keys}

    return DepthStatistics(
        name,
        source,
        present("sigma_robust_mm_away", DEPTH_LABELS),
        present("hole_rate_by_edge_pct", EDGE_LABELS),
        result.estimate(("hole_rate_pct", "")),
    )
