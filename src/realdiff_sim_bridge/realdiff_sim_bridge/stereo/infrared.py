"""What the two infrared imagers see: dot projector, ambient light, surface reflection, glass, exposure, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.arrays import Array, Arrays
from realdiff_sim_bridge.stereo.settings import StereoSettings
from realdiff_sim_bridge.stereo.unit import (
    FIELD_X,
    FIELD_Y,
    PATTERN_SCALE,
    SPECKLE_SIZE,
    SURROUNDINGS_SIZE,
    Unit,
)

Float = NDArray[np.float32]

_NOWHERE_M = 50.0  # depth of pixels without a surface
_MATT = 0.02  # gloss up to which nothing is mirrored


@dataclass(frozen=True)
class ImagerView:
    """What a simulator renders for one imager, at the pixel centres, in that imager's optical frame (x right, y down).

    Attributes:
        depth: float32 [H,W], z-depth in metres; NaN, 0 or inf where there is no surface.
        albedo: float32 [H,W] in [0,1], diffuse reflectance in near infrared.
        gloss: float32 [H,W] in [0,1], 0 = matt, 1 = mirror.
        transmission: float32 [H,W] in [0,1], share of the light that passes the first surface unscattered (glass);
            None: everything is opaque.
        behind: the view without the transparent things, needed with `transmission`.
    """

    depth: Float
    albedo: Float
    gloss: Float
    transmission: Float | None = None
    behind: ImagerView | None = None

    def __post_init__(self) -> None:
        """Check that the maps agree."""
        shapes = [self.depth.shape, self.albedo.shape, self.gloss.shape]
        if self.transmission is not None:
            if self.behind is None:
                raise ValueError("a view with transmission needs the view behind")
            shapes += [self.transmission.shape, self.behind.depth.shape]
        if self.depth.ndim != 2 or len(set(shapes)) != 1:
            raise ValueError(f"all maps of a view must be [H,W] of one size, got {shapes}")


@dataclass(frozen=True)
class Surfaces:
    """A batch of views in a back end: the attributes of `ImagerView` as [B,H,W]."""

    depth: Array
    albedo: Array
    gloss: Array
    transmission: Array | None = None
    behind: Surfaces | None = None


def stack_views(arrays: Arrays, views: list[ImagerView]) -> Surfaces:
    """Bring views of one size to a back end."""
    opaque = all(view.transmission is None or not np.any(view.transmission) for view in views)

    stack = arrays.upload_images
    depth, albedo, gloss = (stack([getattr(view, name) for view in views]) for name in ("depth", "albedo", "gloss"))
    if opaque:
        return Surfaces(depth, albedo, gloss)
    zero = np.zeros_like(views[0].depth)
    transmission = stack([zero if view.transmission is None else view.transmission for view in views])
    behind = stack_views(arrays, [view if view.behind is None else view.behind for view in views])
    return Surfaces(depth, albedo, gloss, transmission, behind)


@dataclass(frozen=True)
class _Light:
    """Light from a surface towards the imager, by where it comes from; [B,H,W] each."""

    ambient: Array
    projected: Array
    mirrored: Array


class Optics:
    """Light and imagers of one camera in a back end.

    Args:
        arrays: the back end.
        camera: intrinsics of both imagers.
        settings: the camera's settings.
        unit: the camera's individuality.
    """

    def __init__(self, arrays: Arrays, camera: CameraModel, settings: StereoSettings, unit: Unit) -> None:
        """See the class."""
        self._arrays, self._xp = arrays, arrays.xp
        self._camera, self._settings = camera, settings
        self._light = [float(value) for value in unit.light]
        columns = np.arange(camera.width, dtype=np.float32)[None, None, :]
        rows = np.arange(camera.height, dtype=np.float32)[None, :, None]
        self._columns, self._rows = arrays.upload(columns), arrays.upload(rows)
        self._u = arrays.upload((columns - np.float32(camera.cx)) / np.float32(camera.fx))
        self._v = arrays.upload((rows - np.float32(camera.cy)) / np.float32(camera.fy))
        self._pattern = arrays.upload(unit.pattern)
        self._speckle = arrays.upload(unit.speckle)
        self._surroundings = arrays.upload(unit.surroundings)
        self._shift_x, self._shift_y = arrays.upload(unit.bias), arrays.upload(unit.epipolar)
        self._response = arrays.upload(unit.response)

    def radiance(self, view: Surfaces, imager: int, projector_depth: Array | None) -> Array:
        """Light that reaches an imager from every pixel, before optics and exposure.

        Args:
            view: surfaces as this imager sees them.
            imager: 0 left, 1 right.
            projector_depth: float32 [B,H,W] z-depth seen from the projector, same intrinsics, without transparent
                things (for its shadows), or None.

        Returns:
            float32 [B,H,W] in the light unit of `StereoSettings`.
        """
        xp = self._xp
        depth, known = self._filled(view.depth)
        normal = self.normals(depth)
        front = self._shade(view, depth, normal, imager, projector_depth, self._v)
        light = front.ambient + front.projected + front.mirrored
        if view.transmission is not None and view.behind is not None:
            passed = view.transmission
            light = (1 - passed) * (front.ambient + front.projected) + front.mirrored
            rows = self._rows_with(passed > 0)
            light[:, rows] += self._through(view.behind, depth, normal, passed, rows, imager, projector_depth)
            known = known | (passed > 0)
        # cos² of the field angle: lens shading that the driver half corrects
        off_axis = 1 / (1 + self._u * self._u + self._v * self._v)
        return xp.where(known, light, 0.1 * self._settings.ambient) * off_axis

    def _rows_with(self, mask: Array) -> slice:
        """The rows in which a mask is set anywhere, and two on either side."""
        found = np.flatnonzero(self._arrays.download(mask.any(2).any(0)))
        return slice(max(0, int(found[0]) - 2), int(found[-1]) + 3) if len(found) else slice(0, 3)

    def _through(
        self,
        behind: Surfaces,
        depth: Array,
        normal: tuple[Array, Array, Array],
        passed: Array,
        rows: slice,
        imager: int,
        projector_depth: Array | None,
    ) -> Array:
        """Light from behind the glass, in some rows: the projector's passes the glass twice, ambient light once."""
        passed = passed[:, rows]
        seen = self._refracted(behind, depth[:, rows], [part[:, rows] for part in normal], passed, rows)
        v = self._v[:, rows]
        back = self._shade(seen, seen.depth, self.normals(seen.depth, v), imager, projector_depth, v)
        return passed * (back.ambient + back.mirrored) + passed * passed * back.projected

    def _filled(self, depth: Array) -> tuple[Array, Array]:
        known = self._xp.isfinite(depth) & (depth > 0)
        return self._xp.where(known, depth, _NOWHERE_M), known

    def normals(self, depth: Array, v: Array | None = None) -> tuple[Array, Array, Array]:
        """Unit normals (x, y, z), [B,H,W] each, facing the camera; at depth edges the flatter side counts.

        Args:
            depth: float32 [B,H,W], without NaN.
            v: tangents of the rows if `depth` is a part of the image.
        """
        xp, camera = self._xp, self._camera

        def flatter(before: Array, after: Array) -> Array:
            return xp.where(xp.abs(before) < xp.abs(after), before, after)

        step = depth[:, :, 1:] - depth[:, :, :-1]
        across = flatter(xp.concatenate([step[:, :, :1], step], 2), xp.concatenate([step, step[:, :, -1:]], 2))
        step = depth[:, 1:] - depth[:, :-1]
        down = flatter(xp.concatenate([step[:, :1], step], 1), xp.concatenate([step, step[:, -1:]], 1))
        x, y = camera.fx * across, camera.fy * down
        z = -(depth + self._u * x + (self._v if v is None else v) * y)
        length = xp.sqrt(x * x + y * y + z * z)
        return x / length, y / length, z / length

    def _refracted(
        self, behind: Surfaces, depth: Array, normal: Sequence[Array], passed: Array, rows: slice
    ) -> Surfaces:
        """The view behind glass in some rows, displaced where the glass is tilted against the line of sight.

        A plate of thickness t and index n shifts a ray by about t (1 − 1/n) times the tangent of the incidence angle;
        `refraction_m` is t (1 − 1/n). Thick curved glass bends more: the tangent may reach 4.
        """
        xp, arrays, camera = self._xp, self._arrays, self._camera
        slant = xp.clip(-normal[2], 0.25, 1.0)
        reach = xp.where(passed > 0, camera.fx * self._settings.refraction_m / depth / slant, 0.0)
        x = arrays.whole(xp.clip(self._columns + reach * normal[0] + 0.5, 0, camera.width - 1))
        y = arrays.whole(xp.clip(self._rows[:, rows] + reach * normal[1] + 0.5, 0, camera.height - 1))
        index = self._frames(depth) * (camera.height * camera.width) + y * camera.width + x

        def moved(values: Array) -> Array:
            return xp.take(values, index)

        filled, _ = self._filled(behind.depth)
        return Surfaces(moved(filled), moved(behind.albedo), moved(behind.gloss))

    def _frames(self, like: Array) -> Array:
        return self._arrays.whole(self._arrays.counting(len(like)))[:, None, None]

    def _shade(
        self,
        view: Surfaces,
        depth: Array,
        normal: tuple[Array, Array, Array],
        imager: int,
        projector_depth: Array | None,
        v: Array,
    ) -> _Light:
        """Light that one layer of surfaces sends to the imager."""
        xp, s = self._xp, self._settings
        x, y = self._u * depth, v * depth
        offset = s.projector_offset_m - imager * s.baseline_m
        from_x = x - offset
        tan_x, tan_y = from_x / depth, v + 0 * from_x
        square = from_x * from_x + y * y + depth * depth
        distance = xp.sqrt(square)
        power = s.projector_power * self._dots(tan_x, tan_y, depth, imager) / square
        if projector_depth is not None:
            power = xp.where(self._lit(tan_x, tan_y, depth, projector_depth), power, 0.0)
        facing = xp.clip(-(normal[0] * from_x + normal[1] * y + normal[2] * depth) / distance, 0, 1)
        light = self._light
        directed = xp.clip(normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2], 0, 1)
        ambient = s.ambient * ((1 - s.ambient_direction) + s.ambient_direction * 1.6 * directed)
        scattered, mirrored = view.albedo, 0.0
        shiny = xp.argwhere((view.gloss > _MATT).reshape(-1))[:, 0]
        if len(shiny):
            share, glow = self._mirrored(view, shiny, (x, y, depth), (from_x, distance, square), normal, power)
            # What is mirrored isn't scattered: neither on the light's way in nor on its way out.
            scattered = view.albedo * xp.square(1 - self._spread(share, shiny, depth))
            mirrored = self._spread(glow, shiny, depth)
        return _Light(scattered * ambient, scattered * power * facing, mirrored)

    def _spread(self, values: Array, index: Array, like: Array) -> Array:
        """Values at some flat indices, 0 elsewhere, in the shape of `like`."""
        out = self._xp.zeros_like(like)
        out.reshape(-1)[index] = values
        return out

    def _dots(self, tan_x: Array, tan_y: Array, depth: Array, imager: int) -> Array:
        """Dot pattern with this imager's laser speckle."""
        xp = self._xp
        at_x, at_y = tan_x * PATTERN_SCALE, tan_y * PATTERN_SCALE
        left, top = FIELD_X * PATTERN_SCALE, FIELD_Y * PATTERN_SCALE
        dots = self._arrays.bilinear(self._pattern, at_x + left, at_y + top)
        inside = (xp.abs(tan_x) < FIELD_X) & (xp.abs(tan_y) < FIELD_Y)
        dots = xp.where(inside, dots, 0.0)
        if self._settings.speckle == 0:
            return dots
        # Changes when camera or surface move by millimetres, stands still with them, and is independent in the two
        # imagers: that is why an active-stereo camera's error is much larger in space than in time.
        column = self._arrays.whole(at_x + depth * 1700 + 2**20) & (SPECKLE_SIZE - 1)
        row = self._arrays.whole(at_y + depth * 2300 + 2**20) & (SPECKLE_SIZE - 1)
        grain = xp.take(self._speckle[imager], row * SPECKLE_SIZE + column)
        return dots * xp.clip(1 + self._settings.speckle * grain, 0, None)

    def _lit(self, tan_x: Array, tan_y: Array, depth: Array, projector_depth: Array) -> Array:
        """Whether the projector sees the point."""
        xp, arrays, camera = self._xp, self._arrays, self._camera
        nearest, _ = self._filled(projector_depth)
        column = arrays.whole(xp.clip(tan_x * camera.fx + (camera.cx + 0.5), 0, camera.width - 1))
        row = arrays.whole(xp.clip(tan_y * camera.fy + (camera.cy + 0.5), 0, camera.height - 1))
        index = self._frames(depth) * (camera.height * camera.width) + row * camera.width + column
        return depth <= xp.take(nearest, index) * 1.01 + 0.004

    def _mirrored(
        self,
        view: Surfaces,
        index: Array,
        point: tuple[Array, Array, Array],
        projector: tuple[Array, Array, Array],
        normal: tuple[Array, Array, Array],
        power: Array,
    ) -> tuple[Array, Array]:
        """What shiny pixels mirror: highlight of the projector, and surroundings.

        Schlick's Fresnel term ("An inexpensive BRDF model", 1994) and a Blinn–Phong lobe of constant energy: a smoother
        surface's highlight is narrower and brighter.

        Args:
            view: the surfaces.
            index: flat indices [N] of the shiny pixels.
            point: x, y, z of every pixel.
            projector: x from the projector, distance from it, and the distance's square.
            normal: x, y, z.
            power: the projector's light at every pixel.

        Returns:
            Share of the light that is mirrored and the mirrored light, float32 [N].
        """
        xp, s = self._xp, self._settings

        def picked(values: Array) -> Array:
            return xp.take(values, index)

        gloss = picked(view.gloss)
        x, y, depth = (picked(values) for values in point)
        from_x, distance, square = (picked(values) for values in projector)
        normal_x, normal_y, normal_z = (picked(values) for values in normal)
        far = xp.sqrt(x * x + y * y + depth * depth)
        half = (-x / far - from_x / distance, -y / far - y / distance, -depth / far - depth / distance)
        length = xp.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2])
        facing = (normal_x * half[0] + normal_y * half[1] + normal_z * half[2]) / length
        sharpness = xp.exp2(3 + 8 * gloss)
        lobe = (sharpness + 8) / 8 * xp.exp(sharpness * xp.log(xp.clip(facing, 1e-4, 1)))
        cosine = xp.clip(-(normal_x * x + normal_y * y + normal_z * depth) / far, 0, 1)
        base = 0.04 + 0.8 * gloss * gloss
        if view.transmission is not None:
            base = xp.where(picked(view.transmission) > 0, 0.08, base)  # both sides of a pane: 4 % each
        graze = 1 - cosine
        share = gloss * (base + (1 - base) * (graze * graze) * (graze * graze) * graze)
        # Mirror direction, towards surroundings a few metres away, not at infinity.
        towards = (
            2 * cosine * normal_x + x / far + x / 2.5,
            2 * cosine * normal_y + y / far + y / 2.5,
            2 * cosine * normal_z + depth / far + depth / 2.5,
        )
        length = xp.sqrt(towards[0] * towards[0] + towards[1] * towards[1] + towards[2] * towards[2]) + 1e-6
        scale = (SURROUNDINGS_SIZE - 1) / 2
        places = [(part / length + 1) * scale for part in towards[:2]]
        around = self._arrays.bilinear(self._surroundings, places[0], places[1])
        dots = s.highlight * lobe * (picked(power) + 0.1 * s.projector_power / square)
        return share, share * (dots + s.reflection * s.ambient * around)

    def optics(self, light: Array, imager: int) -> Array:
        """Calibration error (of the right imager) and blur: float32 [B,H,W]."""
        if imager == 1:
            light = self._arrays.bilinear(light, self._columns + self._shift_x, self._rows + self._shift_y)
        if self._settings.blur_px > 0:
            light = self._arrays.blur(light, self._settings.blur_px, self._settings.blur_px)
        return light

    def exposure(self, left: Array) -> tuple[Array, Array]:
        """Common exposure and gain, [B,1,1] each, from the left imager's light.

        Like the D4xx's firmware, the mean intensity is brought to a set point (its "mean intensity set point", 1536 of
        4095 by default). Highlights count as what they are read as: saturated.
        """
        xp, s = self._xp, self._settings
        light = left[:, ::2, ::2]
        level = self._mean(light)
        level = xp.clip(self._mean(xp.minimum(light, level / s.exposure_target)), 1e-6, None)
        exposure = xp.clip(s.exposure_target / level, None, s.exposure_max)
        return exposure, xp.clip(s.exposure_target / (level * exposure), 1.0, s.gain_max)

    def _mean(self, light: Array) -> Array:
        """Mean of each image, [B,1,1], summed in double precision: the order of summation must not matter."""
        return self._arrays.real(light.mean((1, 2), dtype=self._xp.float64))[:, None, None]

    def expose(self, light: Array, imager: int, exposure: Array, gain: Array, seeds: NDArray[np.uint64]) -> Array:
        """Shot and read noise, pixel response, saturation, 8 bits: float32 whole numbers [B,H,W] in 0…255."""
        xp, s = self._xp, self._settings
        electrons = xp.clip(light * (exposure * s.full_well_e), None, s.full_well_e)
        noise = xp.sqrt(electrons + s.read_noise_e**2)
        drawn = self._arrays.normals(seeds, imager, self._camera.height, self._camera.width)
        electrons = electrons * self._response[imager] + noise * drawn
        return xp.clip(xp.round(electrons * (gain * (255 / s.full_well_e))), 0, 255)

    def noise_level(self, gain: Array) -> Array:
        """Noise of a dim pixel (a tenth of full scale), 1 σ in grey levels, [B,1,1]."""
        s = self._settings
        dim = 0.1 * s.full_well_e / gain
        return gain * self._xp.sqrt(dim + s.read_noise_e**2) * (255 / s.full_well_e)
