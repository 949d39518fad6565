"""The active-stereo depth camera as one object: views in, infrared images and depth out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel, align_depth_to_colour
from realdiff_core.errors import CameraError

from realdiff_sim_bridge.stereo.infrared import ImagerView, expose, make_unit, radiance
from realdiff_sim_bridge.stereo.matching import match
from realdiff_sim_bridge.stereo.settings import StereoSettings

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


class StereoSensor:
    """One simulated camera unit.

    What is constant for a unit (dot pattern, calibration error, speckle, pixel response) comes from `unit_seed`; image
    noise comes from each frame's own seed. So errors that stem from surface and pattern stay from frame to frame, as in
    a real camera.

    Args:
        camera: intrinsics of both imagers (rectified, no distortion); `camera.baseline_m` is not used.
        settings: everything else.
        unit_seed: which camera.

    Raises:
        CameraError: the camera has lens distortion (the imagers must be rectified).
    """

    def __init__(self, camera: CameraModel, settings: StereoSettings, unit_seed: int) -> None:
        """See the class."""
        if any(camera.distortion):
            raise CameraError(
                "stereo imagers must be rectified", expected="zero distortion", got=str(tuple(camera.distortion))
            )
        self.camera = camera
        self.settings = settings
        self.unit = make_unit(settings, camera, unit_seed)
        light = np.random.default_rng([unit_seed, 0x116]).standard_normal(3)
        light[1] = -abs(light[1]) - 1.0  # mostly from above (y points down)
        self._light = light / np.linalg.norm(light)

    def infrared(
        self, left: ImagerView, right: ImagerView, seed: int, projector_depth: Float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
        """Infrared images of both imagers, uint8 [H,W], and the image noise (1 sigma, grey levels)."""
        size = (self.camera.height, self.camera.width)
        for name, view in (("left", left), ("right", right)):
            if view.depth.shape != size:
                raise CameraError(
                    f"the {name} view has another size than the camera", expected=str(size), got=str(view.depth.shape)
                )
        arguments = (self.settings, self.unit, self._light, projector_depth)
        light_left = radiance(left, self.camera, 0.0, *arguments)
        light_right = radiance(right, self.camera, self.settings.baseline_m, *arguments)
        return expose(light_left, light_right, self.settings, self.unit, np.random.default_rng([seed, 0xF0]))

    def measure(
        self, left: ImagerView, right: ImagerView, seed: int, projector_depth: Float | None = None
    ) -> StereoFrame:
        """Measure one frame.

        Args:
            left: what the left imager sees.
            right: what the right imager sees, `settings.baseline_m` to the right.
            seed: of this frame's noise.
            projector_depth: float32 [H,W] z-depth rendered from the projector (`settings.projector_offset_m`) with the
                same intrinsics; gives the projector's shadows. None: no shadows.

        Returns:
            Infrared images, disparity and depth.

        Raises:
            CameraError: a view's size differs from the camera's.
        """
        image_left, image_right, noise = self.infrared(left, right, seed, projector_depth)
        disparity = match(image_left, image_right, self.settings, self.camera.fx, noise)
        metres = self.camera.fx * self.settings.baseline_m * self.unit.scale / disparity
        depth = np.rint(metres * 1000).astype(np.float32) / np.float32(1000)
        return StereoFrame(depth=depth, disparity=disparity, left=image_left, right=image_right)

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
