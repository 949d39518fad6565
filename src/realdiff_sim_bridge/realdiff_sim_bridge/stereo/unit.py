"""The constant individuality of one camera: dot pattern, calibration error, speckle, pixel response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

from realdiff_sim_bridge.stereo.settings import StereoSettings

Float = NDArray[np.float32]

# The projector's field as tangents of the half angles: a little wider than the imagers'.
FIELD_X, FIELD_Y = 1.05, 0.75
PATTERN_SCALE = 900.0  # pattern pixels per unit of tangent: > 2 × the imagers' focal length at 848 × 480
SPECKLE_SIZE = 512  # a power of two
SURROUNDINGS_SIZE = 256


@dataclass(frozen=True)
class Unit:
    """One camera.

    Attributes:
        pattern: float32 image of the projected field over tangents ±`FIELD_X`, ±`FIELD_Y`.
        bias: float32 [H,W], pixels that the right image is shifted by along rows.
        epipolar: float32 [H,W], the same along columns.
        speckle: float32 [2,S,S] in pattern coordinates, unit variance: each imager sees its own laser speckle.
        response: float32 [2,H,W], relative pixel response of the left and right imager.
        scale: measured baseline / true baseline.
        surroundings: float32 image that glossy surfaces mirror.
        light: float32 [3], unit vector towards the directed part of the ambient light, camera frame.
    """

    pattern: Float
    bias: Float
    epipolar: Float
    speckle: Float
    response: Float
    scale: float
    surroundings: Float
    light: Float


def make_unit(settings: StereoSettings, camera: CameraModel, seed: int) -> Unit:
    """Build camera number `seed`."""
    rng = np.random.default_rng([seed, 0x5EED])
    height, width = camera.height, camera.width
    size = SURROUNDINGS_SIZE
    around = np.zeros((size, size), np.float32)
    for cells, weight in ((4, 1.0), (10, 0.7), (32, 0.5), (90, 0.25)):
        around += np.float32(weight) * smooth_field(rng, size, size, cells)
    # A few strong lamps and windows in dim surroundings, as indoors.
    around = np.exp(np.float32(0.9) * around)
    bias = np.zeros((height, width), np.float32)
    for cells, weight in ((5, 0.8), (16, 0.45), (30, 0.4)):
        bias += np.float32(weight) * smooth_field(rng, height, width, cells)
    light = rng.standard_normal(3)
    light[1] = -abs(light[1]) - 1.0  # mostly from above (y points down)
    return Unit(
        pattern=dot_pattern(settings, rng),
        bias=np.float32(settings.bias_px) * bias,
        epipolar=np.float32(settings.epipolar_px) * smooth_field(rng, height, width, 4),
        speckle=np.stack([_speckle(rng), _speckle(rng)]),
        response=1 + np.float32(settings.fixed_pattern) * rng.standard_normal((2, height, width), dtype=np.float32),
        scale=1.0 + settings.scale_error * float(rng.standard_normal()),
        surroundings=np.asarray(around / around.mean(), dtype=np.float32),
        light=np.asarray(light / np.linalg.norm(light), dtype=np.float32),
    )


def smooth_field(rng: np.random.Generator, height: int, width: int, cells: int) -> Float:
    """Smooth random field float32 [height,width], zero mean, unit variance: cubic splines over `cells` random nodes."""
    rows = max(4, round(cells * height / width))
    nodes = rng.standard_normal((rows, max(4, cells)))
    field = _splines(height, rows) @ nodes @ _splines(width, max(4, cells)).T
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def _splines(length: int, count: int) -> NDArray[np.float64]:
    """Values of `count` uniform cubic B-splines at `length` pixel centres, float64 [length,count]."""
    knots = np.arange(-3, count + 1, dtype=np.float64)
    at = (np.arange(length) + 0.5) / length * (count - 3)
    return np.asarray(BSpline.design_matrix(at, knots, 3).toarray())


def _speckle(rng: np.random.Generator) -> Float:
    field = gaussian_filter(rng.standard_normal((SPECKLE_SIZE, SPECKLE_SIZE)), 1.5, mode="wrap")
    return np.asarray(field / field.std(), dtype=np.float32)


def dot_pattern(settings: StereoSettings, rng: np.random.Generator) -> Float:
    """Pseudo-random dots, constant in angle: a jittered grid (no two dots coincide, as with a diffractive element)."""
    width, height = round(2 * FIELD_X * PATTERN_SCALE), round(2 * FIELD_Y * PATTERN_SCALE)
    columns = round(np.sqrt(settings.dots * width / height))
    rows = max(1, round(settings.dots / columns))
    grid_y, grid_x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x = (grid_x + 0.5 + rng.uniform(-0.55, 0.55, grid_x.shape)) * width / columns
    y = (grid_y + 0.5 + rng.uniform(-0.55, 0.55, grid_y.shape)) * height / rows
    power = np.exp(0.35 * rng.standard_normal(grid_x.shape))
    image = np.zeros((height, width), np.float32)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):  # bilinear splat: dots lie between pattern pixels
        for dy in (0, 1):
            weight = power * np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
            inside = (x0 + dx >= 0) & (x0 + dx < width) & (y0 + dy >= 0) & (y0 + dy < height)
            np.add.at(image, (y0[inside] + dy, x0[inside] + dx), weight[inside].astype(np.float32))
    sigma = settings.dot_sigma * PATTERN_SCALE
    return np.asarray(gaussian_filter(image, sigma, truncate=3.0) * np.float32(2 * np.pi * sigma**2), dtype=np.float32)
