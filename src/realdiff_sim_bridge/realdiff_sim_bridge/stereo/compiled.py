"""Loops of the NumPy back end that NumPy can't express, compiled by numba: census, semi-global matching, hashing.

The functions release the interpreter's lock; `semi_global` spreads an image over two threads of its own (numba's own
threads may not be entered from several Python threads).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from realdiff_sim_bridge.stereo.census import COST_MAX, PAIRS
from realdiff_sim_bridge.stereo.noise import MULTIPLIERS, STEP

_THREADS = 2
_ABOVE = 255 - 55  # stands for the missing neighbours at both ends of the disparities; the largest small penalty is 55
_KEY_BITS = 12  # of a disparity in a key; sums of four paths have ten
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


def for_each(work: Callable[[int], object], count: int) -> None:
    """Do `work` (which must release the interpreter's lock) for 0 … count − 1 on the threads."""
    for _ in _pool().map(work, range(count)):
        pass


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


def _count_bits(typing: Any, byte: Any) -> Any:  # pragma: no cover
    """Set bits of a byte by LLVM's own means: 32 bytes at once, where arithmetic on words manages eight."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint8(types.uint8), generate


_bits: Any = intrinsic(_count_bits)


@njit(nogil=True, cache=True)
def _split(codes: Any, planes: Any) -> None:  # pragma: no cover
    """Codes of a row as four planes of bytes, in reversed order: then x − d runs forwards with d."""
    width = codes.size
    for x in range(width):
        for plane in range(4):
            planes[plane, width - 1 - x] = np.uint8(codes[x] >> np.uint32(8 * plane))


@njit(nogil=True, cache=True)
def _costs(code: Any, planes: Any, start: int, cost: Any) -> None:  # pragma: no cover
    """Hamming distances of one code to those in `planes` [4,…] from `start` on."""
    p, q, r, s = planes[0, start:], planes[1, start:], planes[2, start:], planes[3, start:]
    a, b = np.uint8(code), np.uint8(code >> np.uint32(8))
    c, d = np.uint8(code >> np.uint32(16)), np.uint8(code >> np.uint32(24))
    for k in range(cost.size):
        low = np.uint8(_bits(np.uint8(a ^ p[k])) + _bits(np.uint8(b ^ q[k])))
        high = np.uint8(_bits(np.uint8(c ^ r[k])) + _bits(np.uint8(d ^ s[k])))
        cost[k] = np.uint8(low + high)


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
    planes = np.zeros((4, width + disparities), np.uint8)
    p1, p2 = np.uint8(small), np.uint8(large)
    for y in range(start, stop):
        _split(right[y], planes)
        for x in range(width):
            _costs(left[y, x], planes, width - 1 - x, cost[y, x])
            cost[y, x, x + 1 :] = np.uint8(COST_MAX)
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
    """Lowest sum per pixel, its fraction, uniqueness and left-right agreement.

    A key holds a sum and below it the disparity, so that the least key is the first of the lowest sums. Keys of the
    right image are gathered on the way, in reversed order: its pixel x − d then runs forwards with d.
    """
    width, disparities = total.shape[1], total.shape[2]
    none, digits, mask = np.int32(2**30), np.int32(_KEY_BITS), np.int32(2**_KEY_BITS - 1)
    keys = np.empty(disparities, np.int32)
    right = np.empty(width + disparities, np.int32)
    chosen = np.empty(width, np.int64)
    for y in range(start, stop):
        right[:] = none
        for x in range(width):
            sums, seen = total[y, x], right[width - 1 - x : width - 1 - x + disparities]
            least, second = none, none
            for d in range(disparities):
                key = np.int32(np.int32(np.int32(sums[d]) << digits) | np.int32(d))
                keys[d] = key
                seen[d] = min(seen[d], key)
                least = min(least, key)
            best = np.int64(least & mask)
            keys[max(best - 1, 0) : best + 2] = none
            for d in range(disparities):
                second = min(second, keys[d])
            chosen[x] = best
            low = np.int64(least >> digits)
            valid[y, x] = np.int64(second >> digits) * (100 - uniqueness) > low * 100
            fraction = np.float32(0)
            if 0 < best < disparities - 1:
                before, after = np.int64(sums[best - 1]), np.int64(sums[best + 1])
                depth = 2 * (max(before, after) - low)
                if depth > 0:
                    fraction = np.float32(before - after) / np.float32(depth)
            disparity[y, x] = np.float32(best) + fraction
        for x in range(width):
            at = x - chosen[x]
            if at < 0 or abs(np.int64(right[width - 1 - at] & mask) - chosen[x]) > agreement:
                valid[y, x] = False


@njit(nogil=True, cache=True)
def bilinear(image: Any, x: Any, y: Any, out: Any) -> None:  # pragma: no cover
    """Values of `image` [h,w] between its pixels at x, y [N], clipped at the borders (NaN: the first pixel)."""
    height, width = image.shape
    zero, one = np.float32(0), np.float32(1)
    last_x, last_y = np.float32(width - 1.001), np.float32(height - 1.001)
    for index in range(out.size):
        at_x = min(x[index] if x[index] > zero else zero, last_x)
        at_y = min(y[index] if y[index] > zero else zero, last_y)
        column, row = int(at_x), int(at_y)
        right, down = at_x - np.float32(column), at_y - np.float32(row)
        above = image[row, column] * (one - right) + image[row, column + 1] * right
        below = image[row + 1, column] * (one - right) + image[row + 1, column + 1] * right
        out[index] = above * (one - down) + below * down


@njit(nogil=True, cache=True)
def sample_rows(image: Any, disparity: Any, out: Any) -> None:  # pragma: no cover
    """Values of `image` [H,W] at x − disparity: Keys' cubic kernel, a = −0.5 (NaN: the first column)."""
    height, width = image.shape
    half, one, last = np.float32(0.5), np.float32(1), np.float32(width - 2.001)
    two, three, four, five = np.float32(2), np.float32(3), np.float32(4), np.float32(5)
    for y in range(height):
        row = image[y]
        for x in range(width):
            at = np.float32(x) - disparity[y, x]
            at = min(at if at > one else one, last)
            whole = np.uint32(at)
            t = at - np.float32(whole)
            p0, p1, p2, p3 = row[whole - 1], row[whole], row[whole + 1], row[whole + 2]
            cubic = two * p0 - five * p1 + four * p2 - p3 + t * (three * (p1 - p2) + p3 - p0)
            out[y, x] = p1 + half * t * (p2 - p0 + t * cubic)


@njit(nogil=True, cache=True)
def same_side(disparity: Any, valid: Any, out: Any) -> None:  # pragma: no cover
    """Mean of each pixel of [H,W] and those of its 8 neighbours that are valid and differ by less than 1 px."""
    height, width = disparity.shape
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            own = disparity[y, x]
            total, count = own, one
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if (v != y or u != x) and valid[v, u] and abs(disparity[v, u] - own) < one:
                        total += disparity[v, u]
                        count += one
            out[y, x] = total / count
