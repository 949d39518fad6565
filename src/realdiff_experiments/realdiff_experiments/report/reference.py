"""Figures of real cameras for readers who have none at hand, measured with this project's own metrics.

The yardstick: recorded frames whose clean depth was fused from their neighbours, the measured frame left out
(docs/concepts/metrics.md says what such a yardstick can't see). Each set is one camera with one preset in one scene;
another unit, preset or material looks different. Whoever has frames of the own camera should measure those instead
(:func:`realdiff_experiments.report.statistics.measure`).
"""

from __future__ import annotations

from realdiff_enhancer.metrics.bootstrap import Estimate

from realdiff_experiments.report.statistics import DepthStatistics


def _series(frames: int, rows: dict[str, tuple[float, float, float]]) -> dict[str, Estimate]:
    return {label: Estimate(value, low, high, frames) for label, (value, low, high) in rows.items()}


REAL_D435 = DepthStatistics(
    name="real D435",
    source=(
        "RealSense D435, High Accuracy preset, desk at 0.5–1.25 m, 49 frames of github.com/tronphan/3D-Rendering "
        "(2019–2020). That preset rejects doubtful pixels: more holes and smaller errors than with the default one."
    ),
    sigma_mm=_series(
        49,
        {
            "0.4-0.6": (1.90, 1.63, 2.03),
            "0.6-0.8": (3.00, 2.86, 3.15),
            "0.8-1": (4.59, 4.14, 5.46),
            "1-1.25": (4.97, 4.87, 5.12),
        },
    ),
    holes_by_edge_pct=_series(
        49,
        {
            "0-1": (61.2, 55.3, 69.0),
            "1-2": (59.7, 54.7, 66.2),
            "3-5": (55.3, 52.6, 58.0),
            "8-12": (30.7, 26.4, 35.6),
            "20-40": (10.0, 8.6, 11.7),
            ">40": (5.1, 3.9, 6.9),
        },
    ),
    hole_rate_pct=Estimate(7.4, 5.6, 9.4, 49),
)

REAL_D415 = DepthStatistics(
    name="real D415",
    source=(
        "RealSense D415, metal cone on a wooden table at 0.4–0.7 m, 66 frames of github.com/antunsz/projeto-ovni "
        "(2021–2022)."
    ),
    sigma_mm=_series(66, {"0.2-0.4": (1.36, 0.74, 1.63), "0.4-0.6": (1.68, 1.53, 1.82), "0.6-0.8": (1.59, 1.46, 1.73)}),
    holes_by_edge_pct=_series(
        66,
        {
            "0-1": (54.7, 46.6, 63.3),
            "1-2": (53.7, 49.6, 58.6),
            "3-5": (41.5, 37.2, 45.6),
            "8-12": (14.6, 10.2, 19.4),
            "20-40": (3.2, 2.6, 3.7),
            ">40": (2.1, 1.9, 2.3),
        },
    ),
    hole_rate_pct=Estimate(2.4, 2.2, 2.7, 66),
)
