"""Smooth random fields that stick to surfaces, drawn at a reduced resolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.models.noise import FIXED_LAYERS, CorrelatedNoise


class NoiseSeeds(NamedTuple):
    """What a frame's noise follows from: seeds up to and including its own, that of its stream, and its surfaces.

    `disparity` is that of the clean depth, float32 [H,W]; it makes another surface with every `step_px`.
    """

    frames: tuple[int, ...]
    stream: int | None
    disparity: NDArray[np.float32]
    step_px: np.float32

    def field(self, noise: CorrelatedNoise, shape: tuple[int, ...], reduction: int, margin: int) -> NDArray[np.float32]:
        """White field at a reduction of the resolution with a margin around it, float32 of that shape."""
        if not noise.static_share:
            return noise.field(self.frames, shape)
        inner = (side - 2 * margin for side in shape[-2:])
        rows, columns = (
            np.minimum(np.arange(side) * reduction + reduction // 2, full - 1)
            for side, full in zip(inner, self.disparity.shape, strict=True)
        )
        cells = np.pad(self.disparity[np.ix_(rows, columns)], margin, mode="edge")
        surface = np.floor(cells / self.step_px).astype(np.intp) % FIXED_LAYERS
        return noise.field(self.frames, shape, self.stream, surface)


class SmoothNoise:
    """Smooth standard normal fields, drawn and blurred at reduced resolution.

    Args:
        noise: Source of the white fields.
        scale_px: Gaussian width of the blur in pixels of the full resolution.
        anisotropy: How much wider than high the blur is.
        reduction: Of the resolution.
    """

    def __init__(self, noise: CorrelatedNoise, scale_px: float, anisotropy: float, reduction: int) -> None:
        """Prepares the filters."""
        import cv2

        self._noise = noise
        self._reduction = reduction
        self._kernels = []
        for factor in (anisotropy**0.5, anisotropy**-0.5):
            sigma = scale_px / reduction * factor
            kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma)) + 1, sigma, cv2.CV_32F).ravel()
            self._kernels.append(kernel / np.sqrt((kernel**2).sum()))
        self._margin = max(len(kernel) // 2 for kernel in self._kernels)

    def __call__(self, seeds: NoiseSeeds, height: int, width: int) -> NDArray[np.float32]:
        """Field of one frame, float32 [⌈H/reduction⌉, ⌈W/reduction⌉], unit variance."""
        import cv2

        m = self._margin
        shape = (-(-height // self._reduction) + 2 * m, -(-width // self._reduction) + 2 * m)
        field = seeds.field(self._noise, shape, self._reduction, m)
        blurred = cv2.sepFilter2D(field, cv2.CV_32F, self._kernels[0], self._kernels[1])
        return np.asarray(blurred[m:-m, m:-m])


def enlarge(field: NDArray[np.float32], factor: int, height: int, width: int) -> NDArray[np.float32]:
    """Enlarges a field linearly and cuts it to float32 [height, width]."""
    import cv2

    return np.asarray(cv2.resize(field, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)[:height, :width])
