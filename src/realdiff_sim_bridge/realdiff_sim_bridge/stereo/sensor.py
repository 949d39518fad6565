"""The active-stereo depth camera as one object: views in, infrared images and depth out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel, align_depth_to_colour
from realdiff_core.errors import CameraError

from realdiff_sim_bridge.stereo.arrays import Array, make_arrays, seed_words
from realdiff_sim_bridge.stereo.infrared import ImagerView, Optics, Surfaces, stack_views
from realdiff_sim_bridge.stereo.matching import match
from realdiff_sim_bridge.stereo.settings import StereoSettings
from realdiff_sim_bridge.stereo.unit import make_unit

Float = NDArray[np.float32]


@dataclass(frozen=True)
class StereoFrame:
    """One measurement, all in the left imager's frame.

    Attributes:
        depth: float32 [H,W] metres, multiples of 1 mm, NaN = hole.
        disparity: float32 [H,W] pixels, NaN = hole.
        left: uint8 [H,W] infrared image.
        right: uint8 [H,W] infrared image.
    """

    depth: Float
    disparity: Float
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]


@dataclass(frozen=True)
class StereoBatch:
    """Measurements that stay in the back end: the attributes of `StereoFrame` as [B,H,W]; images as float32."""

    depth: Array
    disparity: Array
    left: Array
    right: Array


class StereoSensor:
    """One simulated camera unit.

    What is constant for a unit (dot pattern, calibration error, speckle, pixel response) comes from `unit_seed`; image
    noise comes from each frame's own seed. So errors that stem from surface and pattern stay while the scene stays, as
    in a real camera, and only the image noise changes from frame to frame.

    Args:
        camera: intrinsics of both imagers (rectified, no distortion); `camera.baseline_m` is not used.
        settings: everything else.
        unit_seed: which camera.
        backend: ``numpy`` (with OpenCV and numba, two threads) or ``torch``; the same result within rounding.
        device: torch device; None: CUDA where available.

    Raises:
        CameraError: the camera has lens distortion (the imagers must be rectified).
        ConfigError: unknown back end.
    """

    def __init__(
        self,
        camera: CameraModel,
        settings: StereoSettings,
        unit_seed: int,
        *,
        backend: Literal["numpy", "torch"] = "numpy",
        device: str | None = None,
    ) -> None:
        """See the class."""
        if any(camera.distortion):
            raise CameraError(
                "stereo imagers must be rectified", expected="zero distortion", got=str(tuple(camera.distortion))
            )
        self.camera = camera
        self.settings = settings
        self.arrays = make_arrays(backend, device)
        self.unit = make_unit(settings, camera, unit_seed)
        self._optics = Optics(self.arrays, camera, settings, self.unit)

    def measure(
        self, left: ImagerView, right: ImagerView, seed: int, projector_depth: Float | None = None
    ) -> StereoFrame:
        """Measure one frame.

        Args:
            left: what the left imager sees.
            right: what the right imager sees, `settings.baseline_m` to the right.
            seed: of this frame's noise; another frame of the same scene differs by this alone.
            projector_depth: float32 [H,W] z-depth rendered from the projector (`settings.projector_offset_m`) with the
                same intrinsics, without transparent things; gives the projector's shadows. None: no shadows.

        Returns:
            Infrared images, disparity and depth.

        Raises:
            CameraError: a view's size differs from the camera's.
        """
        return self.measure_batch([left], [right], [seed], None if projector_depth is None else [projector_depth])[0]

    def measure_batch(
        self,
        left: list[ImagerView],
        right: list[ImagerView],
        seeds: list[int],
        projector_depth: list[Float] | None = None,
    ) -> list[StereoFrame]:
        """Measure several frames at once (faster on a GPU): the same results as one by one, see `measure`."""
        for view in (*left, *right):
            if view.depth.shape != (self.camera.height, self.camera.width):
                raise CameraError(
                    "a view has another size than the camera",
                    expected=str((self.camera.height, self.camera.width)),
                    got=str(view.depth.shape),
                )
        shadows = None if projector_depth is None else self.arrays.upload_images(projector_depth)
        batch = self.measure_surfaces(stack_views(self.arrays, left), stack_views(self.arrays, right), seeds, shadows)
        depth, disparity = self.arrays.download(batch.depth), self.arrays.download(batch.disparity)
        images = [self.arrays.download(self.arrays.byte(image)) for image in (batch.left, batch.right)]
        return [StereoFrame(depth[i], disparity[i], images[0][i], images[1][i]) for i in range(len(seeds))]

    def measure_surfaces(
        self, left: Surfaces, right: Surfaces, seeds: list[int], projector_depth: Array | None = None
    ) -> StereoBatch:
        """Measure frames whose views are arrays of the back end already; the results stay there."""
        words = seed_words(seeds)
        lights = self._both(lambda view, imager: self._light(view, imager, projector_depth), left, right)
        exposure, gain = self._optics.exposure(lights[0])
        images = self._both(lambda light, i: self._optics.expose(light, i, exposure, gain, words), *lights)
        noise = self._optics.noise_level(gain)
        disparity = match(self.arrays, *images, self.settings, self.camera.fx, noise)
        metres = self.camera.fx * self.settings.baseline_m * self.unit.scale / disparity
        depth = self.arrays.real(self.arrays.xp.round(metres * 1000) / 1000)
        return StereoBatch(depth, disparity, *images)

    def _light(self, view: Surfaces, imager: int, projector_depth: Array | None) -> Array:
        return self._optics.optics(self._optics.radiance(view, imager, projector_depth), imager)

    def _both(self, work: Callable[[Any, int], Array], left: Any, right: Any) -> tuple[Array, Array]:
        """Do the work for both imagers, with NumPy on two threads."""
        if self.arrays.name != "numpy":
            return work(left, 0), work(right, 1)
        other = _helper().submit(work, right, 1)
        return work(left, 0), other.result()

    def aligned_to_colour(self, depth: Float, colour: CameraModel, T_colour_left: NDArray[np.float64]) -> Float:
        """Depth resampled into the colour camera, as the driver's ``aligned_depth_to_color``.

        Args:
            depth: float32 [H,W] metres in the left imager's frame.
            colour: the colour camera.
            T_colour_left: float64 [4,4], left imager → colour camera.

        Returns:
            float32 [colour.height, colour.width] metres, NaN = hole.
        """
        return align_depth_to_colour(depth, self.camera, colour, T_colour_left)


@lru_cache(maxsize=1)
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="stereo-right")
