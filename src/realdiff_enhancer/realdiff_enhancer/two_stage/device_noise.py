"""The noise of `models.noise.CorrelatedNoise`, summed on a GPU: the same numbers, without the time on the host."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from ..models.noise import CorrelatedNoise, normal_field


class DeviceNoise:
    """Correlated standard normal fields on a device.

    White fields are drawn on the host (their bytes define the noise), kept on the device, and summed there in the same
    order as `CorrelatedNoise.field` sums them.

    Args:
        source: weights and stream of the noise.
        device: where the fields live.
        workers: draws missing white fields in parallel.
        kept: white fields kept on the device.
    """

    def __init__(self, source: CorrelatedNoise, device: torch.device, workers: Executor, kept: int = 160) -> None:
        self._source, self._device, self._workers = source, device, workers
        self._kept = max(kept, 2 * len(source.weights))
        self._fields: OrderedDict[tuple[int, tuple[int, ...]], Tensor] = OrderedDict()

    def fields(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        previous_seeds: Sequence[int] = (),
        stream_seed: int | None = None,
    ) -> Tensor:
        """Noise of consecutive frames, float32 [N, *shape]; as `CorrelatedNoise.fields`."""
        weights = self._source.weights
        every = (*previous_seeds, *seeds)
        start = len(previous_seeds)
        oldest = max(0, start - len(weights) + 1)
        dims = tuple(int(s) for s in shape)
        fixed = self._source.static_seed(stream_seed)
        position = np.arange(start, len(every))
        scales = np.zeros((len(weights), len(seeds)), np.float32)
        static = np.float32(0)
        for column, p in enumerate(position):
            static, own = self._source.scales(int(p) + 1)
            scales[: len(own), column] = own
        total = torch.zeros((len(seeds), *dims), device=self._device)
        if fixed is not None:
            total += self._white([fixed], dims) * float(static)
        white = self._white(every[oldest:], dims)
        on_device = torch.from_numpy(scales).to(self._device)
        lags = [lag for lag in range(len(weights)) if scales[lag].any()]
        for lag in reversed(lags):  # oldest first, as on the host
            index = torch.from_numpy(np.maximum(position - lag - oldest, 0)).to(self._device)
            scaled = white[index] * on_device[lag].view(-1, *([1] * len(shape)))
            total += scaled
        return total

    def _white(self, seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        missing = [s for s in dict.fromkeys(seeds) if (s, shape) not in self._fields]
        drawn = self._workers.map(lambda seed: normal_field(seed, shape, self._source.stream), missing)
        for seed, field in zip(missing, drawn, strict=True):
            self._fields[seed, shape] = torch.from_numpy(field).to(self._device, non_blocking=True)
        result = torch.stack([self._fields[s, shape] for s in seeds])
        for seed in seeds:
            self._fields.move_to_end((seed, shape))
        while len(self._fields) > max(self._kept, len(seeds)):
            self._fields.popitem(last=False)
        return result
