"""Semi-global matching as Triton kernels: the twin of `sgm_torch` for CUDA, with the same integers in and out.

A program walks a few neighbouring lines of the image from end to end and holds all disparities of a position at once.
Matching costs are computed on the way, so no cost volume is stored; only the sums over the paths are. Needs the triton
package, which the CUDA builds of torch bring; ``TRITON_INTERPRET=1`` runs the kernels slowly on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from realdiff_sim_bridge.stereo.census import COST_MAX

_LINES = 16  # lines a program walks together
_PIXELS = 16  # pixels a program chooses for
_NONE = tl.constexpr(2**30)
_KEY = tl.constexpr(4096)  # a key is a sum times this plus the disparity: the least key is the first of the least sums


@triton.jit
def _bits(word):  # type: ignore[no-untyped-def]
    """Set bits of int32 words whose sign is clear."""
    word -= (word >> 1) & 0x55555555
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word += word >> 8
    word += word >> 16
    return word & 63


@triton.jit
def _walk(  # type: ignore[no-untyped-def]
    left,
    right,
    sums,
    paths,
    length,
    lines,
    lines_of_frame,
    frame_stride,
    line_stride,
    step_stride,
    x_of_line,
    x_of_step,
    small,
    large,
    DISPARITIES: tl.constexpr,
    PADDED: tl.constexpr,
    LINES: tl.constexpr,
    COST_OUTSIDE: tl.constexpr,
    BACKWARDS: tl.constexpr,
    FIRST: tl.constexpr,
):
    """Path costs along lines of the image, added to `sums` [pixel, disparity] (written there if FIRST).

    A pixel is frame · frame_stride + line · line_stride + step · step_stride; its column is line · x_of_line +
    step · x_of_step. `paths` [2, lines, DISPARITIES] holds the path costs of the last two positions: neighbouring
    disparities are in other threads' registers, so they are read back from there.
    """
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    known = line < lines
    d = tl.arange(0, PADDED)
    use = known[:, None] & (d < DISPARITIES)[None, :]
    start = (line // lines_of_frame).to(tl.int64) * frame_stride + (line % lines_of_frame).to(tl.int64) * line_stride
    first_x = (line % lines_of_frame) * x_of_line
    own = line.to(tl.int64)[:, None] * DISPARITIES + d[None, :]
    half = lines * DISPARITIES
    for step in range(0, length):
        at = length - 1 - step if BACKWARDS else step
        pixel = start + at * step_stride
        x = first_x + at * x_of_step
        code = tl.load(left + pixel, mask=known, other=0)
        inside = use & (d[None, :] <= x[:, None])
        other = tl.load(right + pixel[:, None] - d[None, :], mask=inside, other=0)
        cost = tl.where(inside, _bits(code[:, None] ^ other), COST_OUTSIDE)

        seen = use & (step > 0)  # nothing comes before the first position
        before = paths + ((step + 1) % 2) * half + own
        same = tl.load(before, mask=seen, other=0).to(tl.int32)
        lower = tl.load(before - 1, mask=seen & (d > 0)[None, :], other=200).to(tl.int32)
        upper = tl.load(before + 1, mask=seen & (d < DISPARITIES - 1)[None, :], other=200).to(tl.int32)
        least = tl.min(tl.where(use, same, 255), axis=1)[:, None]
        best = tl.minimum(tl.minimum(lower, upper) + small, tl.minimum(same, least + large))
        path = best - least + cost
        tl.store(paths + (step % 2) * half + own, path.to(tl.uint8), mask=use)

        place = sums + pixel[:, None] * DISPARITIES + d[None, :]
        total = path if FIRST else path + tl.load(place, mask=use, other=0).to(tl.int32)
        tl.store(place, total.to(tl.int16), mask=use)
        tl.debug_barrier()  # the next position reads what other threads of this program have stored


@triton.jit
def _choose(  # type: ignore[no-untyped-def]
    sums,
    found,
    pixels,
    width,
    DISPARITIES: tl.constexpr,
    PADDED: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """What pixels of both images choose: rows of `found` int32 [6, pixels], see `Lowest`."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    known = pixel < pixels
    d = tl.arange(0, PADDED)[None, :]
    use = known[:, None] & (d < DISPARITIES)
    value = tl.load(sums + pixel[:, None] * DISPARITIES + d, mask=use, other=0).to(tl.int32)
    key = tl.where(use, value * _KEY + d, _NONE)
    least = tl.min(key, axis=1)
    best = least % _KEY
    distance = d - best[:, None]
    second = tl.min(tl.where((distance < -1) | (distance > 1), key, _NONE), axis=1)
    before = tl.sum(tl.where(use & (distance == -1), value, 0), axis=1)
    after = tl.sum(tl.where(use & (distance == 1), value, 0), axis=1)

    # Pixel x of the right image: the sums at (x + d, d).
    inside = use & ((pixel % width)[:, None] + d < width)
    diagonal = tl.load(sums + (pixel[:, None] + d) * DISPARITIES + d, mask=inside, other=0).to(tl.int32)
    right = tl.min(tl.where(inside, diagonal * _KEY + d, _NONE), axis=1) % _KEY

    tl.store(found + pixel, best, mask=known)
    tl.store(found + pixels + pixel, least // _KEY, mask=known)
    tl.store(found + 2 * pixels + pixel, second // _KEY, mask=known)
    tl.store(found + 3 * pixels + pixel, before, mask=known)
    tl.store(found + 4 * pixels + pixel, after, mask=known)
    tl.store(found + 5 * pixels + pixel, right, mask=known)


def choices(left: Tensor, right: Tensor, disparities: int, penalties: tuple[int, int]) -> Tensor:
    """Sum the costs of the four paths and choose.

    Args:
        left: census codes int32 [B,H,W] of the left images, contiguous.
        right: the same of the right images.
        disparities: 0 … disparities − 1 are searched.
        penalties: P1 and P2.

    Returns:
        int32 [6,B,H,W]: per left pixel the first of the least sums' disparities, that sum, the least sum beyond ± 1 px
        of it, and the sums 1 px below and above it (0 where there is none); per right pixel its own choice.
    """
    count, height, width = left.shape
    sums = torch.empty((count, height, width, disparities), dtype=torch.int16, device=left.device)
    paths = torch.empty((2, count * max(height, width), disparities), dtype=torch.uint8, device=left.device)
    padded = max(16, triton.next_power_of_2(disparities))
    first = True
    for length, others, strides in (
        (width, height, (width, 1, 0, 1)),  # along the rows: strides of line and step, then what they add to x
        (height, width, (1, width, 1, 0)),
    ):
        lines = count * others
        for backwards in (False, True):
            _walk[(triton.cdiv(lines, _LINES),)](
                left,
                right,
                sums,
                paths,
                length,
                lines,
                others,
                height * width,
                *strides,
                *penalties,
                DISPARITIES=disparities,
                PADDED=padded,
                LINES=_LINES,
                COST_OUTSIDE=COST_MAX,
                BACKWARDS=backwards,
                FIRST=first,
                num_stages=1,  # a load must not be moved before the last position's store
            )
            first = False
    found = torch.empty((6, count, height, width), dtype=torch.int32, device=left.device)
    pixels: Any = count * height * width
    _choose[(triton.cdiv(pixels, _PIXELS),)](
        sums, found, pixels, width, DISPARITIES=disparities, PADDED=padded, PIXELS=_PIXELS
    )
    return found
