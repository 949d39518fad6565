"""Independent Gaussian noise: the plainest baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames
from realdiff_enhancer.models.noise import normal_field
from realdiff_enhancer.models.parameters import Parameters, load_parameters
from realdiff_enhancer.models.stereo import add_disparity_error

if TYPE_CHECKING:
    from realdiff_core.config import CameraProfile

__all__ = ["GaussianModel", "GaussianParameters"]


class GaussianParameters(Parameters):
    """Parameters of the model `gaussian`."""

    sigma_px: float = Field(gt=0, le=5, description="standard deviation of the disparity error [px]")


class GaussianModel:
    """Adds independent normal errors to the disparity of every pixel: in depth, σ(z) = σ_px·z²/(fx·baseline).

    Args:
        parameters: The noise.
        profile: Camera: its range limits where noise is added.
    """

    name = "gaussian"
    history = 0
    weights_sha256: str | None = None
    uses_colour = False

    def __init__(self, parameters: GaussianParameters, profile: CameraProfile) -> None:
        """Keeps the parameters."""
        self.parameters = parameters
        self.profile = profile

    @classmethod
    def from_config(cls, profile: CameraProfile, path: Path | None = None) -> GaussianModel:
        """Reads the parameters from `path` or `config/models/gaussian.yaml`."""
        return cls(load_parameters(GaussianParameters, cls.name, profile, path), profile)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the noisy frames: nearer than the near limit becomes a hole, beyond the far limit is left alone."""
        error = np.stack([normal_field(seed, frames.depth.shape[1:]) for seed in frames.seeds])
        error *= np.float32(self.parameters.sigma_px * self.parameters.scale(frames.camera))
        return EnhancedFrames(depth=add_disparity_error(frames.depth, error, frames.camera, self.profile))
