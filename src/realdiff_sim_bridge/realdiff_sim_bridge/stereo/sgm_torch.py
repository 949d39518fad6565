"""Census and semi-global matching in torch: the twin of `compiled`, with the same integers in and out.

Axes are ordered so that every step of a path works on contiguous memory: position along the path, disparity, direction,
frame, position across the paths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
import torch.nn.functional as functional
from torch import Tensor

from realdiff_sim_bridge.stereo.census import COST_MAX, PAIRS

_ABOVE = 200  # stands for the missing neighbours at both ends of the disparities
_FAR = 32767


@dataclass(frozen=True)
class _Paths:
    """Cost volumes of a batch and what turns them into path costs.

    Attributes:
        rows: uint8 [W, D + 2, 2, B, H], paths along the rows; direction 1 is stored in reversed order.
        columns: uint8 [H, D + 2, 2, B, W], paths along the columns.
        walk: replaces costs by path costs in both, in place.
    """

    rows: Tensor
    columns: Tensor
    walk: Callable[[], None]


@lru_cache
def triton_kernels(device: torch.device) -> ModuleType | None:
    """The module `sgm_triton` if it works on a device and gives the same integers as torch does there, else None."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    left, right = torch.randint(0, 2**31 - 1, (2, 2, 40, 120), dtype=torch.int32, device=device)
    right[..., :-30] = left[..., 30:]
    try:
        from realdiff_sim_bridge.stereo import sgm_triton

        found = sgm_triton.choices(left, right, 72, (8, 50))
        agrees = torch.equal(found, SemiGlobalTorch().choices(left, right, 72, (8, 50)))
    except Exception as error:  # Triton's compiler fails in its own ways, for example without a C compiler
        warnings.warn(f"Triton doesn't work here, so the stereo matching is slower: {error}", stacklevel=2)
        return None
    if not agrees:
        warnings.warn("the Triton kernels differ from torch here, so the slower stereo matching is used", stacklevel=2)
        return None
    return sgm_triton


class SemiGlobalTorch:
    """Semi-global matching of batches.

    On CUDA the kernels of `sgm_triton`; where triton is missing one CUDA graph per shape and penalties is recorded and
    replayed.
    """

    def __init__(self) -> None:
        """See the class."""
        self._recorded: dict[tuple[int, ...], _Paths] = {}

    def __call__(
        self,
        left: Tensor,
        right: Tensor,
        disparities: int,
        threshold: int,
        penalties: tuple[int, int],
        uniqueness: int,
        agreement: int,
    ) -> tuple[Tensor, Tensor]:
        """Match uint8 [B,H,W]: see `Arrays.semi_global`."""
        kernels = triton_kernels(left.device)
        choose = self.choices if kernels is None else kernels.choices
        chosen = choose(census(left, threshold), census(right, threshold), disparities, penalties)
        return _judge(chosen, disparities, uniqueness, agreement)

    def choices(self, left: Tensor, right: Tensor, disparities: int, penalties: tuple[int, int]) -> Tensor:
        """Sum the costs of the four paths and choose: see `sgm_triton.choices`."""
        batch, height, width = left.shape
        paths = self._paths((batch, height, width, disparities), penalties, left.device)
        for index in range(batch):  # one frame at a time: the words of a whole batch would need gigabytes
            cost = matching_cost(left[index], right[index], disparities)
            paths.columns[:, 1:-1, 0, index] = cost
            paths.columns[:, 1:-1, 1, index] = cost.flip(0)
            turned = cost.permute(2, 1, 0).contiguous()
            paths.rows[:, 1:-1, 0, index] = turned
            paths.rows[:, 1:-1, 1, index] = turned.flip(0)
        paths.walk()
        count = batch * height * disparities * width
        storage = torch.empty(count + disparities, dtype=torch.int16, device=left.device)
        sums = storage[:count].view(batch, height, disparities, width)
        sums.copy_(paths.columns[:, 1:-1, 0].permute(2, 0, 1, 3))
        sums += paths.columns[:, 1:-1, 1].flip(0).permute(2, 0, 1, 3)
        for index in range(batch):
            both = paths.rows[:, 1:-1, 0, index].to(torch.int16) + paths.rows[:, 1:-1, 1, index].flip(0)
            sums[index] += both.permute(2, 1, 0)
        return _choose(sums, storage)

    def _paths(self, shape: tuple[int, int, int, int], penalties: tuple[int, int], device: torch.device) -> _Paths:
        """Buffers of a shape; on CUDA kept, with the recorded graph."""
        batch, height, width, disparities = shape
        key = (*shape, *penalties)
        if key in self._recorded:
            return self._recorded[key]
        self._recorded.clear()  # the buffers are large: one shape at a time
        rows = _volume((width, disparities + 2, 2, batch, height), device)
        columns = _volume((height, disparities + 2, 2, batch, width), device)
        if device.type != "cuda":

            def walk() -> None:
                _walk(rows, *penalties)
                _walk(columns, *penalties)

            return _Paths(rows, columns, walk)
        self._recorded[key] = _Paths(rows, columns, _record(rows, columns, penalties))
        return self._recorded[key]


def _volume(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.full(shape, _ABOVE, dtype=torch.uint8, device=device)


def _record(rows: Tensor, columns: Tensor, penalties: tuple[int, int]) -> Callable[[], None]:
    """Record both walks as one CUDA graph: ten thousand small kernels, too slow to launch one by one."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # outside the graph first: it loads the kernels
        _walk(rows[:3].clone(), *penalties)
        _walk(columns[:3].clone(), *penalties)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _walk(rows, *penalties)
        _walk(columns, *penalties)
    return graph.replay


def _walk(volume: Tensor, small: int, large: int) -> None:
    """Walk along the first axis of a cost volume uint8 [N, D + 2, …] and replace costs by path costs, in place."""
    for index in range(1, len(volume)):
        before = volume[index - 1]
        least = before[1:-1].amin(dim=0, keepdim=True)
        best = torch.minimum(before[:-2], before[2:])
        best += small
        torch.minimum(best, before[1:-1], out=best)
        torch.minimum(best, least + large, out=best)
        best -= least
        volume[index][1:-1] += best


def census(images: Tensor, threshold: int) -> Tensor:
    """Centre-symmetric census of uint8 [B,H,W]: int32 [B,H,W]."""
    _, height, width = images.shape
    rows = max(dy for dy, _ in PAIRS)
    columns = max(abs(dx) for _, dx in PAIRS)
    padded = functional.pad(images[:, None].float(), (columns, columns, rows, rows), mode="replicate")[:, 0]

    def moved(dy: int, dx: int) -> Tensor:
        return padded[:, rows + dy : rows + dy + height, columns + dx : columns + dx + width]

    codes = torch.zeros_like(images, dtype=torch.int32)
    for dy, dx in PAIRS:
        codes = (codes << 1) | (moved(-dy, -dx) > moved(dy, dx) + threshold).to(torch.int32)
    return codes


def matching_cost(left: Tensor, right: Tensor, disparities: int) -> Tensor:
    """Hamming distances uint8 [H,D,W] of census codes int32 [H,W]; `COST_MAX` outside the right image."""
    width = left.shape[1]
    padded = functional.pad(right, (disparities - 1, 0))
    word = padded.unfold(1, width, 1).flip(1)  # [H,D,W]: the code at x − d
    word ^= left[:, None]
    word -= (word >> 1) & 0x55555555
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    word += word >> 8
    word += word >> 16
    cost = (word & 63).to(torch.uint8)
    steps = torch.arange(disparities, device=left.device)
    outside = steps[:, None] > torch.arange(width, device=left.device)[None]
    return cost.masked_fill_(outside, COST_MAX)


def _choose(sums: Tensor, storage: Tensor) -> Tensor:
    """What pixels of both images choose: see `sgm_triton.choices`.

    Args:
        sums: int16 [B,H,D,W], a view of the beginning of `storage`.
        storage: int16, D longer than `sums`.
    """
    _, height, disparities, width = sums.shape
    steps = torch.arange(disparities, device=sums.device, dtype=torch.int16)[:, None]
    columns = torch.arange(width, device=sums.device)
    low, best = _lowest(sums)
    near = (steps - best.to(torch.int16)[:, :, None]).abs() <= 1
    second = sums.masked_fill(near, _FAR).amin(dim=2)
    before = sums.gather(2, (best - 1).clamp(min=0)[:, :, None])[:, :, 0].masked_fill(best == 0, 0)
    last = best == disparities - 1
    after = sums.gather(2, (best + 1).clamp(max=disparities - 1)[:, :, None])[:, :, 0].masked_fill(last, 0)
    # What pixel x of the right image chooses: the sums at (d, x + d), a diagonal of the same storage.
    area = disparities * width
    diagonal = storage.as_strided(sums.shape, (height * area, area, width + 1, 1))
    _, right = _lowest(torch.where(columns + steps < width, diagonal, _FAR))
    return torch.stack([values.to(torch.int32) for values in (best, low, second, before, after, right)])


def _judge(chosen: Tensor, disparities: int, uniqueness: int, agreement: int) -> tuple[Tensor, Tensor]:
    """Disparity with its fraction, and whether the choice is unique and the right image's agrees with it.

    Args:
        chosen: int32 [6,B,H,W], see `sgm_triton.choices`.
        disparities: how many were searched.
        uniqueness: per cent by which the second best must be worse.
        agreement: allowed difference between the left and the right image's choice, px.
    """
    best, low, second, before, after, right = chosen
    unique = second.to(torch.int64) * (100 - uniqueness) > low.to(torch.int64) * 100
    inner = (best > 0) & (best < disparities - 1)
    depth = 2 * (torch.maximum(before, after) - low)
    fraction = (before - after).to(torch.float32) / depth.clamp(min=1).to(torch.float32)
    disparity = best.to(torch.float32) + torch.where(inner & (depth > 0), fraction, 0.0)
    at = torch.arange(best.shape[-1], device=best.device) - best
    opposite = right.gather(2, at.clamp(min=0))
    return disparity, unique & (at >= 0) & ((opposite - best).abs() <= agreement)


def _lowest(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest sum over the disparities of [B,H,D,W] and its first index, int64 (argmin promises no order of equals)."""
    steps = torch.arange(sums.shape[2], device=sums.device, dtype=torch.int32)[:, None]
    key = (sums.to(torch.int32) * 128 + steps).amin(dim=2).to(torch.int64)
    return key >> 7, key & 127
