"""The array operations that the stereo camera is made of, for NumPy (with OpenCV and numba) and for torch.

The camera's algorithm is written once, over this interface: `xp` is the array module (functions that NumPy and torch
share by name and meaning), the methods are what the two do differently. All images are [B,H,W]. Everything up to the
infrared images uses the same IEEE operations in the same order; the matching works on integers and is bit-exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError

Array: TypeAlias = Any
"""numpy.ndarray or torch.Tensor."""


class Arrays(Protocol):
    """What a back end provides.

    Attributes:
        xp: the array module, ``numpy`` or ``torch``.
        name: ``numpy`` or ``torch``.
    """

    xp: Any
    name: str

    def upload(self, values: NDArray[Any]) -> Array:
        """Bring a NumPy array to the back end; the type is kept."""
        ...

    def upload_images(self, images: Sequence[NDArray[Any]]) -> Array:
        """Bring images [H,W] of one size to the back end as float32 [B,H,W]."""
        ...

    def download(self, values: Array) -> NDArray[Any]:
        """Bring an array back to NumPy."""
        ...

    def counting(self, count: int) -> Array:
        """The numbers 0 … count − 1, float32 [count]."""
        ...

    def real(self, values: Array) -> Array:
        """Convert to float32."""
        ...

    def whole(self, values: Array) -> Array:
        """Convert to int64, towards zero."""
        ...

    def byte(self, values: Array) -> Array:
        """Convert whole numbers 0…255 to uint8."""
        ...

    def blur(self, images: Array, sigma_x: float, sigma_y: float) -> Array:
        """Gaussian blur of float32 [B,H,W]; mirrored at the borders without repeating the border pixel."""
        ...

    def highest(self, images: Array, radius_x: int, radius_y: int) -> Array:
        """Largest value in a window of (2·radius + 1) pixels, float32 [B,H,W]; nothing beyond the borders counts."""
        ...

    def bilinear(self, images: Array, x: Array, y: Array) -> Array:
        """Values between pixels, clipped at the borders.

        Args:
            images: float32, one image [h,w] for all places, or [B,h,w], one for each frame of the places.
            x: float32 places, of any shape for one image, [B,H,W] or [1,H,W] for several.
            y: the same along columns.

        Returns:
            float32, in the shape of the places (with B frames).
        """
        ...

    def sample_rows(self, images: Array, disparity: Array) -> Array:
        """Images float32 [B,H,W] at x − disparity, cubic between columns (Keys, a = −0.5), clipped at the borders."""
        ...

    def same_side(self, disparity: Array, valid: Array) -> Array:
        """Mean of each pixel of [B,H,W] and those of its 8 neighbours that are valid and differ by less than 1 px."""
        ...

    def normals(self, seeds: NDArray[np.uint64], stream: int, height: int, width: int) -> Array:
        """Standard normal numbers, float32 [B,H,W], a function of (seed, stream, pixel): see `noise`."""
        ...

    def semi_global(
        self,
        left: Array,
        right: Array,
        disparities: int,
        threshold: int,
        penalties: tuple[int, int],
        uniqueness: int,
        agreement: int,
    ) -> tuple[Array, Array]:
        """Census and semi-global matching of two uint8 images [B,H,W], in integers.

        Args:
            left: the left image.
            right: the right image.
            disparities: 0 … disparities − 1 are searched.
            threshold: differences of at most so many grey levels count as equal in the census.
            penalties: P1 for steps of 1 px along a path, P2 for larger ones; costs are 0…31.
            uniqueness: per cent by which the second best sum (beyond ± 1 px) must be higher than the best.
            agreement: allowed difference between the left and the right image's choice, px.

        Returns:
            Disparity float32 [B,H,W] in pixels (with the fraction), and whether it passed the checks, bool [B,H,W].
        """
        ...

    def islands(self, disparity: Array, valid: Array, largest: int) -> Array:
        """Pixels of connected regions of at most `largest` pixels, bool [B,H,W].

        Neighbours (of 4) are connected where both are valid and their disparities differ by at most 1 px (compared in
        steps of 1/16 px).
        """
        ...


def make_arrays(backend: str, device: str | None = None) -> Arrays:
    """Make a back end.

    Args:
        backend: ``numpy`` or ``torch``.
        device: torch device, for example ``cuda``; None: CUDA where available, else CPU.

    Raises:
        ConfigError: unknown back end, or a device for NumPy.
    """
    if backend == "numpy":
        if device not in (None, "cpu"):
            raise ConfigError("NumPy runs on the CPU only", expected="--device cpu", got=device)
        from realdiff_sim_bridge.stereo.arrays_numpy import NumpyArrays

        return NumpyArrays()
    if backend == "torch":
        from realdiff_sim_bridge.stereo.arrays_torch import TorchArrays

        return TorchArrays(device)
    raise ConfigError("unknown back end of the stereo sensor", expected="numpy or torch", got=backend)


def gaussian_kernel(sigma: float) -> NDArray[np.float32]:
    """Gaussian weights out to 2.7 σ, float32 [2r+1], sum 1."""
    radius = max(1, round(2.7 * sigma))
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-np.square(x / sigma) / 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def seed_words(seeds: list[int]) -> NDArray[np.uint64]:
    """Frame seeds as uint64 [B] (any integer is taken modulo 2⁶⁴)."""
    return np.array([seed % 2**64 for seed in seeds], np.uint64)
