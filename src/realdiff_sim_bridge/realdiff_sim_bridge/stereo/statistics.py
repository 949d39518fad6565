"""Statistics of clean/noisy depth pairs, the same for simulated and for real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

EDGE_BINS: tuple[tuple[float, float], ...] = ((0, 2), (3, 5), (8, 12), (20, 40), (40, 1e9))
DEPTH_BINS: tuple[tuple[float, float], ...] = (
    (0.4, 0.6),
    (0.6, 0.8),
    (0.8, 1.0),
    (1.0, 1.25),
    (1.25, 1.5),
    (1.5, 2.0),
    (2.0, 3.0),
)
LAGS: tuple[int, ...] = (1, 4, 8, 16, 32)


def edge_distance(clean: Float) -> Float:
    """Distance in pixels to the next depth edge (a jump of > 4 % + 15 mm between neighbours), float32 [H,W]."""
    filled = np.where(np.isfinite(clean), clean, 0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(filled, kernel) - cv2.erode(np.where(filled > 0, filled, 1e3).astype(np.float32), kernel)
    edge = (jump > 0.015 + 0.04 * filled) & (filled > 0)
    return np.asarray(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)


@dataclass
class PairStatistics:
    """Sums over many frames; see `summary`."""

    disparity_factor: float
    residuals: dict[tuple[float, float], list[Float]] = field(default_factory=dict)
    holes: dict[tuple[float, float], list[int]] = field(default_factory=dict)
    products: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    variance: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, clean: Float, noisy: Float) -> None:
        """Add a frame: float32 [H,W] metres, NaN unknown (clean) or hole (noisy); outside 0.3-3 m is left out."""
        known = np.isfinite(clean) & (clean > 0.3) & (clean < 3.0)
        # The band on the left that the right imager can't see isn't a property of surfaces.
        columns = np.arange(clean.shape[1])[None, :]
        known &= columns >= np.nan_to_num(self.disparity_factor / np.where(known, clean, np.nan), nan=1e9) + 8
        distance = edge_distance(clean)
        hole = ~np.isfinite(noisy)
        for edges in EDGE_BINS:
            inside = known & (distance >= edges[0]) & (distance < edges[1])
            counts = self.holes.setdefault(edges, [0, 0])
            counts[0] += int((inside & hole).sum())
            counts[1] += int(inside.sum())
        residual = (self.disparity_factor / noisy - self.disparity_factor / clean).astype(np.float32)
        calm = known & ~hole & (distance > 8) & (np.abs(residual) < 1.5)
        for limits in DEPTH_BINS:
            inside = calm & (clean >= limits[0]) & (clean < limits[1])
            self.residuals.setdefault(limits, []).append(residual[inside][::7])
        if calm.sum() < 1000:
            return
        centred = np.where(calm, residual - np.median(residual[calm]), 0).astype(np.float32)
        centred[np.abs(centred) > 0.6] = 0
        self.variance[0] += float(np.square(centred, dtype=np.float64).sum())
        self.variance[1] += float(calm.sum())
        for lag in LAGS:
            for name, a, b, ma, mb in (
                ("x", centred[:, lag:], centred[:, :-lag], calm[:, lag:], calm[:, :-lag]),
                ("y", centred[lag:], centred[:-lag], calm[lag:], calm[:-lag]),
            ):
                sums = self.products.setdefault((name, lag), [0.0, 0.0])
                sums[0] += float((a * b).sum(dtype=np.float64))
                sums[1] += float((ma & mb).sum())

    def summary(self) -> dict[str, dict[str, float]]:
        """Robust σ and bias (disparity px), correlation at `LAGS` along rows (x) and columns (y), holes by edge bin."""
        out: dict[str, dict[str, float]] = {"sigma_px": {}, "bias_px": {}, "correlation": {}, "holes": {}}
        for (low, high), parts in self.residuals.items():
            values = np.concatenate(parts)
            if len(values) > 500:
                median = float(np.median(values))
                out["sigma_px"][f"{low}-{high}"] = 1.4826 * float(np.median(np.abs(values - median)))
                out["bias_px"][f"{low}-{high}"] = median
        variance = self.variance[0] / max(self.variance[1], 1.0)
        for (axis, lag), (total, count) in self.products.items():
            out["correlation"][f"{axis}{lag}"] = total / max(count, 1.0) / max(variance, 1e-12)
        for (low, high), (holes, count) in self.holes.items():
            if count:
                out["holes"][f"{low:g}-{high:g}" if high < 1e8 else f">{low:g}"] = holes / count
        return out


def statistics_of(pairs: Iterable[tuple[Float, Float]], disparity_factor: float) -> dict[str, dict[str, float]]:
    """`PairStatistics.summary` of (clean, noisy) frames; `disparity_factor` = fx · baseline in px·m."""
    total = PairStatistics(disparity_factor)
    for clean, noisy in pairs:
        total.add(clean, noisy)
    return total.summary()
