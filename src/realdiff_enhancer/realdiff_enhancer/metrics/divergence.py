"""How far the residual's distribution of a model is from the camera's: histograms, KL divergence, total variation.

Everything is conditional on the clean depth (bins of :data:`~realdiff_enhancer.metrics.bins.DEPTH_BINS`) and concerns
one pixel at a time: what the camera says about it, either a residual in pixels of disparity or "hole".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bins import DEPTH_BINS
from realdiff_enhancer.metrics.frames import Measurement

_LARGEST_PX = 16.0
_SCALE_PX = 0.05
#: Borders of the residual's bins, pixels of disparity: even steps of asinh(r / 0.05 px), open at both ends.
RESIDUAL_EDGES_PX = _SCALE_PX * np.sinh(np.linspace(-1, 1, 61) * np.arcsinh(_LARGEST_PX / _SCALE_PX))
#: Residual bins, the two open ends, and the hole.
OUTCOMES = len(RESIDUAL_EDGES_PX) + 1 + 1
#: Added to every count: an outcome that was never seen is rare, not impossible (KL would be infinite).
PSEUDO_COUNT = 0.5


def residual_histogram(measurement: Measurement) -> NDArray[np.float64]:
    """Count what a depth image says about its known pixels.

    Returns:
        float64 [depth bins, :data:`OUTCOMES`]; the last outcome is the hole.
    """
    context = measurement.context
    counts = np.zeros((len(DEPTH_BINS), OUTCOMES))
    for row, depth_bin in enumerate(DEPTH_BINS):
        inside = context.known & depth_bin.contains(context.clean)
        residual = measurement.residual_px[inside & measurement.valid]
        index = np.searchsorted(RESIDUAL_EDGES_PX, residual)
        counts[row, :-1] = np.bincount(index, minlength=OUTCOMES - 1)
        counts[row, -1] = (inside & measurement.hole).sum()
    return counts


@dataclass(frozen=True)
class Divergence:
    """Divergences between the camera's and a model's distribution of outcomes.

    Attributes:
        kl: KL(camera ‖ model) by depth bin, nats, float64 [B]; NaN where either has no pixel.
        tv: total variation by depth bin, in [0, 1], float64 [B].
        weight: share of the camera's pixels in each bin, float64 [B].
    """

    kl: NDArray[np.float64]
    tv: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def expected_tv(self) -> float:
        """Mean of the total variation over the clean depth: bounds that of the depth images' marginals (eq. 5)."""
        return float(np.nansum(self.tv * self.weight))

    @property
    def expected_kl(self) -> float:
        """Mean of the KL divergence over the clean depth, nats."""
        return float(np.nansum(self.kl * self.weight))

    @property
    def pinsker_bound(self) -> float:
        """√(½ · mean KL), at most 1: bounds the mean total variation (Pinsker and Jensen; eq. 6 and 7)."""
        return float(min(1.0, np.sqrt(0.5 * self.expected_kl)))


def divergence(real: NDArray[np.floating], generated: NDArray[np.floating]) -> Divergence:
    """Compare two tables of counts from :func:`residual_histogram` (sums over frames)."""
    present = (real.sum(1) > 0) & (generated.sum(1) > 0)
    p, q = (_probabilities(counts) for counts in (real, generated))
    nan = np.full(len(real), np.nan)
    kl = np.where(present, (p * np.log(p / q)).sum(1), nan)
    tv = np.where(present, 0.5 * np.abs(p - q).sum(1), nan)
    weight = np.where(present, real.sum(1), 0.0)
    return Divergence(kl, tv, weight / max(weight.sum(), 1.0))


def _probabilities(counts: NDArray[np.floating]) -> NDArray[np.float64]:
    raised = np.asarray(counts, np.float64) + PSEUDO_COUNT
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def depth_marginal_tv(real: NDArray[np.floating], generated: NDArray[np.floating]) -> float:
    """Total variation between the depth values of two sources, from counts by depth step [D] (the last is the hole)."""
    p, q = real / max(real.sum(), 1.0), generated / max(generated.sum(), 1.0)
    return float(0.5 * np.abs(p - q).sum())


def depth_counts(measurement: Measurement, step_m: float = 0.01, far_m: float = 5.0) -> NDArray[np.float64]:
    """Count the depth values of the known pixels in steps of 1 cm, float64 [D + 2]; far ones and holes at the end."""
    steps = round(far_m / step_m)
    index = np.minimum(measurement.depth[measurement.valid] / step_m, steps).astype(np.int64)
    return np.append(np.bincount(index, minlength=steps + 1), measurement.hole.sum()).astype(np.float64)
