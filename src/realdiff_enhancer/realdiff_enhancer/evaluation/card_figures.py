"""Pictures of the realism card, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from realdiff_enhancer.evaluation.card import CardData, noise_image
from realdiff_enhancer.metrics.bins import CORRELATION_LAGS, DEPTH_BINS
from realdiff_enhancer.metrics.structure import SPECTRUM_BANDS

#: The bag's colour and the reference's.
COLOURS = ("#0b6e99", "#d9730d")
_HOLE = "#20242b"


def pictures(data: CardData, noise_limit_px: float) -> bytes:
    """Draw rows of frames: depth (holes dark) and the noise on smooth surfaces.

    Args:
        data: a bag.
        noise_limit_px: end of the noise's colour scale.
    """
    from matplotlib.figure import Figure

    frames = sorted(data.probes)
    aspect = data.camera.height / data.camera.width
    figure = Figure(figsize=(3.6 * len(frames), 2 * 3.6 * aspect + 0.5), layout="constrained")
    axes = figure.subplots(2, len(frames), squeeze=False)
    colour: Any = None
    for column, index in enumerate(frames):
        probe = data.probes[index]
        depth = np.where(probe.valid, probe.depth, np.nan)
        low, high = np.nanpercentile(depth, (2, 98)) if probe.valid.any() else (0.0, 1.0)
        for axis in axes[:, column]:
            axis.set_facecolor(_HOLE)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        axes[0, column].imshow(depth, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        axes[0, column].set_title(f"frame {index} · {low:.2f}–{high:.2f} m", fontsize=9)
        axes[1, column].set_facecolor("#eceef1")
        colour = axes[1, column].imshow(
            noise_image(probe), cmap="RdBu_r", vmin=-noise_limit_px, vmax=noise_limit_px, interpolation="nearest"
        )
    axes[0, 0].set_ylabel("depth, holes dark", fontsize=9)
    axes[1, 0].set_ylabel("noise on smooth surfaces", fontsize=9)
    bar = figure.colorbar(colour, ax=axes[1, :], shrink=0.85, pad=0.01, aspect=12)
    bar.set_label("px of disparity", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return _png(figure)


def curves(bags: Sequence[CardData]) -> bytes:
    """Draw σ(z), spatial correlation, spectrum and the distribution of depth of one or two bags."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.3), layout="constrained")
    depth = [(b.label, (b.low + b.high) / 2) for b in DEPTH_BINS]
    lags = [(str(lag), float(lag)) for lag in CORRELATION_LAGS]
    bands = [(label, float(np.sqrt(low * high))) for label, low, high in SPECTRUM_BANDS]
    panels = (
        ("noise_mm", depth, "depth [m]", "σ on smooth surfaces [mm]"),
        ("correlation_rows", lags, "lag along rows [px]", "correlation of the noise"),
        ("spectrum_px2", bands, "wavelength [px]", "variance per octave [px²]"),
        ("depth_pct", depth, "depth [m]", "share of the pixels [%]"),
    )
    for axis, (name, bins, x_label, y_label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for data, colour in zip(bags, COLOURS, strict=False):
            points = [(x, data.statistics.estimate((name, label))) for label, x in bins]
            points = [(x, estimate) for x, estimate in points if np.isfinite(estimate.value)]
            x = [point[0] for point in points]
            axis.plot(x, [e.value for _, e in points], "o-", color=colour, label=data.name, linewidth=2, markersize=4)
            axis.fill_between(x, [e.low for _, e in points], [e.high for _, e in points], color=colour, alpha=0.15)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        drawn = np.concatenate([line.get_ydata() for line in axis.lines]) if axis.lines else np.zeros(0)
        if name in ("correlation_rows", "spectrum_px2") and drawn.size:
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
        if name == "spectrum_px2" and (drawn > 0).any():
            axis.set_yscale("log")
        if name in ("noise_mm", "depth_pct"):
            axis.set_ylim(bottom=0)
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
