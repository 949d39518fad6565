"""Holes: how many, where (distance to an edge, incidence), and how well they overlap with the real ones."""

from __future__ import annotations

import numpy as np

from realdiff_enhancer.metrics.bins import EDGE_BINS, INCIDENCE_BINS
from realdiff_enhancer.metrics.bootstrap import Key
from realdiff_enhancer.metrics.frames import Measurement


def hole_statistics(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    """Measure the hole rate overall, by distance to a clean-depth edge and by incidence (away from edges).

    Names: ``hole_rate_pct``, ``hole_rate_by_edge_pct``, ``hole_rate_by_incidence_pct``. Weights are numbers of known
    pixels.

    Args:
        measurement: the frame.

    Returns:
        Values and weights by (name, bin).
    """
    context = measurement.context
    statistics: dict[Key, tuple[float, float]] = {}
    known = int(context.known.sum())
    if known:
        statistics["hole_rate_pct", ""] = 100 * float(measurement.hole.sum()) / known, float(known)
    hole = measurement.hole[context.known]
    distance = context.edge_distance[context.known]
    for edge_bin in EDGE_BINS:
        inside = edge_bin.contains(distance)
        count = int(inside.sum())
        if count:
            statistics["hole_rate_by_edge_pct", edge_bin.label] = 100 * float(hole[inside].mean()), float(count)
    hole = measurement.hole[context.away_from_edges]
    cosine = context.cos_incidence[context.away_from_edges]
    for incidence_bin in INCIDENCE_BINS:
        inside = incidence_bin.contains(cosine)
        count = int(inside.sum())
        if count:
            rate = 100 * float(hole[inside].mean())
            statistics["hole_rate_by_incidence_pct", incidence_bin.label] = rate, float(count)
    return statistics


def hole_iou(real: Measurement, generated: Measurement) -> float:
    """Return the intersection over union of two hole masks of one frame; NaN where neither has a hole.

    Holes are partly random, so two exposures of a real camera do not reach 1 either.
    """
    union = int((real.hole | generated.hole).sum())
    if union == 0:
        return float("nan")
    return float(np.logical_and(real.hole, generated.hole).sum()) / union
