"""The simulated depth camera: two imagers with intrinsics and poses, and its frames as the real driver names them.

The driver publishes camera_link → camera_{depth,color}_frame → …_optical_frame; camera_link coincides with
camera_depth_frame, whose origin is the left infrared imager. A calibration adds base → camera_link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from realdiff_core.camera import CameraModel, align_depth_to_colour
from realdiff_core.config import CameraProfile, camera_profile
from realdiff_core.topics import COLOR_FRAME, DEPTH_FRAME

from realdiff_sim_bridge.geometry import FloatArray, Pose, look_at
from realdiff_sim_bridge.tasks import Task

CAMERA_LINK = "camera_link"
_DEPTH_BODY_FRAME, _COLOUR_BODY_FRAME = "camera_depth_frame", "camera_color_frame"

OPTICAL = Pose(np.zeros(3), np.array([-0.5, 0.5, -0.5, 0.5]))
"""Pose of an optical frame (x right, y down, z forward) in its body frame (x forward, y left, z up): REP-103."""


@dataclass(frozen=True)
class CameraRig:
    """Colour and depth imager of one camera.

    Attributes:
        profile: The camera's profile.
        colour: Intrinsics of the colour imager.
        depth: Intrinsics of the depth image (the left infrared imager); its baseline is set.
        base_colour: Pose of the colour optical frame in the frame "base".
        colour_from_depth: Takes points of the depth optical frame to the colour optical frame.
    """

    profile: CameraProfile
    colour: CameraModel
    depth: CameraModel
    base_colour: Pose
    colour_from_depth: Pose

    @property
    def base_depth(self) -> Pose:
        """Pose of the depth optical frame in the frame "base"."""
        return self.base_colour @ self.colour_from_depth

    def moved(self, displacement: Pose) -> CameraRig:
        """Returns the camera displaced as one piece.

        Args:
            displacement: Pose of the displaced colour optical frame in the present one.
        """
        return replace(self, base_colour=self.base_colour @ displacement)

    def align(self, depth_m: np.ndarray) -> np.ndarray:
        """Resamples a depth image to the colour imager's pixels, as the driver's align filter does.

        This reprojects the depth imager's picture rather than rendering from the colour imager, because occlusion
        shadows, dropped borders and doubled pixels are part of what the real topic carries.

        Args:
            depth_m: float32[H, W] of the depth imager, metres, NaN where invalid.

        Returns:
            float32[H, W] of the colour imager, metres, NaN where nothing lands.
        """
        return align_depth_to_colour(depth_m, self.depth, self.colour, self.colour_from_depth.matrix)

    def static_transforms(self) -> list[tuple[str, str, Pose]]:
        """Returns the camera's static frames as (parent, child, pose of the child in the parent)."""
        link = self.base_depth @ OPTICAL.inverse()
        depth_to_colour_body = OPTICAL @ self.colour_from_depth.inverse() @ OPTICAL.inverse()
        return [
            ("base", CAMERA_LINK, link),
            (CAMERA_LINK, _DEPTH_BODY_FRAME, Pose.identity()),
            (_DEPTH_BODY_FRAME, DEPTH_FRAME, OPTICAL),
            (CAMERA_LINK, _COLOUR_BODY_FRAME, depth_to_colour_body),
            (_COLOUR_BODY_FRAME, COLOR_FRAME, OPTICAL),
        ]


def camera_rig(task: Task, *, width: int | None = None, height: int | None = None) -> CameraRig:
    """Makes the camera of a task.

    Args:
        task: Names the camera's profile, its position and where it looks.
        width: Width of all images [px]; by default each stream has its profile's size.
        height: Height of all images [px].

    Raises:
        ConfigError: The profile is missing or wrong.
        CameraError: Width or height makes no sense.
    """
    profile = camera_profile(task.camera.profile)
    colour = CameraModel.from_fov(
        profile.colour.width, profile.colour.height, profile.colour.hfov_deg, frame_id=COLOR_FRAME
    )
    depth = CameraModel.from_fov(
        profile.depth.width, profile.depth.height, profile.depth.hfov_deg, DEPTH_FRAME, profile.baseline_m
    )
    base_colour = look_at(task.camera.position, task.camera.target)
    shift: FloatArray = np.asarray(profile.colour_from_depth_m, dtype=np.float64)
    return CameraRig(
        profile=profile,
        colour=resized(colour, width or colour.width, height or colour.height),
        depth=resized(depth, width or depth.width, height or depth.height),
        base_colour=base_colour,
        colour_from_depth=Pose(shift, np.array([0.0, 0.0, 0.0, 1.0])),
    )


def resized(camera: CameraModel, width: int, height: int) -> CameraModel:
    """Returns the camera of another image size: cropped to the new aspect ratio, then scaled; pixels stay square.

    Args:
        camera: A camera with square pixels.
        width: New width [px].
        height: New height [px].
    """
    if width * camera.height <= height * camera.width:  # narrower than before: the sides are cut off
        cropped_width, cropped_height = camera.height * width / height, float(camera.height)
    else:
        cropped_width, cropped_height = float(camera.width), camera.width * height / width
    scale = width / cropped_width
    left, top = (camera.width - cropped_width) / 2, (camera.height - cropped_height) / 2
    return replace(
        camera,
        width=width,
        height=height,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=(camera.cx + 0.5 - left) * scale - 0.5,
        cy=(camera.cy + 0.5 - top) * scale - 0.5,
    )
