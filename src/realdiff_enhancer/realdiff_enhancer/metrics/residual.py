"""Size of the residual (measured minus clean depth): σ and bias by depth, shares of outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bins import DEPTH_BINS, EDGE_BINS, INCIDENCE_BINS, OUTLIER_LIMITS
from realdiff_enhancer.metrics.bootstrap import Key
from realdiff_enhancer.metrics.frames import Measurement

#: A frame has a say in a bin only with at least this many pixels there; fewer don't determine a σ.
MIN_PIXELS = 200


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Return 1.4826 · median absolute deviation: the σ of a Gaussian core, blind to outliers.

    Args:
        values: [N], any unit; NaN for an empty array.

    Returns:
        σ in the unit of ``values``.
    """
    if values.size == 0:
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def residual_statistics(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    """Measure σ and bias by depth, by incidence and by distance to an edge, and the shares of outliers.

    Names: ``sigma_robust_mm`` / ``sigma_plain_mm`` (about the frame's own median / mean), ``bias_median_mm`` /
    ``bias_mean_mm``, each with the suffix ``_away`` or ``_all`` and the depth bin (or "all" for every depth);
    ``sigma_robust_px`` / ``bias_median_px`` in pixels of disparity, suffix ``_by_edge`` (valid pixels by distance
    to an edge) or ``_by_incidence`` (away from edges, by cos(incidence)); ``outliers_2cm_pct`` / ``outliers_5cm_pct``
    overall and by distance to an edge. Weights are pixel counts.

    Args:
        measurement: the frame.

    Returns:
        Values and weights by (name, bin).
    """
    context = measurement.context
    statistics: dict[Key, tuple[float, float]] = {}
    regions = {"away": measurement.valid & context.away_from_edges, "all": measurement.valid}
    for region, mask in regions.items():
        depth = context.clean[mask]
        residual_mm = measurement.residual[mask].astype(np.float64) * 1e3
        selections = [("all", np.ones(depth.shape, dtype=bool))]
        selections += [(depth_bin.label, depth_bin.contains(depth)) for depth_bin in DEPTH_BINS]
        for label, selected in selections:
            values = residual_mm[selected]
            if values.size < MIN_PIXELS:
                continue
            weight = float(values.size)
            statistics["sigma_robust_mm_" + region, label] = robust_sigma(values), weight
            statistics["sigma_plain_mm_" + region, label] = float(values.std()), weight
            statistics["bias_median_mm_" + region, label] = float(np.median(values)), weight
            statistics["bias_mean_mm_" + region, label] = float(values.mean()), weight
    statistics.update(_by_place(measurement))
    statistics.update(_outliers(measurement))
    return statistics


def _by_place(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    """σ and bias of the disparity by distance to an edge, and away from edges by incidence."""
    context = measurement.context
    statistics: dict[Key, tuple[float, float]] = {}
    away = measurement.valid & context.away_from_edges
    for suffix, mask, quantity, bins in (
        ("_by_edge", measurement.valid, context.edge_distance, EDGE_BINS),
        ("_by_incidence", away, context.cos_incidence, INCIDENCE_BINS),
    ):
        residual, where = measurement.residual_px[mask].astype(np.float64), quantity[mask]
        for place in bins:
            values = residual[place.contains(where)]
            if values.size >= MIN_PIXELS:
                weight = float(values.size)
                statistics["sigma_robust_px" + suffix, place.label] = robust_sigma(values), weight
                statistics["bias_median_px" + suffix, place.label] = float(np.median(values)), weight
    return statistics


def _outliers(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    statistics: dict[Key, tuple[float, float]] = {}
    error = np.abs(measurement.residual[measurement.valid])
    distance = measurement.context.edge_distance[measurement.valid]
    for limit, label in OUTLIER_LIMITS:
        outlier = error > limit
        if outlier.size:
            statistics[f"outliers_{label}_pct", ""] = 100 * float(outlier.mean()), float(outlier.size)
        for edge_bin in EDGE_BINS:
            inside = edge_bin.contains(distance)
            count = int(inside.sum())
            if count:
                share = 100 * float(outlier[inside].mean())
                statistics[f"outliers_{label}_by_edge_pct", edge_bin.label] = share, float(count)
    return statistics
