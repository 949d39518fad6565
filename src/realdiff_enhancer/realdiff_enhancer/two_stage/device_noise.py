"""The noise of `models.noise.CorrelatedNoise`, summed on a GPU: the same numbers, without the time on the host."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np
import torch
from torch import Tensor

from ..models.noise import FIXED_LAYERS, CorrelatedNoise, layer_field, normal_field

#: Streams whose fixed fields stay on the device.
_FIXED_STREAMS = 4
#: Into which the drawing of white fields is divided.
_TASKS = os.cpu_count() or 1


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
        self._layers: OrderedDict[tuple[int, tuple[int, ...]], Tensor] = OrderedDict()
        self._sums_kept: dict[tuple[int, int], tuple[float, Tensor, Tensor]] = {}
        self._ahead: dict[tuple[int, tuple[int, ...]], Future[dict[int, Tensor]]] = {}

    def draw_ahead(self, seeds: Sequence[int], shape: Sequence[int], previous_seeds: Sequence[int] = ()) -> None:
        """Begins to draw what `fields` will need with the same arguments, and returns at once."""
        dims = tuple(int(s) for s in shape)
        earlier = min(len(previous_seeds), self._source.history)
        known = dict.fromkeys((*previous_seeds[len(previous_seeds) - earlier :], *seeds))
        missing = [s for s in known if (s, dims) not in self._fields and (s, dims) not in self._ahead]
        # a task a thread, not a field: handing over takes the caller's time
        for part in (missing[first::_TASKS] for first in range(min(_TASKS, len(missing)))):
            task = self._workers.submit(self._draw, part, dims)
            self._ahead.update(((seed, dims), task) for seed in part)

    def fields(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        previous_seeds: Sequence[int] = (),
        stream_seed: int | None = None,
        surface: Tensor | None = None,
    ) -> Tensor:
        """Noise of consecutive frames, float32 [N, *shape]; as `CorrelatedNoise.fields`, `surface` int64 [N, H, W]."""
        earlier = min(len(previous_seeds), self._source.history)
        known = (*previous_seeds[len(previous_seeds) - earlier :], *seeds)
        dims = tuple(int(s) for s in shape)
        fixed = self._source.static_seed(stream_seed)
        static, scales, rows = self._sums(earlier, len(seeds))
        total = torch.zeros((len(seeds), *dims), device=self._device)
        if fixed is not None:
            total += self._fixed(fixed, dims, surface) * static
        white = self._white(known, dims)
        for lag in reversed(range(len(scales))):  # oldest first, as on the host
            total += white[rows[lag]] * scales[lag].view(-1, *([1] * len(dims)))
        return total

    def _sums(self, earlier: int, count: int) -> tuple[float, Tensor, Tensor]:
        """How white fields are summed to the noise of `count` frames after `earlier` ones.

        Returns:
            The factor of the fixed part; factors of the white fields [lags, count]; and which of the fields, the
            earlier frames' first, int64 [lags, count]. The last two on the device: to copy them takes a while.
        """
        if (earlier, count) not in self._sums_kept:
            weights = self._source.weights
            scales = np.zeros((len(weights), count), np.float32)
            static = np.float32(0)
            for column in range(count):
                static, own = self._source.scales(earlier + column + 1)
                scales[: len(own), column] = own
            used = np.flatnonzero(scales.any(axis=1))
            rows = np.maximum(earlier + np.arange(count) - used[:, None], 0)
            on_device = [torch.from_numpy(a).to(self._device) for a in (scales[used], rows)]
            self._sums_kept[earlier, count] = (float(static), on_device[0], on_device[1])
        return self._sums_kept[earlier, count]

    def _fixed(self, seed: int, shape: tuple[int, ...], surface: Tensor | None) -> Tensor:
        """The fixed part [N or 1, *shape]."""
        key = (seed, shape)
        if key not in self._layers:
            drawn = self._workers.map(
                lambda layer: torch.from_numpy(layer_field(seed, shape, self._source.stream, layer)),
                range(FIXED_LAYERS),
            )
            self._layers[key] = torch.stack(list(drawn), dim=-1).to(self._device)
            while len(self._layers) > _FIXED_STREAMS:
                self._layers.popitem(last=False)
        self._layers.move_to_end(key)
        layers = self._layers[key]  # [C, H, W, FIXED_LAYERS]
        if surface is None:
            return layers[None, ..., 0]
        count = len(surface)
        index = surface[:, None, :, :, None].expand(count, shape[0], -1, -1, -1)
        return torch.gather(layers[None].expand(count, -1, -1, -1, -1), -1, index).squeeze(-1)

    def _white(self, seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        self.draw_ahead(seeds, shape)
        for key, drawn in self._ahead.items():
            self._fields[key] = drawn.result()[key[0]].to(self._device, non_blocking=True)
        self._ahead.clear()
        result = torch.stack([self._fields[s, shape] for s in seeds])
        for seed in seeds:
            self._fields.move_to_end((seed, shape))
        while len(self._fields) > max(self._kept, len(seeds)):
            self._fields.popitem(last=False)
        return result

    def _draw(self, seeds: Sequence[int], shape: tuple[int, ...]) -> dict[int, Tensor]:
        drawn = {}
        for seed in seeds:
            # from pinned memory the copy waits for nothing: the host draws on while the device works
            drawn[seed] = torch.empty(shape, pin_memory=self._device.type == "cuda")
            normal_field(seed, shape, self._source.stream, drawn[seed].numpy())
        return drawn
