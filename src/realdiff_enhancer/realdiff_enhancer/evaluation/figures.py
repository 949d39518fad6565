"""Pictures of an evaluation: depth and residual of every model beside the camera's, and the curves of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.evaluation.runner import REAL, SceneResult, SourceResult
from realdiff_enhancer.evaluation.tables import MIN_FRAMES
from realdiff_enhancer.metrics.bins import CORRELATION_LAGS, DEPTH_BINS, EDGE_BINS
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.structure import SPECTRUM_BANDS

_UNKNOWN = "#ffffff"
_HOLE = "#1c1f24"
_REAL_COLOUR = "#111111"
#: Colours of the models, in order; readable in the common kinds of colour blindness (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")


def frames_figure(path: Path, result: SceneResult) -> None:
    """Draw rows clean, real, each model; per kept frame a depth and a residual column.

    Holes are dark, pixels without clean depth white. The residual's colour scale is ± three robust σ of the camera.

    Args:
        path: PNG to write.
        result: a scene.
    """
    from matplotlib.figure import Figure

    frames = sorted(result.contexts)
    real = result.sources[0]
    sigma = real.statistics.estimate(("sigma_robust_mm_away", "all")).value
    limit = max(1.0, float(np.ceil(3 * sigma)))
    rows = ["clean", *(source.name for source in result.sources)]
    aspect = result.scene.camera.height / result.scene.camera.width
    figure = Figure(figsize=(3.1 * 2 * len(frames) + 0.4, 3.1 * aspect * len(rows) + 1.0), layout="constrained")
    axes = figure.subplots(len(rows), 2 * len(frames), squeeze=False)
    residual_image: Any = None
    for column, index in enumerate(frames):
        context = result.contexts[index]
        known = context.clean[context.known]
        low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
        for row, name in enumerate(rows):
            depth = context.clean if name == "clean" else _source(result, name).depth[index]
            left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
            _draw_depth(left, depth, context, low, high)
            if name == "clean":
                right.axis("off")
            else:
                residual_image = _draw_residual(right, depth, context, limit)
            if column == 0:
                left.set_ylabel(name, fontsize=11, fontweight="bold" if name == REAL else "normal")
        number = result.scene.frames[index].number
        axes[0, 2 * column].set_title(f"frame {number}: depth {low:.2f}–{high:.2f} m", fontsize=9)
        axes[1, 2 * column + 1].set_title("minus clean", fontsize=9)
    bar = figure.colorbar(residual_image, ax=axes[1:, -1], shrink=0.6, pad=0.02)
    bar.set_label("depth − clean [mm]", fontsize=9)
    figure.suptitle(f"{result.scene.name}: dark = hole, white = clean depth unknown", fontsize=11)
    figure.savefig(path, dpi=110)


def curves_figure(path: Path, result: SceneResult) -> None:
    """Draw σ(z), holes by distance to an edge, spatial correlation and spectrum of the camera and every model.

    Args:
        path: PNG to write.
        result: a scene.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    sigma, holes, correlation, spectrum = figure.subplots(1, 4)
    depth_bins = [
        b
        for b in DEPTH_BINS
        if result.sources[0].statistics.estimate(("sigma_robust_mm_away", b.label)).frames >= MIN_FRAMES
    ]
    panels: tuple[tuple[Any, str, list[str], list[float], str, str, float], ...] = (
        (
            sigma,
            "sigma_robust_mm_away",
            [b.label for b in depth_bins],
            [(b.low + b.high) / 2 for b in depth_bins],
            "depth [m]",
            "robust σ away from edges [mm]",
            1.0,
        ),
        (
            holes,
            "hole_rate_by_edge_pct",
            [b.label for b in EDGE_BINS],
            [float(i) for i in range(len(EDGE_BINS))],
            "distance to a depth edge [px]",
            "holes [%]",
            1.0,
        ),
        (
            correlation,
            "correlation_rows",
            [str(lag) for lag in CORRELATION_LAGS],
            [float(lag) for lag in CORRELATION_LAGS],
            "lag along rows [px]",
            "correlation of the residual",
            1.0,
        ),
        (
            spectrum,
            "spectrum_px2",
            [label for label, _, _ in SPECTRUM_BANDS],
            [float(np.sqrt(low * high)) for _, low, high in SPECTRUM_BANDS],
            "wavelength [px]",
            "variance per octave [px²]",
            1.0,
        ),
    )
    for axis, name, bins, positions, x_label, y_label, factor in panels:
        for number, source in enumerate(result.sources):
            _curve(axis, source, name, bins, positions, factor, number)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    holes.set_xticks(range(len(EDGE_BINS)), [b.label for b in EDGE_BINS])
    # A logarithmic axis fails without anything positive on it (no flat region large enough; a model without holes).
    for axis in (correlation, spectrum):
        if _positive(axis, "get_xdata"):
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
    if _positive(spectrum, "get_ydata"):
        spectrum.set_yscale("log")
    sigma.set_ylim(bottom=0)
    handles, labels = sigma.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), len(_COLOURS)), frameon=False)
    figure.savefig(path, dpi=110)


def source_colour(name: str, number: int) -> str:
    """Colour of a source: the camera's is black; models take theirs by their number, from 1."""
    return _REAL_COLOUR if name == REAL else _COLOURS[(number - 1) % len(_COLOURS)]


def _positive(axis: Any, getter: str) -> bool:
    return any(np.any(getattr(line, getter)() > 0) for line in axis.lines)


def _source(result: SceneResult, name: str) -> SourceResult:
    return next(source for source in result.sources if source.name == name)


def _curve(
    axis: Any, source: SourceResult, name: str, bins: list[str], positions: list[float], factor: float, number: int
) -> None:
    measured = [
        (position, source.statistics.estimate((name, label))) for position, label in zip(positions, bins, strict=True)
    ]
    positions = [position for position, estimate in measured if estimate.frames]
    estimates = [estimate for _, estimate in measured if estimate.frames]
    value = factor * np.array([estimate.value for estimate in estimates])
    low = factor * np.array([estimate.low for estimate in estimates])
    high = factor * np.array([estimate.high for estimate in estimates])
    real = source.name == REAL
    colour = source_colour(source.name, number)
    axis.plot(
        positions,
        value,
        "o-" if number <= len(_COLOURS) else "s--",  # the colours come again
        color=colour,
        label=source.name,
        linewidth=2.2 if real else 1.4,
        markersize=4,
        zorder=3 if real else 2,
    )
    axis.fill_between(positions, low, high, color=colour, alpha=0.12, linewidth=0)


def _backdrop(depth: NDArray[np.float32], context: CleanContext) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    image = np.empty((*depth.shape, 3))
    image[:] = to_rgb(_UNKNOWN)
    image[context.known & ~np.isfinite(depth)] = to_rgb(_HOLE)
    return image


def _draw_depth(axis: Any, depth: NDArray[np.float32], context: CleanContext, low: float, high: float) -> None:
    axis.imshow(_backdrop(depth, context), interpolation="nearest")
    shown = np.where(context.known, depth, np.nan)
    axis.imshow(shown, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _draw_residual(axis: Any, depth: NDArray[np.float32], context: CleanContext, limit: float) -> Any:
    measurement = Measurement(context, depth)
    axis.imshow(_backdrop(depth, context), interpolation="nearest")
    shown = np.where(measurement.valid, 1e3 * measurement.residual, np.nan)
    image = axis.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    return image
