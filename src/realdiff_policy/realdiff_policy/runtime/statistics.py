"""Figures of a running policy: how old observations are, how long inference takes, what was missed or refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

_KEPT = 1000


def percentiles(values: deque[float]) -> tuple[float, float]:
    """Median and 99th percentile; zeros where there are no values."""
    if not values:
        return 0.0, 0.0
    median, high = np.percentile(np.array(values), (50, 99))
    return float(median), float(high)


def _ring() -> deque[float]:
    return deque(maxlen=_KEPT)


@dataclass
class Statistics:
    """Counters since the last reset, and the last thousand durations.

    Attributes:
        observation_age_s: Age of the newest observation when inference starts.
        inference_s: Duration of one inference.
        end_to_end_s: From the observation's stamp to the moment at which its trajectory was accepted.
        join_velocity_jump: Largest jump of a joint's velocity at each join, as a share of its limit.
        chunks: Chunks that became motion.
        missed_deadlines: Inferences that ended after their chunk was due.
        rejected: Chunks that the gate refused.
        slowed: Chunks executed slower than the policy wanted, because of the limits.
        shortened: Chunks whose end was cut off, because it led outside the limits.
        holds: Times that the robot was held.
    """

    observation_age_s: deque[float] = field(default_factory=_ring)
    inference_s: deque[float] = field(default_factory=_ring)
    end_to_end_s: deque[float] = field(default_factory=_ring)
    join_velocity_jump: deque[float] = field(default_factory=_ring)
    chunks: int = 0
    missed_deadlines: int = 0
    rejected: int = 0
    slowed: int = 0
    shortened: int = 0
    holds: int = 0

    def summary(self) -> dict[str, float]:
        """All figures by name, durations in milliseconds; for diagnostics and trial records."""
        result: dict[str, float] = {}
        for name in ("observation_age_s", "inference_s", "end_to_end_s"):
            median, high = percentiles(getattr(self, name))
            stem = name.removesuffix("_s")
            result |= {f"{stem}_p50_ms": 1e3 * median, f"{stem}_p99_ms": 1e3 * high}
        result["join_velocity_jump_max_percent"] = 100.0 * max(self.join_velocity_jump, default=0.0)
        for name in ("chunks", "missed_deadlines", "rejected", "slowed", "shortened", "holds"):
            result[name] = getattr(self, name)
        return result
