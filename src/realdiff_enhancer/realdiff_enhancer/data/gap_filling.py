"""Clean depth in the shadows that no view of a window sees.

A stereo camera is blind beside foreground edges, and a camera that moves little is blind there in every view, so the
fused surface has a gap exactly where the sensor has its typical holes; without those pixels a model would never learn
them. What lies in such a gap is the background going on, so it is continued from the background side. Only pixels that
the sensor left empty are filled: nothing filled is ever compared with a measurement.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SLOPE_PX = 8
_MAX_SLOPE = 0.05


def fill_gaps(
    clean_m: npt.NDArray[np.floating],
    noisy_m: npt.NDArray[np.floating],
    factor: float,
    *,
    max_gap_px: int,
    step_px: float,
) -> npt.NDArray[np.float32]:
    """Fill unknown runs of a row, up to ``max_gap_px`` long and known at both ends, where the sensor measured nothing.

    Args:
        clean_m: [H,W], m, NaN = unknown.
        noisy_m: [H,W], m, NaN = hole.
        factor: fx·baseline, px·m.
        max_gap_px: longest run that is filled; 0 fills nothing.
        step_px: ends whose disparities differ by less belong to one surface: interpolated. Else the farther surface is
            continued with its own slope.

    Returns:
        float32 [H,W], m, NaN = unknown.
    """
    height, width = clean_m.shape
    known = np.isfinite(clean_m)
    columns = np.broadcast_to(np.arange(width), (height, width))
    left = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    inside = ~known & ~np.isfinite(noisy_m) & (left >= 0) & (right < width) & (right - left - 1 <= max_gap_px)
    rows, cols = np.nonzero(inside)
    a, b = left[rows, cols], right[rows, cols]
    disparity = np.where(known, factor / np.where(known, clean_m, 1.0), np.nan)
    da, db = disparity[rows, a], disparity[rows, b]
    between = (da * (b - cols) + db * (cols - a)) / (b - a)
    from_left = da + _slope(disparity, rows, a, -1) * (cols - a)
    from_right = db + _slope(disparity, rows, b, 1) * (cols - b)
    behind = np.where(da < db, np.minimum(from_left, db), np.minimum(from_right, da))
    filled = np.where(np.abs(da - db) < step_px, between, behind)
    out = clean_m.astype(np.float32)
    good = filled > 0
    out[rows[good], cols[good]] = factor / filled[good]
    return out


def _slope(
    disparity: npt.NDArray[np.floating], rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], side: int
) -> npt.NDArray[np.float64]:
    """Slope along the row, px per px, of the surface ending at ``cols`` that lies on ``side``; 0 where unclear."""
    other = np.clip(cols + side * _SLOPE_PX, 0, disparity.shape[1] - 1)
    span = np.where(other == cols, 1, other - cols)
    slope = (disparity[rows, other] - disparity[rows, cols]) / span
    return np.where(np.abs(slope) <= _MAX_SLOPE, slope, 0.0)
