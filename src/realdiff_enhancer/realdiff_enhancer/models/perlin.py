"""Multi-octave gradient (Perlin) noise in disparity, continuing from frame to frame."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array, hstack

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames
from realdiff_enhancer.models.noise import CorrelatedNoise
from realdiff_enhancer.models.parameters import Parameters, load_parameters
from realdiff_enhancer.models.stereo import add_disparity_error

if TYPE_CHECKING:
    from realdiff_core.config import CameraProfile

__all__ = ["PerlinModel", "PerlinParameters"]


class PerlinParameters(Parameters):
    """Parameters of the model `perlin`."""

    sigma_px: float = Field(gt=0, le=5, description="standard deviation of the disparity error [px]")
    cell_px: float = Field(ge=2, le=512, description="size of the coarsest octave's cells [px]")
    octaves: int = Field(ge=1, le=8, description="number of octaves; each halves the cell size")
    persistence: float = Field(gt=0, le=1, description="amplitude of an octave relative to the next coarser one")
    temporal_coefficient: float = Field(ge=0, lt=1, description="correlation of consecutive frames (AR(1))")
    history: int = Field(ge=0, le=120, description="earlier frames that the AR(1) sum uses")


@lru_cache(maxsize=32)
def _basis(length: int, cell: float) -> tuple[csr_array, csr_array]:
    """Interpolation of lattice gradients along one axis.

    Args:
        length: Number of pixels.
        cell: Cell size in pixels.

    Returns:
        Two sparse float32 [length, nodes] matrices: the fade weights of the two nodes beside each pixel, and the same
        times the offset from the node, in cells.
    """
    position = (np.arange(length) + 0.5) / cell
    left = np.floor(position).astype(int)
    t = (position - left).astype(np.float32)
    fade = t**3 * (t * (t * 6 - 15) + 10)
    index = (np.tile(np.arange(length), 2), np.concatenate([left, left + 1]))
    shape = (length, int(left[-1]) + 2)
    weights = csr_array((np.concatenate([1 - fade, fade]), index), shape=shape)
    offsets = csr_array((np.concatenate([(1 - fade) * t, fade * (t - 1)]), index), shape=shape)
    return weights, offsets


def _cell_variance(samples: int = 256) -> float:
    """Mean variance over a cell of gradient noise whose gradients are standard normal vectors."""
    t = (np.arange(samples) + 0.5) / samples
    fade = t**3 * (t * (t * 6 - 15) + 10)
    weight = ((1 - fade) ** 2 + fade**2).mean()
    offset = (((1 - fade) * t) ** 2 + (fade * (t - 1)) ** 2).mean()
    return float(2 * weight * offset)


class PerlinModel:
    """Adds gradient noise of several octaves to the disparity.

    The lattice gradients are normal vectors rather than unit vectors: the noise is then linear in standard normal
    numbers, and correlating these from frame to frame leaves its variance as it is.

    Args:
        parameters: The noise.
        profile: Camera: its range limits where noise is added.
    """

    name = "perlin"
    weights_sha256: str | None = None
    uses_colour = False

    def __init__(self, parameters: PerlinParameters, profile: CameraProfile) -> None:
        """Prepares the noise of every octave."""
        self.parameters = parameters
        self.profile = profile
        self.history = parameters.history
        amplitudes = np.array([parameters.persistence**k for k in range(parameters.octaves)])
        amplitudes *= parameters.sigma_px / np.sqrt((amplitudes**2).sum() * _cell_variance())
        self._octaves = [
            (
                parameters.cell_px / 2**k,
                float(amplitudes[k]),
                CorrelatedNoise.ar1(parameters.temporal_coefficient, parameters.history, stream=f"perlin{k}"),
            )
            for k in range(parameters.octaves)
        ]

    @classmethod
    def from_config(cls, profile: CameraProfile, path: Path | None = None) -> PerlinModel:
        """Reads the parameters from `path` or `config/models/perlin.yaml`."""
        return cls(load_parameters(PerlinParameters, cls.name, profile, path), profile)

    def disparity_error(self, seeds: tuple[int, ...], height: int, width: int, scale: float) -> NDArray[np.float32]:
        """Error of one frame.

        Args:
            seeds: Seeds of the stream up to and including this frame, oldest first.
            height: Rows.
            width: Columns.
            scale: Pixels per pixel of the reference.

        Returns:
            float32 [H,W], px.
        """
        # Columns last and transposed, all octaves at once: one sparse product over the large image.
        terms, columns = [], []
        for cell, amplitude, noise in self._octaves:
            # Cells under two pixels would be white noise: the finest octaves stop there.
            size = max(2.0, cell * scale)
            weight_y, offset_y = _basis(height, size)
            weight_x, offset_x = _basis(width, size)
            gradients = noise.field(seeds, (2, weight_y.shape[1], weight_x.shape[1]))
            gradients *= np.float32(amplitude * scale)
            terms += [(weight_y @ gradients[0]).T, (offset_y @ gradients[1]).T]
            columns += [offset_x, weight_x]
        return np.ascontiguousarray((hstack(columns, format="csr") @ np.concatenate(terms)).T)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the noisy frames: nearer than the near limit becomes a hole, beyond the far limit is left alone."""
        _, height, width = frames.depth.shape
        every = (*frames.previous_seeds, *frames.seeds)
        first = len(frames.previous_seeds)
        scale = self.parameters.scale(frames.camera)
        error = np.stack(
            [self.disparity_error(every[: first + i + 1], height, width, scale) for i in range(len(frames.seeds))]
        )
        return EnhancedFrames(depth=add_disparity_error(frames.depth, error, frames.camera, self.profile))
