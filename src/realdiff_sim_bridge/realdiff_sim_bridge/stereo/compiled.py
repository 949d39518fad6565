"""Loops of the NumPy back end that NumPy can't express, compiled by numba: census, semi-global matching, hashing.

The functions release the interpreter's lock; `semi_global` spreads an image over two threads of its own (numba's own
threads may not be entered from several Python threads).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from realdiff_sim_bridge.stereo.census import COST_MAX, PAIRS
from realdiff_sim_bridge.stereo.noise import MULTIPLIERS, STEP

_THREADS = 2
_ABOVE = 255 - 55  # stands for the missing neighbours at both ends of the disparities; the largest small penalty is 55
_OFFSETS = np.array(PAIRS, np.int64)
_REACH = int(np.abs(_OFFSETS).max())
_M1, _M2, _STEP = np.uint32(MULTIPLIERS[0]), np.uint32(MULTIPLIERS[1]), np.uint32(STEP)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="stereo")


_kept = threading.local()


def _volumes(shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Buffers for costs and their sums, kept for the thread's next frame: fresh memory takes time."""
    if getattr(_kept, "shape", None) != shape:
        _kept.shape, _kept.volumes = shape, (np.empty(shape, np.uint8), np.empty(shape, np.uint16))
    volumes: tuple[NDArray[np.uint8], NDArray[np.uint16]] = _kept.volumes
    return volumes


def _spread(function: Any, length: int, *arguments: Any) -> None:
    """Run ``function(start, stop, *arguments)`` on equal parts of a length."""
    bounds = [length * part // _THREADS for part in range(_THREADS + 1)]
    jobs = [_pool().submit(function, bounds[i], bounds[i + 1], *arguments) for i in range(_THREADS)]
    for job in jobs:
        job.result()


def semi_global(
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    disparities: int,
    threshold: int,
    penalties: tuple[int, int],
    uniqueness: int,
    agreement: int,
    disparity: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> None:
    """Match uint8 [H,W] images into `disparity` float32 [H,W] and `valid` bool [H,W]: see `matching`."""
    height, width = left.shape
    codes = np.empty((2, height, width), np.uint32)
    for image, code in zip((left, right), codes, strict=True):
        _spread(_census, height, np.pad(image, (_REACH, _REACH), "edge"), code, _OFFSETS, threshold)
    cost, total = _volumes((height, width, disparities))
    small, large = penalties
    _spread(_along_rows, height, codes[0], codes[1], cost, total, small, large)
    _spread(_along_columns, width, cost, total, small, large)
    _spread(_choose, height, total, uniqueness, agreement, disparity, valid)


@njit(nogil=True, cache=True)
def hashed_sums(first: Any, second: Any, out: Any) -> None:  # pragma: no cover
    """Sums of eight hashed bytes for counters 0…, float32 [N]."""
    for index in range(out.size):
        total = np.uint32(0)
        for key in (first, second):
            h = np.uint32(np.uint32(np.uint32(index) * _STEP) + key)
            h ^= h >> np.uint32(16)
            h = np.uint32(h * _M1)
            h ^= h >> np.uint32(15)
            h = np.uint32(h * _M2)
            h ^= h >> np.uint32(16)
            total += (h & np.uint32(255)) + ((h >> np.uint32(8)) & np.uint32(255))
            total += ((h >> np.uint32(16)) & np.uint32(255)) + (h >> np.uint32(24))
        out[index] = np.float32(total)


@njit(nogil=True, cache=True)
def _census(start: int, stop: int, padded: Any, codes: Any, offsets: Any, threshold: int) -> None:  # pragma: no cover
    width = codes.shape[1]
    for y in range(start, stop):
        codes[y] = 0
        for pair in range(len(offsets)):
            dy, dx = offsets[pair, 0], offsets[pair, 1]
            above = padded[_REACH + y - dy, _REACH - dx : _REACH - dx + width]
            below = padded[_REACH + y + dy, _REACH + dx : _REACH + dx + width]
            for x in range(width):
                brighter = np.int32(above[x]) > np.int32(below[x]) + threshold
                codes[y, x] = np.uint32(codes[y, x] << np.uint32(1)) | np.uint32(brighter)


@njit(nogil=True, cache=True)
def _bits(word: Any) -> Any:  # pragma: no cover
    word = word - ((word >> np.uint32(1)) & np.uint32(0x55555555))
    word = (word & np.uint32(0x33333333)) + ((word >> np.uint32(2)) & np.uint32(0x33333333))
    word = (word + (word >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
    return np.uint8(np.uint32(word * np.uint32(0x01010101)) >> np.uint32(24))


@njit(nogil=True, cache=True)
def _step(before: Any, after: Any, least: Any, cost: Any, small: Any, large: Any) -> Any:  # pragma: no cover
    """One pixel of one path; `before` and `after` hold a sentinel at either end. Returns the new least cost."""
    top = np.uint8(least + large)
    lowest = np.uint8(255)
    for d in range(cost.size):
        best = np.uint8(min(before[d], before[d + 2]) + small)
        best = min(best, before[d + 1])
        best = min(best, top)
        best = np.uint8(np.uint8(best - least) + cost[d])
        after[d + 1] = best
        lowest = min(lowest, best)
    return lowest


@njit(nogil=True, cache=True)
def _along_rows(
    start: int, stop: int, left: Any, right: Any, cost: Any, total: Any, small: int, large: int
) -> None:  # pragma: no cover
    """Matching cost of rows start…stop, and both paths along them: writes `cost` and `total`."""
    width, disparities = cost.shape[1], cost.shape[2]
    before = np.full(disparities + 2, _ABOVE, np.uint8)
    after = before.copy()
    p1, p2 = np.uint8(small), np.uint8(large)
    for y in range(start, stop):
        for x in range(width):
            inside = min(disparities, x + 1)
            for d in range(inside):
                cost[y, x, d] = _bits(left[y, x] ^ right[y, x - d])
            for d in range(inside, disparities):
                cost[y, x, d] = np.uint8(COST_MAX)
        for backwards in range(2):
            before[1:-1] = 0
            least = np.uint8(0)
            for k in range(width):
                x = width - 1 - k if backwards else k
                least = _step(before, after, least, cost[y, x], p1, p2)
                into = total[y, x]
                if backwards:
                    for d in range(disparities):
                        into[d] += after[d + 1]
                else:
                    for d in range(disparities):
                        into[d] = after[d + 1]
                before, after = after, before


@njit(nogil=True, cache=True)
def _along_columns(start: int, stop: int, cost: Any, total: Any, small: int, large: int) -> None:  # pragma: no cover
    """Both paths along columns start…stop: adds to `total`."""
    height, _, disparities = cost.shape
    before = np.full((stop - start, disparities + 2), _ABOVE, np.uint8)
    after = before.copy()
    least = np.zeros(stop - start, np.uint8)
    p1, p2 = np.uint8(small), np.uint8(large)
    for backwards in range(2):
        before[:, 1:-1] = 0
        least[:] = 0
        for k in range(height):
            y = height - 1 - k if backwards else k
            for i in range(stop - start):
                least[i] = _step(before[i], after[i], least[i], cost[y, start + i], p1, p2)
                into = total[y, start + i]
                for d in range(disparities):
                    into[d] += after[i, d + 1]
            before, after = after, before


@njit(nogil=True, cache=True)
def _choose(
    start: int, stop: int, total: Any, uniqueness: int, agreement: int, disparity: Any, valid: Any
) -> None:  # pragma: no cover
    """Lowest sum per pixel, its fraction, uniqueness and left-right agreement."""
    width, disparities = total.shape[1], total.shape[2]
    chosen = np.empty(width, np.int64)
    for y in range(start, stop):
        for x in range(width):
            sums = total[y, x]
            low = sums[0]
            for d in range(1, disparities):
                low = min(low, sums[d])
            best = 0
            while sums[best] != low:
                best += 1
            second = np.int64(65535)
            for d in range(best - 1):
                second = min(second, np.int64(sums[d]))
            for d in range(best + 2, disparities):
                second = min(second, np.int64(sums[d]))
            chosen[x] = best
            valid[y, x] = second * (100 - uniqueness) > np.int64(low) * 100
            fraction = np.float32(0)
            if 0 < best < disparities - 1:
                before, after = np.int64(sums[best - 1]), np.int64(sums[best + 1])
                depth = 2 * (max(before, after) - np.int64(low))
                if depth > 0:
                    fraction = np.float32(before - after) / np.float32(depth)
            disparity[y, x] = np.float32(best) + fraction
        for x in range(width):
            at = x - chosen[x]
            if at < 0:
                valid[y, x] = False
                continue
            low, best = np.int64(65536), 0
            for d in range(min(disparities, width - at)):
                if np.int64(total[y, at + d, d]) < low:
                    low, best = np.int64(total[y, at + d, d]), d
            if abs(best - chosen[x]) > agreement:
                valid[y, x] = False
