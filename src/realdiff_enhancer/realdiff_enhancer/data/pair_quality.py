"""How well a clean/noisy pair is registered, in px of disparity, and the gate that bad pairs do not pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

FloatArray = npt.NDArray[np.floating]

_LOW_FREQUENCY_PX = 41
_CLIP_PX = 1.5


class GateConfig(BaseModel):
    """Limits for a pair, in px of disparity where not said otherwise; and for places inside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma_px: float = Field(default=0.3, gt=0, description="largest robust σ of the residual away from edges")
    bias_px: float = Field(default=0.1, gt=0, description="largest median residual")
    low_frequency_px: float = Field(default=0.16, gt=0, description="largest robust σ of the residual's 41 px mean")
    outlier_px: float = Field(default=1.0, gt=0, description="residual, away from edges, that makes a pixel an outlier")
    outlier_share: float = Field(default=0.05, ge=0, le=1, description="largest share of outliers")
    coverage: float = Field(default=0.6, ge=0, le=1, description="smallest share of measured pixels with a clean depth")
    edge_margin_px: int = Field(
        default=6, ge=0, description="pixels this near to a clean depth edge do not count for the gate"
    )
    edge_px: float = Field(
        default=0.5, gt=0, description="step between neighbours of the clean depth that makes an edge"
    )
    local_bias_px: float = Field(default=0.45, gt=0, description="places whose mean residual is larger become unknown")
    local_size_px: int = Field(default=31, ge=3, description="size of such a place")


@dataclass(frozen=True)
class PairStatistics:
    """Figures of one pair; the first seven are the columns of pairs.csv.

    Attributes:
        z: median clean depth where both are known, m.
        bias_mm: median of noisy − clean away from edges, mm.
        sigma_mm: robust σ of the same, mm.
        lowfreq_mm: robust σ of its 41 px mean, mm.
        over3cm: share of those pixels off by more than 3 cm.
        coverage: share of the measured pixels in range whose clean depth is known.
        sigma_px: as sigma_mm, in px of disparity.
        bias_px: as bias_mm, in px of disparity (positive: measured nearer).
        lowfreq_px: as lowfreq_mm, in px of disparity.
        outliers: share of the pixels away from edges over the gate's outlier_px.
    """

    z: float
    bias_mm: float
    sigma_mm: float
    lowfreq_mm: float
    over3cm: float
    coverage: float
    sigma_px: float
    bias_px: float
    lowfreq_px: float
    outliers: float

    def failures(self, gate: GateConfig) -> list[str]:
        """Name every limit that is exceeded; empty if the pair passes."""
        checks = (
            ("sigma_px", self.sigma_px, gate.sigma_px),
            ("bias_px", abs(self.bias_px), gate.bias_px),
            ("low_frequency_px", self.lowfreq_px, gate.low_frequency_px),
            ("outlier_share", self.outliers, gate.outlier_share),
        )
        # "not <=" also catches NaN, the figure of a pair without common pixels.
        found = [f"{name} {value:.3f} > {limit:g}" for name, value, limit in checks if not value <= limit]
        if not self.coverage >= gate.coverage:
            found.append(f"coverage {self.coverage:.2f} < {gate.coverage:g}")
        return found


def edges(clean_m: FloatArray, factor: float, step_px: float) -> npt.NDArray[np.bool_]:
    """Pixels of a clean depth map next to a step in disparity or to unknown depth: bool [H,W]."""
    import cv2

    known = np.isfinite(clean_m)
    disparity = np.where(known, factor / np.where(known, clean_m, 1.0), 0.0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(disparity, kernel) - cv2.erode(disparity, kernel) > step_px)


def _box_mean(values: FloatArray, mask: npt.NDArray[np.bool_], size: int) -> tuple[FloatArray, FloatArray]:
    """Mean over a box of the masked values, and the mask's share of the box."""
    import cv2

    box = (size, size)
    share = cv2.boxFilter(mask.astype(np.float32), -1, box, borderType=cv2.BORDER_CONSTANT)
    total = cv2.boxFilter(np.where(mask, values, 0).astype(np.float32), -1, box, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total / np.maximum(share, 1e-6), np.float64), np.asarray(share, np.float64)


def _sigma(values: FloatArray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else float("nan")


def measure(
    clean_m: FloatArray, noisy_m: FloatArray, factor: float, range_m: tuple[float, float], gate: GateConfig
) -> PairStatistics:
    """Measure a pair.

    Args:
        clean_m: [H,W], m, NaN = unknown.
        noisy_m: [H,W], m, NaN = hole.
        factor: fx·baseline, px·m.
        range_m: depths between which a clean depth is to be expected.
        gate: definition of edges and outliers.
    """
    import cv2

    both = np.isfinite(clean_m) & np.isfinite(noisy_m)
    margin = 2 * gate.edge_margin_px + 1
    near_edge = (
        cv2.dilate(edges(clean_m, factor, gate.edge_px).astype(np.uint8), np.ones((margin, margin), np.uint8)) > 0
    )
    away = both & ~near_edge
    in_range = np.isfinite(noisy_m) & (noisy_m >= range_m[0]) & (noisy_m <= range_m[1])
    coverage = float((in_range & np.isfinite(clean_m)).sum() / max(int(in_range.sum()), 1))
    if int(away.sum()) < 1000:
        nan = float("nan")
        return PairStatistics(nan, nan, nan, nan, nan, coverage, nan, nan, nan, nan)
    metres = np.where(both, noisy_m - clean_m, 0.0)
    pixels = np.where(both, factor / np.where(both, noisy_m, 1.0) - factor / np.where(both, clean_m, 1.0), 0.0)
    core = away & (np.abs(pixels) < _CLIP_PX)
    slow_m, share = _box_mean(metres, core, _LOW_FREQUENCY_PX)
    slow_px, _ = _box_mean(pixels, core, _LOW_FREQUENCY_PX)
    full = core & (share > 0.5)
    return PairStatistics(
        z=float(np.median(clean_m[both])),
        bias_mm=float(np.median(metres[away])) * 1e3,
        sigma_mm=_sigma(metres[away]) * 1e3,
        lowfreq_mm=_sigma(slow_m[full]) * 1e3,
        over3cm=float(np.mean(np.abs(metres[away]) > 0.03)),
        coverage=coverage,
        sigma_px=_sigma(pixels[away]),
        bias_px=float(np.median(pixels[away])),
        lowfreq_px=_sigma(slow_px[full]),
        outliers=float(np.mean(np.abs(pixels[away]) > gate.outlier_px)),
    )


def drop_wrong_places(
    clean_m: FloatArray, noisy_m: FloatArray, factor: float, gate: GateConfig
) -> npt.NDArray[np.float32]:
    """Make places unknown where the clean depth is wrong over an area wider than the sensor's own errors.

    A thing that moved, or slipped in the registration, shows as a residual of one sign over tens of pixels; the
    sensor's errors change sign every 10 to 20 px.

    Returns:
        float32 [H,W], m, NaN = unknown.
    """
    import cv2

    both = np.isfinite(clean_m) & np.isfinite(noisy_m)
    pixels = np.where(both, factor / np.where(both, noisy_m, 1.0) - factor / np.where(both, clean_m, 1.0), 0.0)
    mean, share = _box_mean(np.clip(pixels, -_CLIP_PX, _CLIP_PX), both, gate.local_size_px)
    # Beside a hole the few measured pixels are edge fattening, the sensor's own: half the box must be measured.
    wrong = (np.abs(mean) > gate.local_bias_px) & (share > 0.5)
    size = gate.local_size_px // 2 + 1
    wrong = cv2.dilate((wrong & np.isfinite(clean_m)).astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    return np.where(wrong, np.nan, clean_m).astype(np.float32)
