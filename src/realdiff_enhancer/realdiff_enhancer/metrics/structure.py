"""Structure of the residual: correlation in space and time, power spectrum.

All of it in disparity pixels, in which stereo noise is close to stationary over depth, and on
:attr:`~realdiff_enhancer.metrics.frames.Measurement.smooth` pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bins import CORRELATION_LAGS
from realdiff_enhancer.metrics.bootstrap import Key
from realdiff_enhancer.metrics.frames import Measurement

#: Side of the tiles from which the power spectrum is estimated, pixels.
SPECTRUM_TILE = 64
#: A tile takes part where at least this share of it is usable; the rest is filled with the tile's mean.
SPECTRUM_MIN_USABLE = 0.98
#: Octave bands of wavelength, pixels: (label, shortest, longest), each without its longest wavelength but the first.
SPECTRUM_BANDS = (
    ("32-64", 32.0, 64.0),
    ("16-32", 16.0, 32.0),
    ("8-16", 8.0, 16.0),
    ("4-8", 4.0, 8.0),
    ("2-4", 2.0, 4.0),
)
_MIN_PAIRS = 2000


def masked_correlation(first: NDArray[np.floating], second: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the Pearson correlation of two images over a mask, without removing means (the caller does that).

    Args:
        first: [H, W].
        second: [H, W].
        mask: pixels that count in both.

    Returns:
        Correlation in [-1, 1]; NaN where an image has no power.
    """
    a, b = first[mask].astype(np.float64), second[mask].astype(np.float64)
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / power) if power > 0 else float("nan")


def spatial_correlation(residual: NDArray[np.floating], mask: NDArray[np.bool_]) -> dict[Key, tuple[float, float]]:
    """Measure the correlation between a pixel and its neighbour at the lags of the tables.

    ``correlation_rows`` displaces along a row (horizontally), ``correlation_columns`` along a column. The mean over
    the mask is removed first. Weights are numbers of pixel pairs.

    Args:
        residual: [H, W], any unit.
        mask: usable pixels.

    Returns:
        Values and weights by (name, lag).
    """
    statistics: dict[Key, tuple[float, float]] = {}
    if not mask.any():
        return statistics
    centred = np.where(mask, residual - residual[mask].mean(dtype=np.float64), 0.0)
    for lag in CORRELATION_LAGS:
        shifts: dict[str, tuple[Any, Any]] = {
            "correlation_rows": (np.s_[:, lag:], np.s_[:, :-lag]),
            "correlation_columns": (np.s_[lag:], np.s_[:-lag]),
        }
        for name, (ahead, behind) in shifts.items():
            both = mask[ahead] & mask[behind]
            pairs = int(both.sum())
            if pairs >= _MIN_PAIRS:
                statistics[name, str(lag)] = masked_correlation(centred[ahead], centred[behind], both), float(pairs)
    return statistics


def power_spectrum(residual: NDArray[np.floating], mask: NDArray[np.bool_]) -> dict[Key, tuple[float, float]]:
    """Measure the residual's variance per octave band of wavelength (Welch's method on Hann-windowed tiles).

    The bands' variances add up to the tile variance (up to the corners of the frequency square beyond Nyquist, which
    go to the shortest band). ``spectrum_px2`` is isotropic; ``spectrum_row_share`` is the share of a band's power with
    its wave vector within 45° of the horizontal: 0.5 is isotropic, less means blobs stretched along the rows
    (the longest band tells little: the window blurs directions there).

    Args:
        residual: [H, W], disparity pixels.
        mask: usable pixels.

    Returns:
        Values and weights by (name, band); nothing where no tile is usable.
    """
    side = SPECTRUM_TILE
    window = np.outer(np.hanning(side), np.hanning(side))
    window /= np.sqrt((window**2).mean())
    power = np.zeros((side, side))
    tiles = 0
    height, width = residual.shape
    for top in range(0, height - side + 1, side // 2):
        for left in range(0, width - side + 1, side // 2):
            usable = mask[top : top + side, left : left + side]
            if usable.mean() < SPECTRUM_MIN_USABLE:
                continue
            tile = residual[top : top + side, left : left + side].astype(np.float64)
            tile = np.where(usable, tile - tile[usable].mean(), 0.0) * window
            power += np.abs(np.fft.fft2(tile)) ** 2
            tiles += 1
    if tiles == 0:
        return {}
    power /= tiles * side**4
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    frequency = np.hypot(fx, fy)
    # The diagonal belongs to both halves.
    horizontal = 0.5 * ((abs(fx) > abs(fy)).astype(float) + (abs(fx) >= abs(fy)))
    statistics: dict[Key, tuple[float, float]] = {}
    for label, shortest, longest in SPECTRUM_BANDS:
        upper = np.inf if shortest == 2.0 else 1 / shortest
        band = (frequency >= 1 / longest) & (frequency < upper)
        variance = float(power[band].sum())
        statistics["spectrum_px2", label] = variance, float(tiles)
        if variance > 0:
            share = float((power * horizontal)[band].sum()) / variance
            statistics["spectrum_row_share", label] = share, float(tiles)
    return statistics


def structure_statistics(measurement: Measurement) -> dict[Key, tuple[float, float]]:
    """Measure spatial correlation and power spectrum of one frame; see the two functions for the names."""
    residual, mask = measurement.residual_px, measurement.smooth
    return {**spatial_correlation(residual, mask), **power_spectrum(residual, mask)}


def temporal_statistics(earlier: Measurement, later: Measurement) -> dict[Key, tuple[float, float]]:
    """Measure how the residual and the holes of one frame carry over to a later one at the same pixel.

    Exact for a camera at rest. For a slowly moving one the surface has moved on below the pixel, so the numbers mix
    the sensor's persistence with the motion; real and generated depth suffer from it alike and can still be compared.

    Names: ``temporal_correlation`` (residual in disparity pixels, means removed), ``hole_persistence_pct``
    (P(hole later | hole earlier)), ``hole_appearance_pct`` (P(hole later | valid earlier)).

    Args:
        earlier: the first frame.
        later: the second frame.

    Returns:
        Values and weights by (name, "").
    """
    statistics: dict[Key, tuple[float, float]] = {}
    both = earlier.smooth & later.smooth
    count = int(both.sum())
    if count >= _MIN_PAIRS:
        first = earlier.residual_px - earlier.residual_px[both].mean(dtype=np.float64)
        second = later.residual_px - later.residual_px[both].mean(dtype=np.float64)
        statistics["temporal_correlation", ""] = masked_correlation(first, second, both), float(count)
    known = earlier.context.known & later.context.known
    hole, valid = known & earlier.hole, known & earlier.valid
    for name, condition in (("hole_persistence_pct", hole), ("hole_appearance_pct", valid)):
        pixels = int(condition.sum())
        if pixels:
            statistics[name, ""] = 100 * float(later.hole[condition].mean()), float(pixels)
    return statistics
