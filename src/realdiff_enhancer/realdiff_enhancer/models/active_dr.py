"""Domain randomisation in the manner of ActiveDR: every frame gets noise of random size, smoothness and holes.

It imitates no camera. What a policy learns from it has to hold for anything between hardly any noise and a lot.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames
from realdiff_enhancer.models.noise import normal_field
from realdiff_enhancer.models.parameters import Parameters, load_parameters
from realdiff_enhancer.models.stereo import add_disparity_error

if TYPE_CHECKING:
    from realdiff_core.config import CameraProfile

__all__ = ["ActiveDrModel", "ActiveDrParameters"]

_Range = tuple[float, float]


class ActiveDrParameters(Parameters):
    """Parameters of the model `active_dr`; `config/models/active_dr.yaml` explains the values."""

    sigma_px: _Range
    scale_px: _Range
    bias_px: float = Field(ge=0, le=5)
    holes: tuple[int, int]
    hole_radius_px: _Range
    edge_loss: _Range
    edge_width_px: float = Field(ge=0, le=32)
    edge_jump_relative: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _ranges(self) -> ActiveDrParameters:
        limits = {"sigma_px": (1e-4, 5), "scale_px": (1, 64), "hole_radius_px": (1, 200), "edge_loss": (0, 1)}
        for name, (low, high) in (limits | {"holes": (0, 1000)}).items():
            smallest, largest = getattr(self, name)
            if not low <= smallest <= largest <= high:
                raise ValueError(
                    f"{name} must be an increasing range within [{low}, {high}], got {getattr(self, name)}"
                )
        return self


class ActiveDrModel:
    """Random errors, one set of parameters a frame, drawn from the frame's seed.

    Pixels nearer than the profile's near limit become holes, those beyond its far limit are left alone.

    Args:
        parameters: The ranges.
        profile: Camera: its range limits where noise is added.
    """

    name = "active_dr"
    history = 0
    weights_sha256: str | None = None
    uses_colour = False

    def __init__(self, parameters: ActiveDrParameters, profile: CameraProfile) -> None:
        """Keeps the parameters."""
        self.parameters, self.profile = parameters, profile

    @classmethod
    def from_config(cls, profile: CameraProfile, path: Path | None = None) -> ActiveDrModel:
        """Reads the parameters from `path` or `config/models/active_dr.yaml`."""
        return cls(load_parameters(ActiveDrParameters, cls.name, profile, path), profile)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the noisy frames."""
        scale = self.parameters.scale(frames.camera)
        shape = frames.depth.shape[1:]
        error = np.stack([self._error(seed, shape, scale) for seed in frames.seeds])
        noisy = add_disparity_error(frames.depth, error, frames.camera, self.profile)
        for depth, result, seed in zip(frames.depth, noisy, frames.seeds, strict=True):
            lost = self._holes(depth, seed, scale) & (depth <= self.profile.far_m)
            result[lost] = np.nan
        return EnhancedFrames(depth=noisy)

    def _error(self, seed: int, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
        """Disparity error of a frame, float32 [H,W], px."""
        import cv2

        p = self.parameters
        rng = _rng(seed, "error")
        sigma, width = (_log_uniform(rng, limits) * scale for limits in (p.sigma_px, p.scale_px))
        bias = rng.uniform(-1, 1) * p.bias_px * scale
        # Wide blobs are drawn at reduced resolution.
        factor = max(1, int(width / 2))
        reduced = [math.ceil(side / factor) + 2 for side in shape]
        noise = cv2.GaussianBlur(normal_field(seed, reduced, "active_dr"), (0, 0), max(width / factor, 0.3))
        noise = cv2.resize(noise, (reduced[1] * factor, reduced[0] * factor), interpolation=cv2.INTER_LINEAR)
        noise = noise[: shape[0], : shape[1]]
        spread = max(float(noise.std()), 1e-6)
        return np.asarray(noise * np.float32(sigma / spread) + np.float32(bias), np.float32)

    def _holes(self, depth: NDArray[np.float32], seed: int, scale: float) -> NDArray[np.bool_]:
        """Pixels that a frame loses, bool [H,W]."""
        import cv2

        p = self.parameters
        rng = _rng(seed, "holes")
        height, width = depth.shape
        mask = np.zeros(depth.shape, np.uint8)
        for _ in range(rng.integers(p.holes[0], p.holes[1] + 1)):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (
                max(1, round(_log_uniform(rng, p.hole_radius_px) * scale)),
                max(1, round(_log_uniform(rng, p.hole_radius_px) * scale)),
            )
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        share = rng.uniform(*p.edge_loss)
        filled = np.where(np.isfinite(depth), depth, np.float32(self.profile.far_m))
        kernel = np.ones((3, 3), np.uint8)
        jump = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel) > p.edge_jump_relative * filled
        near = cv2.distanceTransform((~jump).astype(np.uint8), cv2.DIST_L2, 3) <= p.edge_width_px * scale
        return (mask > 0) | (near & (rng.random(depth.shape, np.float32) < share))


def _rng(seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed & (2**64 - 1), *stream.encode()])


def _log_uniform(rng: np.random.Generator, limits: _Range) -> float:
    return float(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]))))
