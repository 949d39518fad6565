"""Seeded noise fields that continue from frame to frame.

A real camera's error sticks to the surfaces: consecutive frames err alike. The noise of a frame is therefore a fixed
weighted sum of independent fields, one for each of the last frames' seeds and, where a share of it stays as long as the
surface does, one for the seed of the stream. It depends on nothing but the seeds and the surface: a frame comes out the
same whatever was computed before it, on any batch size and after a restart.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIXED_LAYERS", "CorrelatedNoise", "ar1_history", "layer_field", "normal_field"]

#: Independent fields of the fixed part. Which one a place takes depends on its surface: they repeat, so surfaces must
#: be this many steps apart at the same place to err alike.
FIXED_LAYERS = 16


_CACHE_BYTES = 64 << 20
_CACHED_STREAMS = 4


def _generator(seed: int, stream: str) -> np.random.Generator:
    """Generator of the noise called `stream` in the frame with this seed (SFC64: the fastest of NumPy's)."""
    entropy = np.random.SeedSequence([seed & (2**64 - 1), zlib.crc32(stream.encode())])
    return np.random.Generator(np.random.SFC64(entropy))


def normal_field(
    seed: int, shape: Sequence[int], stream: str = "", out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Independent standard normal numbers.

    Args:
        seed: 64-bit seed of the frame.
        shape: Shape of the field.
        stream: Name of the field, so that a model can draw several independent ones from one seed.
        out: Array of that shape to fill instead of a new one.

    Returns:
        float32 array of that shape, mean 0, variance 1.
    """
    return _generator(seed, stream).standard_normal(tuple(shape), dtype=np.float32, out=out)


def layer_field(seed: int, shape: Sequence[int], stream: str, layer: int) -> NDArray[np.float32]:
    """One of the `FIXED_LAYERS` fields of a stream's fixed part; as `normal_field`."""
    return normal_field(seed, shape, f"{stream}#{layer}")


def ar1_history(coefficient: float, remainder: float = 0.05) -> int:
    """How many earlier frames an AR(1) process needs before what is cut off has weight below `remainder`.

    Args:
        coefficient: Correlation of consecutive frames, in [0, 1).
        remainder: Weight, relative to the newest frame's, that may be neglected.
    """
    if coefficient == 0.0:
        return 0
    return math.ceil(math.log(remainder) / math.log(coefficient))


class CorrelatedNoise:
    """Standard normal fields, correlated between consecutive frames.

    The field of frame t is √s·fixed + √(1−s)·u_t, where u_t is Σ_k w_k·white(seed_{t-k}) over the frames that exist,
    divided by the norm of the weights used, and `fixed` is white(stream seed). So the variance is 1 in every frame, the
    first of a stream included, and the correlation of two frames is s + (1−s)·(that of u). Where a place shows another
    surface than before, `fixed` comes from another of `FIXED_LAYERS` fields, and s falls to 0. White fields are kept:
    consecutive frames cost one new field each. Threads may share an object.

    Args:
        weights: w_0, w_1, …, newest frame first; [1.0] gives independent frames.
        stream: Name of the noise: fields of different names are independent.
        static_share: s: share of the variance that is the same in all frames that show the same surface, in [0, 1].

    Raises:
        ValueError: No weights, or all zero; or the share is outside [0, 1].
    """

    def __init__(self, weights: Sequence[float], stream: str = "", static_share: float = 0.0) -> None:
        """Prepares the weights; fields are drawn when asked for."""
        self.weights = tuple(float(w) for w in weights)
        if not any(self.weights):
            raise ValueError("the noise needs at least one weight that is not zero")
        if not 0.0 <= static_share <= 1.0:
            raise ValueError(f"the static share must be in [0, 1], got {static_share}")
        self.static_share = float(static_share)
        self.stream = stream
        self._cached_bytes = 0
        self._cache: OrderedDict[tuple[int, int | None, tuple[int, ...]], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def ar1(
        cls, coefficient: float, history: int | None = None, stream: str = "", static_share: float = 0.0
    ) -> CorrelatedNoise:
        """First-order autoregressive noise: lag k has correlation coefficient^k (until the sum is cut off).

        Args:
            coefficient: Correlation of consecutive frames, in [0, 1); of the part that changes.
            history: Earlier frames used; by default enough of them (`ar1_history`).
            stream: As for the class.
            static_share: As for the class.

        Raises:
            ValueError: The coefficient is outside [0, 1), the history negative or the share outside [0, 1].
        """
        if not 0.0 <= coefficient < 1.0:
            raise ValueError(f"the AR(1) coefficient must be in [0, 1), got {coefficient}")
        if history is None:
            history = ar1_history(coefficient)
        if history < 0:
            raise ValueError(f"the history must not be negative, got {history}")
        return cls([coefficient**k for k in range(history + 1)], stream, static_share)

    @classmethod
    def smooth(cls, history: int, stream: str = "") -> CorrelatedNoise:
        """Slowly varying noise: half a sine of weights, so that consecutive frames differ by very little.

        Lag-1 correlation ≈ 1 − (π/(history+2))²/2; AR(1) of the same history can't exceed history/(history+1).

        Args:
            history: Earlier frames used.
            stream: As for the class.
        """
        length = history + 1
        return cls([math.sin(math.pi * (k + 1) / (length + 1)) for k in range(length)], stream=stream)

    @property
    def history(self) -> int:
        """Seeds of earlier frames that are used."""
        return len(self.weights) - 1

    def _white(self, seed: int, shape: tuple[int, ...], layer: int | None = None) -> NDArray[np.float32]:
        key = (seed, layer, shape)
        with self._lock:
            field = self._cache.get(key)
            if field is not None:
                self._cache.move_to_end(key)
                return field
        if layer is None:
            field = normal_field(seed, shape, self.stream)
        else:
            field = layer_field(seed, shape, self.stream, layer)
        field.flags.writeable = False
        with self._lock:
            if key not in self._cache:
                self._cache[key] = field
                self._cached_bytes += field.nbytes
            # Enough for a few streams that take turns, but never less than one needs.
            needed = len(self.weights) + (FIXED_LAYERS if self.static_share else 0)
            while len(self._cache) > needed and (
                self._cached_bytes > _CACHE_BYTES or len(self._cache) > _CACHED_STREAMS * needed
            ):
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return field

    def _fixed(self, seed: int, shape: tuple[int, ...], surface: NDArray[np.integer] | None) -> NDArray[np.float32]:
        """The fixed part, unit variance, float32 of that shape."""
        if surface is None:
            return self._white(seed, shape, 0)
        result = np.empty(shape, np.float32)
        for layer in np.unique(surface).tolist():
            np.copyto(result, self._white(seed, shape, layer), where=surface == layer)
        return result

    def scales(self, frames: int) -> tuple[np.float32, NDArray[np.float32]]:
        """Factors of the white fields in a frame of which `frames` seeds are known, its own included.

        Returns:
            That of the stream's field, and float32 [min(frames, history + 1)], newest frame first; the squares of all
            together add up to 1.
        """
        weights = self.weights[:frames]
        norm = math.sqrt(sum(w * w for w in weights))
        if norm == 0.0:
            raise ValueError(f"the first {len(weights)} weights are all zero: no variance to normalise")
        changing = math.sqrt(1.0 - self.static_share)
        return np.float32(math.sqrt(self.static_share)), np.array([changing * (w / norm) for w in weights], np.float32)

    def static_seed(self, stream_seed: int | None) -> int | None:
        """The seed of the fixed part, None where the noise has none.

        Raises:
            ValueError: There is a fixed part, but no seed for it.
        """
        if self.static_share == 0.0:
            return None
        if stream_seed is None:
            raise ValueError("the noise has a fixed part: give the stream's seed (DepthFrames.stream_seed)")
        return stream_seed

    def field(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        stream_seed: int | None = None,
        surface: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float32]:
        """Noise of one frame.

        Args:
            seeds: Seeds of the stream up to and including this frame, oldest first; only the last `history` + 1 count.
            shape: Shape of the field.
            stream_seed: Seed of the fixed part; needed where there is one.
            surface: int [H, W] in [0, `FIXED_LAYERS`), the field's last two dimensions: which of the fixed fields each
                place takes; all the first by default.

        Returns:
            float32 array of that shape.

        Raises:
            ValueError: The weights used are all zero, or the stream's seed is missing.
        """
        used = seeds[-len(self.weights) :]
        dims = tuple(int(s) for s in shape)
        static, scales = self.scales(len(used))
        fixed = self.static_seed(stream_seed)
        total = np.zeros(dims, np.float32)
        scaled = np.empty(dims, np.float32)
        if fixed is not None:
            np.multiply(self._fixed(fixed, dims, surface), static, out=total)
        # Oldest first, always in this order: floating-point sums must not depend on what the cache holds.
        for scale, seed in zip(reversed(scales), used, strict=True):
            np.multiply(self._white(seed, dims), scale, out=scaled)
            total += scaled
        return total

    def fields(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        previous_seeds: Sequence[int] = (),
        stream_seed: int | None = None,
        surface: Sequence[NDArray[np.integer]] | None = None,
    ) -> NDArray[np.float32]:
        """Noise of consecutive frames.

        Args:
            seeds: Seeds of the N frames.
            shape: Shape of one field.
            previous_seeds: Seeds of the frames before the first, oldest first.
            stream_seed: As for `field`.
            surface: As for `field`, one a frame.

        Returns:
            float32 [N, *shape].
        """
        every = (*previous_seeds, *seeds)
        start = len(previous_seeds)
        result = np.empty((len(seeds), *shape), np.float32)
        for i in range(len(seeds)):
            own = None if surface is None else surface[i]
            result[i] = self.field(every[: start + i + 1], shape, stream_seed, own)
        return result
