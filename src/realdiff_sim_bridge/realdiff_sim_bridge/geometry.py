"""Rigid poses, in the one convention used in this package: position in metres, unit quaternion as (x, y, z, w)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """A rigid transform: the pose of a child frame in its parent frame.

    Attributes:
        position: float64[3], metres.
        quaternion: float64[4], unit quaternion (x, y, z, w).
    """

    position: FloatArray
    quaternion: FloatArray

    @classmethod
    def identity(cls) -> Pose:
        """Returns the pose of a frame that coincides with its parent."""
        return cls(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))

    @classmethod
    def from_rotation(cls, position: Sequence[float] | FloatArray, rotation: FloatArray) -> Pose:
        """Builds a pose from a position [m] and a rotation matrix float64[3, 3]."""
        quaternion = Rotation.from_matrix(rotation).as_quat(canonical=True)
        return cls(np.asarray(position, dtype=np.float64), np.asarray(quaternion, dtype=np.float64))

    @classmethod
    def from_matrix(cls, matrix: FloatArray) -> Pose:
        """Builds a pose from a homogeneous matrix float64[4, 4]."""
        return cls.from_rotation(matrix[:3, 3], matrix[:3, :3])

    @property
    def rotation(self) -> FloatArray:
        """The rotation matrix, float64[3, 3]."""
        return np.asarray(Rotation.from_quat(self.quaternion).as_matrix(), dtype=np.float64)

    @property
    def matrix(self) -> FloatArray:
        """The homogeneous matrix, float64[4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.position
        return matrix

    @property
    def quaternion_wxyz(self) -> FloatArray:
        """The quaternion in MuJoCo's order (w, x, y, z)."""
        return np.asarray(np.roll(self.quaternion, 1), dtype=np.float64)

    def inverse(self) -> Pose:
        """Returns the pose of the parent in the child frame."""
        rotation = self.rotation.T
        return Pose.from_rotation(-rotation @ self.position, rotation)

    def __matmul__(self, other: Pose) -> Pose:
        """Chains two poses: (parent ← middle) @ (middle ← child) = parent ← child."""
        return Pose.from_rotation(self.rotation @ other.position + self.position, self.rotation @ other.rotation)


def look_at(position: Sequence[float], target: Sequence[float], up: Sequence[float] = (0.0, 0.0, 1.0)) -> Pose:
    """Pose of an optical frame (x right, y down, z forward) at `position` that looks at `target`.

    Args:
        position: Camera position in the parent frame [m].
        target: Point on the optical axis [m].
        up: Direction that points upwards in the image.

    Returns:
        Pose of the optical frame in the parent frame.

    Raises:
        ValueError: `position` and `target` coincide, or the line of sight is parallel to `up`.
    """
    origin = np.asarray(position, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - origin
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    if np.linalg.norm(forward) < 1e-9 or np.linalg.norm(right) < 1e-9:
        raise ValueError(f"no camera orientation looks from {list(position)} at {list(target)} with up {list(up)}")
    forward /= np.linalg.norm(forward)
    right /= np.linalg.norm(right)
    return Pose.from_rotation(origin, np.stack([right, np.cross(forward, right), forward], axis=1))
