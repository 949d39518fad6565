"""Counter-based random numbers: the same bits in NumPy and in torch, on any device, in any order.

A number is a hash of (frame seed, stream, pixel). Two 32-bit hashes give eight bytes; their sum is normally distributed
to within 0.15 of kurtosis (Irwin–Hall), and being a sum of integers it has the same bits everywhere.
The mixing function is Wellons' ``lowbias32`` (https://nullprogram.com/blog/2018/07/31/, public domain).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
STEP = 0x9E3779B9  # 2³² / golden ratio: neighbouring counters differ in many bits

NOISE_MEAN = 8 * 127.5
NOISE_SIGMA = float(np.sqrt(8 * (256**2 - 1) / 12))


def stream_words(seeds: NDArray[np.uint64], stream: int) -> NDArray[np.uint32]:
    """Two 32-bit words per seed, uint32 [B,2]: the keys of a stream."""
    states = [np.random.SeedSequence([int(seed), stream]).generate_state(2) for seed in seeds]
    return np.array(states, np.uint32)
