"""The file that a calibration leaves: where the camera stands, loadable by nodes, launch files and people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from pydantic import Field, FiniteFloat, model_validator
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile, Strict, load_yaml
from realdiff_core.topics import BASE_FRAME, COLOR_FRAME

from realdiff_sim_bridge.cameras import CAMERA_LINK, CameraRig
from realdiff_sim_bridge.geometry import Pose

FILE_NAME = "camera_tf.yaml"

_UNIT_TOLERANCE = 1e-3


class Vector(Strict):
    """A position [m]."""

    x: FiniteFloat
    y: FiniteFloat
    z: FiniteFloat


class Quaternion(Strict):
    """A unit quaternion."""

    x: FiniteFloat
    y: FiniteFloat
    z: FiniteFloat
    w: FiniteFloat

    @model_validator(mode="after")
    def _unit(self) -> Quaternion:
        norm = float(np.sqrt(self.x**2 + self.y**2 + self.z**2 + self.w**2))
        if abs(norm - 1.0) > _UNIT_TOLERANCE:
            raise ValueError(f"a rotation is a unit quaternion, this one has length {norm:.4f}")
        return self


class Transform(Strict):
    """Pose of a child frame in its parent frame, as geometry_msgs/TransformStamped."""

    parent: str = Field(min_length=1)
    child: str = Field(min_length=1)
    translation: Vector
    rotation: Quaternion

    @classmethod
    def of(cls, parent: str, child: str, pose: Pose) -> Transform:
        """Makes the entry of a pose."""
        x, y, z = (float(value) for value in pose.position)
        a, b, c, d = (float(value) for value in pose.quaternion)
        return cls(
            parent=parent, child=child, translation=Vector(x=x, y=y, z=z), rotation=Quaternion(x=a, y=b, z=c, w=d)
        )

    @property
    def pose(self) -> Pose:
        """Pose of the child in the parent."""
        t, r = self.translation, self.rotation
        quaternion = np.array([r.x, r.y, r.z, r.w])
        return Pose(np.array([t.x, t.y, t.z]), quaternion / np.linalg.norm(quaternion))

    def publisher_command(self) -> str:
        """The command of tf2_ros that publishes this transform."""
        t, r = self.translation, self.rotation
        return (
            f"ros2 run tf2_ros static_transform_publisher --x {t.x:.6f} --y {t.y:.6f} --z {t.z:.6f} "
            f"--qx {r.x:.7f} --qy {r.y:.7f} --qz {r.z:.7f} --qw {r.w:.7f} "
            f"--frame-id {self.parent} --child-frame-id {self.child}"
        )


class CalibrationQuality(Strict):
    """How good the calibration was."""

    views: int
    mean_px: float
    p95_px: float
    mean_mm: float
    position_95_mm: float
    angle_95_deg: float


class CameraTransform(Strict):
    """The content of camera_tf.yaml.

    Attributes:
        optical: Pose of the colour optical frame: what was measured.
        link: Pose of the driver's root frame, from the profile's offset of the imagers. Publish this one: the driver
            publishes the frames below it, and a frame has one parent only.
        quality: How good the calibration was; absent in files written by hand.
    """

    optical: Transform
    link: Transform | None = None
    quality: CalibrationQuality | None = None


def camera_transform(
    base_colour: Pose, camera: CameraModel, profile: CameraProfile, quality: CalibrationQuality | None = None
) -> CameraTransform:
    """Makes the file's content.

    Args:
        base_colour: Pose of the colour optical frame in "base".
        camera: Intrinsics of the colour stream; only its frame is used.
        profile: Tells how the imagers stand to each other.
        quality: How good the calibration was.
    """
    shift = Pose(np.asarray(profile.colour_from_depth_m, dtype=np.float64), np.array([0.0, 0.0, 0.0, 1.0]))
    rig = CameraRig(profile, camera, camera, base_colour, shift)
    (link,) = (pose for _, child, pose in rig.static_transforms() if child == CAMERA_LINK)
    return CameraTransform(
        optical=Transform.of(BASE_FRAME, camera.frame_id or COLOR_FRAME, base_colour),
        link=Transform.of(BASE_FRAME, CAMERA_LINK, link),
        quality=quality,
    )


def load_transform(path: Path) -> CameraTransform:
    """Reads camera_tf.yaml.

    Raises:
        ConfigError: The file is missing or wrong.
    """
    return load_yaml(path, CameraTransform)


def write_transform(path: Path, content: CameraTransform) -> None:
    """Writes camera_tf.yaml: beside its final name, and moved there when it is complete."""
    import yaml

    text = "# Where the camera stands. Publish `link`: the driver publishes the frames below it.\n"
    text += yaml.safe_dump(content.model_dump(exclude_none=True), sort_keys=False)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
