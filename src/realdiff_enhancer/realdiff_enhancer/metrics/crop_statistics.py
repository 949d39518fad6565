"""The fixed, named statistics of a crop on which the weak two-sample classifier works."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.crops import CROP, grid_corners
from realdiff_enhancer.metrics.frames import Measurement

#: Blur widths whose differences give the octave bands, pixels.
_BLUR_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
#: Residuals beyond this are clipped before second moments, disparity pixels.
_CLIP_PX = 2.0
_FLOOR = 1e-6

#: Names of the statistics, in the order of the columns.
STATISTIC_NAMES = (
    "log_sigma_robust",
    "log_sigma_plain",
    "mean",
    "log_energy_below_1px",
    "log_energy_1_2px",
    "log_energy_2_4px",
    "log_energy_4_8px",
    "log_energy_8_16px",
    "log_gradient_energy_rows",
    "log_gradient_energy_columns",
    "hole_rate",
    "hole_border_density",
    "hole_rate_near_edges",
    "share_over_2cm",
    "share_over_5cm",
)


def crop_statistics(measurement: Measurement, crop: int = CROP) -> NDArray[np.float64]:
    """Compute the statistics of all grid crops of a frame.

    Residuals are in disparity pixels. Octave energies come from differences of normalised (masked) Gaussian blurs, so
    holes do not leak into them; gradients count only between two valid neighbours.

    Args:
        measurement: the frame.
        crop: side of a crop, pixels.

    Returns:
        float64 [N, len(STATISTIC_NAMES)], in the order of :func:`~realdiff_enhancer.metrics.crops.grid_corners`.
    """
    context, valid = measurement.context, measurement.valid
    residual = np.clip(measurement.residual_px, -_CLIP_PX, _CLIP_PX).astype(np.float32)
    bands = _octave_bands(residual, valid)
    rows_valid = valid[:, 1:] & valid[:, :-1]
    columns_valid = valid[1:] & valid[:-1]
    rows = np.where(rows_valid, np.diff(residual, axis=1), 0.0) ** 2
    columns = np.where(columns_valid, np.diff(residual, axis=0), 0.0) ** 2
    hole = measurement.hole
    border = np.zeros_like(hole)
    border[:, 1:] |= (hole[:, 1:] & valid[:, :-1]) | (valid[:, 1:] & hole[:, :-1])
    border[1:] |= (hole[1:] & valid[:-1]) | (valid[1:] & hole[:-1])
    near = context.known & (context.edge_distance <= 5)
    error = np.abs(measurement.residual)

    table = []
    for top, left in grid_corners(context.known, crop):
        window = np.s_[top : top + crop, left : left + crop]
        use, known = valid[window], max(int(context.known[window].sum()), 1)
        values = residual[window][use].astype(np.float64)
        count = max(values.size, 1)
        sigma = 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0
        row = [np.log(sigma + 1e-3), np.log((values.std() if values.size else 0.0) + 1e-3)]
        row.append(float(values.mean()) if values.size else 0.0)
        row += [np.log(float((band[window][use] ** 2).sum()) / count + _FLOOR) for band in bands]
        inner = (window[0], slice(left, left + crop - 1)), (slice(top, top + crop - 1), window[1])
        for energy, both, inside in ((rows, rows_valid, inner[0]), (columns, columns_valid, inner[1])):
            row.append(np.log(float(energy[inside].sum()) / max(int(both[inside].sum()), 1) + _FLOOR))
        row.append(float(hole[window].sum()) / known)
        row.append(float(border[window].sum()) / known)
        close = near[window]
        row.append(float(hole[window][close].mean()) if close.any() else 0.0)
        row += [float((error[window][use] > limit).sum()) / count for limit in (0.02, 0.05)]
        table.append(row)
    return np.array(table, dtype=np.float64).reshape(-1, len(STATISTIC_NAMES))


def _octave_bands(residual: NDArray[np.float32], valid: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    import cv2

    weight = valid.astype(np.float32)
    blurred = [residual]
    for sigma in _BLUR_SIGMAS:
        numerator = cv2.GaussianBlur(residual * weight, (0, 0), sigma)
        denominator = cv2.GaussianBlur(weight, (0, 0), sigma)
        blurred.append(np.asarray(numerator / np.maximum(denominator, 1e-3), dtype=np.float32))
    return [fine - coarse for fine, coarse in itertools.pairwise(blurred)]
