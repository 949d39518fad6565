"""Means over frames with 95 % intervals by a block bootstrap.

Neighbouring frames of a hand-held camera show almost the same surfaces, so they are not independent draws. Whole blocks
of consecutive frames are resampled, which widens the intervals accordingly. A scene remains one scene: an interval says
how far the frames of this scene determine the number, not how it varies over scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A statistic's name and the bin it belongs to ("" where it has none).
Key = tuple[str, str]
#: What one frame contributes to a statistic: its value and its weight (a number of pixels, or 1).
FrameStatistics = Mapping[Key, tuple[float, float]]

#: Consecutive frames that are resampled together.
BLOCK_FRAMES = 5


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: the estimate from all frames; NaN where no frame has data.
        low: 2.5 % quantile of the bootstrap replicates.
        high: 97.5 % quantile.
        frames: number of frames with data.
    """

    value: float
    low: float
    high: float
    frames: int


@dataclass(frozen=True)
class Replicates:
    """Estimates of several statistics and their bootstrap replicates.

    Attributes:
        keys: K statistics.
        value: float64 [K], from all frames.
        samples: float64 [B, K], one row per resample; rows of two models of a scene made with the same counts belong
            together, so differences may be taken row by row (paired bootstrap).
        frames: int [K], frames with data.
        weight: float64 [K], summed weights (numbers of pixels for most statistics).
    """

    keys: tuple[Key, ...]
    value: NDArray[np.float64]
    samples: NDArray[np.float64]
    frames: NDArray[np.int64]
    weight: NDArray[np.float64]

    def column(self, key: Key) -> tuple[float, NDArray[np.float64]]:
        """Return value and replicates [B] of one statistic; NaN where it was never measured."""
        if key not in self.keys:
            return float("nan"), np.full(len(self.samples), np.nan)
        index = self.keys.index(key)
        return float(self.value[index]), self.samples[:, index]

    def estimate(self, key: Key) -> Estimate:
        """Return one statistic with its interval."""
        value, samples = self.column(key)
        frames = int(self.frames[self.keys.index(key)]) if key in self.keys else 0
        return Estimate(value, *interval(samples), frames)

    def total_weight(self, key: Key) -> float:
        """Return the summed weight of one statistic; 0 where it was never measured."""
        return float(self.weight[self.keys.index(key)]) if key in self.keys else 0.0

    def names(self) -> list[str]:
        """Return the distinct statistic names in order of first appearance."""
        return list(dict.fromkeys(name for name, _ in self.keys))


def interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Return the central 95 % interval of replicates [B], ignoring NaN; NaN, NaN where nothing is left."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def block_counts(frames: int, resamples: int, seed: int, block: int = BLOCK_FRAMES) -> NDArray[np.int64]:
    """Draw how often each frame occurs in each resample (circular block bootstrap).

    Args:
        frames: number of frames F, in temporal order.
        resamples: number of resamples B.
        seed: the same seed gives the same counts.
        block: consecutive frames drawn together; cut to a quarter of F so that short clips still vary.

    Returns:
        int64 [B, F]; each row sums to F.
    """
    block = max(1, min(block, frames // 4))
    blocks = -(-frames // block)
    starts = np.random.default_rng(seed).integers(0, frames, size=(resamples, blocks))
    indices = (starts[:, :, None] + np.arange(block)) % frames
    indices = indices.reshape(resamples, -1)[:, :frames]
    counts = np.zeros((resamples, frames), dtype=np.int64)
    np.add.at(counts, (np.arange(resamples)[:, None], indices), 1)
    return counts


def aggregate(per_frame: Sequence[FrameStatistics], counts: NDArray[np.int64]) -> Replicates:
    """Average frame statistics with their weights and bootstrap the averages.

    Args:
        per_frame: F mappings; a frame that lacks a key (or has weight 0 or a NaN value) has no say in it.
        counts: int [B, F] from :func:`block_counts`.

    Returns:
        The averages and their replicates.
    """
    keys = tuple(dict.fromkeys(key for frame in per_frame for key in frame))
    values = np.zeros((len(per_frame), len(keys)))
    weights = np.zeros_like(values)
    for row, frame in enumerate(per_frame):
        for column, key in enumerate(keys):
            value, weight = frame.get(key, (0.0, 0.0))
            if weight > 0 and np.isfinite(value):
                values[row, column], weights[row, column] = value, weight
    weighted = values * weights
    with np.errstate(invalid="ignore", divide="ignore"):
        value = weighted.sum(0) / weights.sum(0)
        samples = (counts @ weighted) / (counts @ weights)
    return Replicates(keys, value, samples, (weights > 0).sum(0), weights.sum(0))
