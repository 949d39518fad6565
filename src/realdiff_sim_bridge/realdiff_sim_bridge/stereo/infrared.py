"""What the two infrared imagers see: dot projector, ambient light, surface reflection, optics, exposure and noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from scipy.ndimage import gaussian_filter

from realdiff_sim_bridge.stereo.settings import StereoSettings

Float = NDArray[np.float32]

# The projector's field as tangents of the half angles: a little wider than the imagers'.
_FIELD_X, _FIELD_Y = 1.05, 0.75
_PATTERN_SCALE = 900  # pattern pixels per unit of tangent: > 2 × the imagers' focal length at 640 × 480


@dataclass(frozen=True)
class ImagerView:
    """What a simulator renders for one imager, at the pixel centres, in that imager's optical frame (x right, y down).

    Attributes:
        depth: float32 [H,W], z-depth in metres; NaN, 0 or inf where there is no surface.
        albedo: float32 [H,W] in [0,1], diffuse reflectance in near infrared.
        gloss: float32 [H,W] in [0,1], 0 = matt, 1 = mirror.
    """

    depth: Float
    albedo: Float
    gloss: Float

    def __post_init__(self) -> None:
        """Check that the three maps agree."""
        if self.depth.ndim != 2 or self.albedo.shape != self.depth.shape or self.gloss.shape != self.depth.shape:
            raise ValueError(
                "depth, albedo and gloss must be [H,W] of one size, "
                f"got {self.depth.shape}, {self.albedo.shape}, {self.gloss.shape}"
            )


@dataclass(frozen=True)
class Unit:
    """The constant individuality of one camera: pattern, calibration error, pixel response.

    Attributes:
        pattern: float32 image of the projected field over tangents ±`_FIELD_X`, ±`_FIELD_Y`.
        bias: float32 [H,W], pixels that the right image is shifted by along rows.
        epipolar: float32 [H,W], the same along columns.
        speckle: two float32 images in pattern coordinates, unit variance: each imager sees its own laser speckle.
        response: two float32 [H,W], relative pixel response of the left and right imager.
        scale: measured baseline / true baseline.
        surroundings: float32 image that glossy surfaces mirror.
    """

    pattern: Float
    bias: Float
    epipolar: Float
    speckle: tuple[Float, Float]
    response: tuple[Float, Float]
    scale: float
    surroundings: Float


def smooth_field(rng: np.random.Generator, height: int, width: int, cells: int) -> Float:
    """Smooth random field, zero mean, unit variance: `cells` random nodes along the width, cubic in between."""
    rows = max(3, round(cells * height / width))
    nodes = rng.standard_normal((rows, cells)).astype(np.float32)
    field = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def make_unit(settings: StereoSettings, camera: CameraModel, seed: int) -> Unit:
    """Build the constant individuality of camera number `seed`."""
    rng = np.random.default_rng([seed, 0x5EED])
    height, width = camera.height, camera.width
    surroundings = np.zeros((256, 256), np.float32)
    for cells, weight in ((4, 1.0), (10, 0.7), (32, 0.5), (90, 0.25)):
        surroundings += weight * smooth_field(rng, 256, 256, cells)
    # A few strong lamps and windows in dim surroundings, as indoors.
    surroundings = np.exp(0.9 * surroundings).astype(np.float32)
    field = np.zeros((height, width), np.float32)
    for nodes, weight in ((5, 0.8), (16, 0.45), (30, 0.4)):
        field += np.float32(weight) * smooth_field(rng, height, width, nodes)
    return Unit(
        pattern=dot_pattern(settings, rng),
        bias=(settings.bias_px * field).astype(np.float32),
        epipolar=(settings.epipolar_px * smooth_field(rng, height, width, 4)).astype(np.float32),
        speckle=(_speckle(rng), _speckle(rng)),
        response=(_response(settings, rng, height, width), _response(settings, rng, height, width)),
        scale=1.0 + settings.scale_error * float(rng.standard_normal()),
        surroundings=(surroundings / surroundings.mean()).astype(np.float32),
    )


def _response(settings: StereoSettings, rng: np.random.Generator, height: int, width: int) -> Float:
    return np.asarray(1 + settings.fixed_pattern * rng.standard_normal((height, width)), dtype=np.float32)


def _speckle(rng: np.random.Generator) -> Float:
    field = gaussian_filter(rng.standard_normal((512, 512)), 1.5, mode="wrap")
    return np.asarray(field / field.std(), dtype=np.float32)


def dot_pattern(settings: StereoSettings, rng: np.random.Generator) -> Float:
    """Pseudo-random dots, constant in angle: a jittered grid (no two dots coincide, as with a diffractive element)."""
    width, height = round(2 * _FIELD_X * _PATTERN_SCALE), round(2 * _FIELD_Y * _PATTERN_SCALE)
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
    sigma = settings.dot_sigma * _PATTERN_SCALE
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma) * (2 * np.pi * sigma**2), dtype=np.float32)


def surface_normals(depth: Float, camera: CameraModel) -> Float:
    """Unit normals [H,W,3] facing the camera from z-depth; at depth edges the flatter side is taken."""
    step_x, step_y = np.diff(depth, axis=1), np.diff(depth, axis=0)

    def flatter(before: Float, after: Float) -> Float:
        return np.where(np.abs(before) < np.abs(after), before, after)

    slope_x = flatter(np.pad(step_x, ((0, 0), (1, 0)), "edge"), np.pad(step_x, ((0, 0), (0, 1)), "edge"))
    slope_y = flatter(np.pad(step_y, ((1, 0), (0, 0)), "edge"), np.pad(step_y, ((0, 1), (0, 0)), "edge"))
    u = np.arange(camera.width, dtype=np.float32)[None, :] - np.float32(camera.cx)
    v = np.arange(camera.height, dtype=np.float32)[:, None] - np.float32(camera.cy)
    normal = np.stack(
        (np.float32(camera.fx) * slope_x, np.float32(camera.fy) * slope_y, -(depth + u * slope_x + v * slope_y)),
        axis=-1,
    )
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9), dtype=np.float32)


def _unit_vectors(vectors: Float) -> tuple[Float, Float]:
    length = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return vectors / np.maximum(length, 1e-6), length[..., 0]


def radiance(
    view: ImagerView,
    camera: CameraModel,
    imager_x_m: float,
    settings: StereoSettings,
    unit: Unit,
    light: NDArray[np.float64],
    projector_depth: Float | None,
) -> Float:
    """Light that reaches an imager from every pixel, before optics and exposure.

    Args:
        view: surfaces as this imager sees them.
        camera: its intrinsics.
        imager_x_m: its position along the left imager's x axis, metres (0 left, baseline right).
        settings: the camera's settings.
        unit: the camera's individuality.
        light: unit vector [3] towards the directed part of the ambient light, camera frame.
        projector_depth: float32 [H,W] z-depth seen from the projector, same intrinsics (for its shadows), or None.

    Returns:
        float32 [H,W] in the light unit of `StereoSettings`.
    """
    surface = np.isfinite(view.depth) & (view.depth > 0)
    depth = np.where(surface, view.depth, np.float32(50.0)).astype(np.float32)
    u = (np.arange(camera.width, dtype=np.float32)[None, :] - np.float32(camera.cx)) / np.float32(camera.fx)
    v = (np.arange(camera.height, dtype=np.float32)[:, None] - np.float32(camera.cy)) / np.float32(camera.fy)
    points = np.stack((u * depth, v * depth + 0 * u, depth), axis=-1)
    normal = surface_normals(depth, camera)
    to_imager, _ = _unit_vectors(-points)
    from_projector = points - np.array([settings.projector_offset_m - imager_x_m, 0, 0], np.float32)
    tan_x, tan_y = from_projector[..., 0] / depth, from_projector[..., 1] / depth
    to_projector, distance = _unit_vectors(-from_projector)

    dots = cv2.remap(
        unit.pattern,
        (tan_x + np.float32(_FIELD_X)) * np.float32(_PATTERN_SCALE),
        (tan_y + np.float32(_FIELD_Y)) * np.float32(_PATTERN_SCALE),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    power = np.float32(settings.projector_power) * dots / np.square(distance)
    if settings.speckle > 0:
        # Changes when camera or surface move by millimetres, stands still with them, and is independent in the two
        # imagers: that is why an active-stereo camera's error is much larger in space than in time.
        grain = cv2.remap(
            unit.speckle[0 if imager_x_m == 0 else 1],
            ((tan_x * np.float32(_PATTERN_SCALE) + depth * np.float32(1700)) % 512).astype(np.float32),
            ((tan_y * np.float32(_PATTERN_SCALE) + depth * np.float32(2300)) % 512).astype(np.float32),
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_WRAP,
        )
        power = power * np.clip(1 + np.float32(settings.speckle) * grain, 0, None)
    if projector_depth is not None:
        nearest = cv2.remap(
            np.where(np.isfinite(projector_depth) & (projector_depth > 0), projector_depth, np.float32(50.0)).astype(
                np.float32
            ),
            tan_x * np.float32(camera.fx) + np.float32(camera.cx),
            tan_y * np.float32(camera.fy) + np.float32(camera.cy),
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        power[depth > nearest * 1.01 + 0.004] = 0

    facing = np.clip(np.einsum("...i,...i->...", normal, to_projector), 0, 1)
    directed = np.clip(normal @ light.astype(np.float32), 0, 1)
    share = np.float32(settings.ambient_direction)
    ambient = np.float32(settings.ambient) * ((1 - share) + share * 1.6 * directed)
    # Energy goes into the mirror direction or into the diffuse part, not into both.
    diffuse = view.albedo * (1 - 0.6 * view.gloss)
    light_out = diffuse * (ambient + power * facing)
    if np.any(view.gloss > 0.02):
        half, _ = _unit_vectors(to_imager + to_projector)
        sharpness = 8 + 400 * np.square(view.gloss)
        lobe = np.clip(np.einsum("...i,...i->...", normal, half), 1e-4, 1) ** sharpness
        cosine = np.clip(np.einsum("...i,...i->...", normal, to_imager), 0, 1)
        fresnel = 0.04 + 0.8 * np.square(view.gloss)
        fresnel = fresnel + (1 - fresnel) * (1 - cosine) ** 5
        mirrored = 2 * cosine[..., None] * normal - to_imager
        mirrored, _ = _unit_vectors(
            mirrored + points / np.float32(2.5)
        )  # surroundings a few metres away, not at infinity
        around = cv2.remap(
            unit.surroundings,
            (mirrored[..., 0] * np.float32(0.5) + np.float32(0.5)) * 255,
            (mirrored[..., 1] * np.float32(0.5) + np.float32(0.5)) * 255,
            cv2.INTER_LINEAR,
        )
        strength = view.gloss * fresnel
        light_out += strength * (
            np.float32(settings.highlight) * lobe * (power + 0.1 * settings.projector_power / np.square(distance))
            + np.float32(settings.reflection * settings.ambient) * around
        )
    off_axis = 1 / (
        1 + np.square(u) + np.square(v)
    )  # cos² of the field angle: lens shading that the driver half corrects
    return np.asarray(np.where(surface, light_out, 0.1 * settings.ambient) * off_axis, dtype=np.float32)


def expose(
    light_left: Float, light_right: Float, settings: StereoSettings, unit: Unit, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
    """Optics, calibration error, common auto-exposure, shot and read noise, 8-bit quantisation.

    Returns:
        Left and right image, uint8 [H,W], and the noise of a mid-grey pixel (1 sigma, grey levels).
    """
    height, width = light_left.shape
    grid_y, grid_x = np.mgrid[0:height, 0:width].astype(np.float32)
    shifted = cv2.remap(
        light_right, grid_x + unit.bias, grid_y + unit.epipolar, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if settings.blur_px > 0:
        light_left = np.asarray(cv2.GaussianBlur(light_left, (0, 0), settings.blur_px), dtype=np.float32)
        shifted = np.asarray(cv2.GaussianBlur(shifted, (0, 0), settings.blur_px), dtype=np.float32)
    # The 98th percentile, not the median: dots must not saturate, and they cover only a few per cent.
    level = max(float(np.percentile(light_left[::2, ::2], 98)), 1e-6)
    exposure = min(settings.exposure_max, settings.exposure_target / level)
    gain = min(settings.gain_max, max(1.0, settings.exposure_target / (level * exposure)))
    images = []
    for light, response in ((light_left, unit.response[0]), (shifted, unit.response[1])):
        electrons = np.minimum(light * np.float32(exposure * settings.full_well_e), np.float32(settings.full_well_e))
        noise = np.sqrt(electrons + np.float32(settings.read_noise_e**2))
        electrons = electrons * response + noise * rng.standard_normal(light.shape, dtype=np.float32)
        images.append(
            np.clip(np.rint(electrons * np.float32(255 * gain / settings.full_well_e)), 0, 255).astype(np.uint8)
        )
    dim = 0.1 * settings.full_well_e / gain
    sigma = 255 * gain / settings.full_well_e * float(np.sqrt(dim + settings.read_noise_e**2))
    return images[0], images[1], sigma
