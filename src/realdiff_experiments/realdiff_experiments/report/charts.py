"""Charts on white paper: σ over depth, holes over the distance to an edge."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from realdiff_enhancer.metrics.bins import DEPTH_BINS
from realdiff_enhancer.metrics.bootstrap import Estimate

from realdiff_experiments.report.html import Figure
from realdiff_experiments.report.statistics import EDGE_LABELS, DepthStatistics

_COLOURS = ("#9aa3ab", "#1f6fa8", "#c2410c", "#2f855a")
_MARKERS = ("s", "o", "D", "^")


def sigma_chart(sources: Sequence[DepthStatistics]) -> Figure:
    """Plot robust σ away from edges over depth, one line per source with its 95 % band."""
    middle = {b.label: (b.low + b.high) / 2 for b in DEPTH_BINS}
    data = _chart("depth [m]", "robust σ away from edges [mm]", sources, [s.sigma_mm for s in sources], middle)
    return Figure(data, "Noise over depth", "spread of depth − clean, away from depth edges", chart=True)


def holes_chart(sources: Sequence[DepthStatistics]) -> Figure:
    """Plot the hole rate over the distance to a depth edge, one line per source with its 95 % band."""
    position = {label: float(i) for i, label in enumerate(EDGE_LABELS)}
    values = [s.holes_by_edge_pct for s in sources]
    data = _chart("distance to a depth edge [px]", "holes [%]", sources, values, position, ticks=position)
    return Figure(data, "Holes over the distance to an edge", "share of pixels without depth", chart=True)


def _chart(
    x_label: str,
    y_label: str,
    sources: Sequence[DepthStatistics],
    values: Sequence[Mapping[str, Estimate]],
    positions: Mapping[str, float],
    ticks: Mapping[str, float] | None = None,
) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    with rc_context({"font.size": 10, "axes.edgecolor": "#5a6570", "axes.labelcolor": "#1b2026"}):
        canvas = Canvas(figsize=(6.2, 4.0), layout="constrained", facecolor="white")
        axis = canvas.subplots()
        for number, (source, by_bin) in enumerate(zip(sources, values, strict=True)):
            _line(axis, source.name, by_bin, positions, number)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.set_ylim(bottom=0)
        if ticks is not None:
            axis.set_xticks(list(ticks.values()), list(ticks))
        axis.grid(color="#dde2e6", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
        buffer = io.BytesIO()
        # No metadata: the same numbers give the same bytes.
        canvas.savefig(buffer, format="png", dpi=170, metadata={"Software": None})
    return buffer.getvalue()


def _line(axis: Any, name: str, by_bin: Mapping[str, Estimate], positions: Mapping[str, float], number: int) -> None:
    labels = [label for label in positions if label in by_bin]
    x = np.array([positions[label] for label in labels])
    value, low, high = (
        np.array([getattr(by_bin[label], part) for label in labels]) for part in ("value", "low", "high")
    )
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    axis.plot(x, value, marker=marker, color=colour, label=name, linewidth=2, markersize=5)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
