"""Stereo noise without learning, in the manner of Handa and Landau: all of it in disparity, in real time.

What happens to a frame, in the order in which a stereo camera does it to itself:

1. near a depth edge the foreground grows by the matching window and its outline becomes ragged; between foreground and
   background a few pixels fly (they get a disparity in between);
2. the disparity gets a smooth error that sticks to the scene from frame to frame;
3. the disparity is quantised to the camera's sub-pixel step;
4. pixels drop out: near edges, at grazing incidence, in the occlusion shadow beside a near object, too near.

Noise is drawn at a quarter (its coarse part at a sixteenth) of the resolution and enlarged: real errors have no finer
structure. Where pixels drop out is judged at half the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtri

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames
from realdiff_enhancer.models.noise import CorrelatedNoise
from realdiff_enhancer.models.parameters import Parameters, load_parameters
from realdiff_enhancer.models.smooth_noise import NoiseSeeds, SmoothNoise, enlarge

if TYPE_CHECKING:
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import CameraProfile

__all__ = ["DisparityModel", "DisparityParameters"]

_FINE, _COARSE = 4, 16  # reductions of the resolution at which noise is drawn
_SQUARE = np.ones((3, 3), np.uint8)
_PROBABILITY = (np.arange(256) / 255).astype(np.float32)
_SHADOW_TOLERANCE_PX = 0.5  # depth in millimetres makes the disparity of a near surface rough
_DISTANCE_STEPS = 4  # entries of the hole table per pixel of distance to an edge
#: Nearer to an edge than this [px of the image], the incidence angle has no say in holes.
EDGE_ALONE_PX = 4


class DisparityParameters(Parameters):
    """Parameters of the model `disparity`; `config/models/disparity.yaml` explains the values."""

    sigma_px: float = Field(ge=0, le=5)
    sigma_relative: float = Field(ge=0, le=0.1)
    fine_scale_px: float = Field(ge=2, le=64)
    coarse_scale_px: float = Field(ge=2, le=64)
    fine_share: float = Field(ge=0, le=1)
    anisotropy: float = Field(ge=0.25, le=4)
    static_share: float = Field(ge=0, le=1)
    surface_step_px: float = Field(gt=0)
    temporal_coefficient: float = Field(ge=0, lt=1)
    history: int = Field(ge=0, le=120)
    edge_jump_px: float = Field(gt=0)
    edge_jump_relative: float = Field(ge=0, le=1)
    fattening_px: int = Field(ge=0, le=8)
    warp_px: float = Field(ge=0, le=8)
    hole_scale_px: float = Field(ge=2, le=64)
    hole_edge_distance_px: list[float] = Field(min_length=1)
    hole_edge_rate: list[float] = Field(min_length=1)
    hole_incidence_cos: list[float] = Field(min_length=1)
    hole_incidence_rate: list[float] = Field(min_length=1)
    shadow_side: Literal["left", "right"]
    shadow_rate: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _tables(self) -> DisparityParameters:
        for x, rate in (
            (self.hole_edge_distance_px, self.hole_edge_rate),
            (self.hole_incidence_cos, self.hole_incidence_rate),
        ):
            if len(x) != len(rate):
                raise ValueError(f"a hole table needs one rate per entry, got {len(x)} entries and {len(rate)} rates")
            if any(b <= a for a, b in pairwise(x)):
                raise ValueError(f"the entries of a hole table must increase, got {x}")
            if any(not 0 <= r <= 1 for r in rate):
                raise ValueError(f"hole rates must be in [0, 1], got {rate}")
        return self


class HoleCauses(NamedTuple):
    """What decides on holes.

    Attributes:
        distance_px: to the nearest depth edge, float32 [H,W], pixels of the reference; it saturates at 64 pixels of the
            image.
        cosine: of the angle between surface normal and view ray, float32 [H,W].
        shadow: what the second imager can't see, bool [H,W].
    """

    distance_px: NDArray[np.float32]
    cosine: NDArray[np.float32]
    shadow: NDArray[np.bool_]


@dataclass(frozen=True)
class _Grid:
    """What depends on the resolution: lengths and tables in the pixels of an image."""

    sigma_px: np.float32
    surface_px: np.float32
    step_px: np.float32
    jump_px: float
    fattening: int
    warp_px: np.float32
    fine: SmoothNoise
    coarse: SmoothNoise
    holes: SmoothNoise
    edge_rate: NDArray[np.uint8]


class DisparityModel:
    """Correlated sub-pixel noise, quantisation, edges and holes; 640×480 at camera rate on one core.

    Pixels nearer than the profile's near limit become holes; invalid pixels stay invalid; pixels beyond its far limit
    are left alone. `discrepancy` is the probability of a hole.

    Args:
        parameters: The noise.
        profile: Camera: range and disparity step.
    """

    name = "disparity"
    weights_sha256: str | None = None
    uses_colour = False

    def __init__(self, parameters: DisparityParameters, profile: CameraProfile) -> None:
        """Prepares tables and filters."""
        p = self.parameters = parameters
        self.profile = profile
        self.history = p.history

        # Holes persist with P ≈ 0.95 in real cameras: a threshold on noise that changes slowly.
        self._hole_noise = CorrelatedNoise.smooth(p.history, stream="holes")
        self._fine_noise, self._coarse_noise, self._shift_noise = (
            CorrelatedNoise.ar1(p.temporal_coefficient, p.history, name, p.static_share)
            for name in ("fine error", "coarse error", "edge shift")
        )
        self._grids: dict[float, _Grid] = {}
        codes = np.arange(256)
        self._incidence_rate = self._table(np.interp(codes / 255, p.hole_incidence_cos, p.hole_incidence_rate))
        self._threshold = np.clip(ndtri(codes / 255), -10, 10).astype(np.float32)

    def _grid(self, camera: CameraModel) -> _Grid:
        """Lengths and tables for a camera's resolution."""
        p = self.parameters
        scale = p.scale(camera)
        if scale not in self._grids:
            distance = np.arange(256) / _DISTANCE_STEPS / scale
            self._grids[scale] = _Grid(
                sigma_px=np.float32(p.sigma_px * scale),
                surface_px=np.float32(p.surface_step_px * scale),
                step_px=np.float32(self.profile.disparity_step_px * scale),
                jump_px=p.edge_jump_px * scale,
                fattening=round(p.fattening_px * scale),
                warp_px=np.float32(p.warp_px * scale),
                fine=SmoothNoise(self._fine_noise, p.fine_scale_px * scale, p.anisotropy, _FINE),
                coarse=SmoothNoise(self._coarse_noise, p.coarse_scale_px * scale, p.anisotropy, _COARSE),
                holes=SmoothNoise(self._hole_noise, p.hole_scale_px * scale, 1.0, _FINE),
                edge_rate=self._table(np.interp(distance, p.hole_edge_distance_px, p.hole_edge_rate)),
            )
        return self._grids[scale]

    @staticmethod
    def _table(rate: NDArray[np.float64]) -> NDArray[np.uint8]:
        return np.rint(rate * 255).astype(np.uint8)

    def with_temporal(self, static_share: float, correlation: float) -> DisparityModel:
        """The same model with another behaviour of the error over time; holes keep theirs."""
        changes = {"static_share": static_share, "temporal_coefficient": correlation}
        return DisparityModel(self.parameters.model_copy(update=changes), self.profile)

    @classmethod
    def from_config(cls, profile: CameraProfile, path: Path | None = None) -> DisparityModel:
        """Reads the parameters from `path` or `config/models/disparity.yaml`."""
        return cls(load_parameters(DisparityParameters, cls.name, profile, path), profile)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the noisy frames and, as discrepancy, the probability of a hole in each pixel."""
        every = (*frames.previous_seeds, *frames.seeds)
        first = len(frames.previous_seeds)
        depth = np.empty_like(frames.depth)
        discrepancy = np.empty_like(frames.depth)
        for i, clean in enumerate(frames.depth):
            known = every[: first + i + 1]
            depth[i], discrepancy[i] = self._frame(clean, frames.camera, known, frames.stream_seed)
        return EnhancedFrames(depth=depth, discrepancy=discrepancy)

    def _frame(
        self, clean: NDArray[np.float32], camera: CameraModel, known: tuple[int, ...], stream_seed: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Noisy depth and hole probability of one frame, float32 [H,W] each."""
        import cv2

        height, width = clean.shape
        grid = self._grid(camera)
        factor = np.float32(camera.disparity_factor)
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = factor / clean
            # Invalid pixels count as infinitely far: an object against nothing still has an outline.
            disparity[~(disparity > 0)] = 0
        disparity[np.isinf(disparity)] = 0
        nearest, farthest = factor / np.float32(self.profile.near_m), factor / np.float32(self.profile.far_m)
        seeds = NoiseSeeds(known, stream_seed, disparity, grid.surface_px)
        untouched = disparity < farthest
        too_near = disparity > nearest

        near = np.asarray(cv2.dilate(disparity, _SQUARE), np.float32)
        edges = self._edges(disparity, near, grid)
        rate = self._hole_rate(disparity, edges, camera, grid)

        disparity = self._displace(disparity, near, edges, seeds, grid)
        scale = disparity * np.float32(self.parameters.sigma_relative)
        scale += grid.sigma_px
        scale *= self._error(seeds, height, width, grid)
        disparity += scale
        disparity *= 1 / grid.step_px
        np.rint(disparity, out=disparity)
        disparity *= grid.step_px

        hole = enlarge(grid.holes(seeds, height, width), _FINE, height, width) < cv2.LUT(rate, self._threshold)
        hole |= too_near
        # Out of the search range: nearer than the near limit, or an outline mixed with next to nothing behind it.
        hole |= disparity > nearest
        hole |= disparity < farthest / 2
        disparity[hole] = np.nan
        noisy: NDArray[np.float32] = factor / disparity
        np.copyto(noisy, clean, where=untouched)
        return noisy, np.asarray(cv2.LUT(rate, _PROBABILITY), np.float32)

    def _error(self, seeds: NoiseSeeds, height: int, width: int, grid: _Grid) -> NDArray[np.float32]:
        """Smooth error of unit variance, float32 [H,W]."""
        fine = grid.fine(seeds, height, width) * np.float32(self.parameters.fine_share**0.5)
        coarse = grid.coarse(seeds, height, width) * np.float32((1 - self.parameters.fine_share) ** 0.5)
        fine += enlarge(coarse, _COARSE // _FINE, *fine.shape)
        return enlarge(fine, _FINE, height, width)

    def _edges(self, disparity: NDArray[np.float32], near: NDArray[np.float32], grid: _Grid) -> NDArray[np.uint8]:
        """Depth edges, uint8 [H,W], 1 on an edge; `near` is the largest disparity around each pixel."""
        import cv2

        jump = cv2.subtract(near, cv2.erode(disparity, _SQUARE))
        limit = np.maximum(near * np.float32(self.parameters.edge_jump_relative), grid.jump_px)
        return (jump > limit).view(np.uint8)

    def _displace(
        self,
        disparity: NDArray[np.float32],
        near: NDArray[np.float32],
        edges: NDArray[np.uint8],
        seeds: NoiseSeeds,
        grid: _Grid,
    ) -> NDArray[np.float32]:
        """Fattens the foreground and makes outlines ragged; interpolation leaves flying pixels between."""
        import cv2

        height, width = disparity.shape
        if grid.fattening:
            repeats = grid.fattening - 1
            fat = cv2.dilate(near, _SQUARE, iterations=repeats) if repeats else near
            # Only at edges: on a slanted surface the largest disparity around would be a bias.
            at_edges = cv2.dilate(edges, _SQUARE, iterations=repeats + 1)
            disparity = np.asarray(cv2.copyTo(fat, at_edges, disparity.copy()), np.float32)
        shape = (2, -(-height // _FINE), -(-width // _FINE))
        shift = seeds.field(self._shift_noise, shape, _FINE, 0)
        shift *= grid.warp_px
        shift_x, shift_y = (enlarge(s, _FINE, height, width) for s in shift)
        shift_x += np.arange(width, dtype=np.float32)
        shift_y += np.arange(height, dtype=np.float32)[:, None]
        return np.asarray(cv2.remap(disparity, shift_x, shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def hole_causes(self, clean: NDArray[np.float32], camera: CameraModel) -> HoleCauses:
        """What the hole rates of a clean frame go by, float32 [H,W] metres, NaN where unknown."""
        import cv2

        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.float32(camera.disparity_factor) / clean
            disparity[~((disparity > 0) & np.isfinite(disparity))] = 0
        near = np.asarray(cv2.dilate(disparity, _SQUARE), np.float32)
        codes, cosine, shadow = self._half_causes(disparity, self._edges(disparity, near, self._grid(camera)), camera)

        def full(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.asarray(cv2.resize(image, disparity.shape[::-1], interpolation=cv2.INTER_NEAREST))

        steps = np.float32(_DISTANCE_STEPS * self.parameters.scale(camera))
        distance, cosines = (full(image).astype(np.float32) for image in (codes, cosine))
        return HoleCauses(distance / steps, cosines / np.float32(255), full(shadow.view(np.uint8)) > 0)

    def _half_causes(
        self, disparity: NDArray[np.float32], edges: NDArray[np.uint8], camera: CameraModel
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        """Distance to an edge in quarters of a pixel, cosine of the incidence (255 = 1), shadow; half resolution."""
        import cv2

        rows, columns = max(1, disparity.shape[0] // 2), max(1, disparity.shape[1] // 2)
        half = np.asarray(cv2.resize(disparity, (columns, rows), interpolation=cv2.INTER_NEAREST), np.float32)
        # An edge of a single pixel must survive the halving.
        small = np.asarray(
            cv2.resize(cv2.dilate(edges, _SQUARE), (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8
        )
        if small.any():
            distance = cv2.distanceTransform(1 - small, cv2.DIST_L2, 3)
            codes = np.asarray(cv2.convertScaleAbs(distance, alpha=2 * _DISTANCE_STEPS), np.uint8)
        else:
            codes = np.full(half.shape, 255, np.uint8)
        return codes, self._incidence_codes(half, camera), self._shadow(half)

    def _hole_rate(
        self, disparity: NDArray[np.float32], edges: NDArray[np.uint8], camera: CameraModel, grid: _Grid
    ) -> NDArray[np.uint8]:
        """Probability of a hole, uint8 [H,W], 255 = 1."""
        import cv2

        codes, cosine, shadow = self._half_causes(disparity, edges, camera)
        rate = cv2.LUT(codes, grid.edge_rate)
        incidence = cv2.LUT(cosine, self._incidence_rate)
        # At an edge the gradient is not a surface's: there the distance table speaks alone.
        incidence[codes < EDGE_ALONE_PX * _DISTANCE_STEPS] = 0
        rate = cv2.max(rate, incidence)
        rate[shadow] = np.maximum(rate[shadow], np.uint8(round(255 * self.parameters.shadow_rate)))
        return np.asarray(cv2.resize(rate, disparity.shape[::-1], interpolation=cv2.INTER_LINEAR))

    def _shadow(self, half: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Pixels that the second imager can't see, bool, at half the resolution (the disparity in full pixels).

        In the second imager the pixel of column x lies at x − d (second imager at the right). It is hidden there if a
        nearer pixel of the same row covers the same column: one further right in this image that lands left of it.
        """
        mirrored = self.parameters.shadow_side == "right"
        disparity = half[:, ::-1] if mirrored else half
        landing = 2 * np.arange(half.shape[1], dtype=np.float32) - disparity
        leftmost = np.minimum.accumulate(landing[:, ::-1], axis=1)[:, ::-1]
        hidden = leftmost < landing - np.float32(_SHADOW_TOLERANCE_PX)
        return hidden[:, ::-1] if mirrored else hidden

    def _incidence_codes(self, half: NDArray[np.float32], camera: CameraModel) -> NDArray[np.uint8]:
        """Cosine of the incidence angle, uint8, 255 = 1 (head on), at half the resolution.

        A plane is linear in disparity, so the gradient of the disparity gives its normal without back-projection.
        """
        import cv2

        rows, columns = half.shape
        fx, fy = np.float32(camera.fx / 2), np.float32(camera.fy / 2)
        ray_x = (np.arange(columns, dtype=np.float32) - np.float32(camera.cx / 2)) / fx
        ray_y = ((np.arange(rows, dtype=np.float32) - np.float32(camera.cy / 2)) / fy)[:, None]
        # 5×5 Sobel (divided by its sum of weights): steadier than a difference of two pixels.
        normal_x = cv2.Sobel(half, cv2.CV_32F, 1, 0, ksize=5, scale=1 / 128) * fx
        normal_y = cv2.Sobel(half, cv2.CV_32F, 0, 1, ksize=5, scale=1 / 128) * fy
        normal_z = half - normal_x * ray_x - normal_y * ray_y
        length = normal_x * normal_x
        length += normal_y * normal_y
        length += normal_z * normal_z
        ray_length = 1 + ray_x * ray_x + ray_y * ray_y
        length *= ray_length
        np.sqrt(length, out=length)
        return np.asarray(cv2.convertScaleAbs(cv2.divide(half, length), alpha=255))
