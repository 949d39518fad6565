"""Rigid poses, in the one convention used in this package: position in metres, unit quaternion as (x, y, z, w)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]

_CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])


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
    def from_rotation_vector(cls, position: FloatArray, vector: FloatArray) -> Pose:
        """Builds a pose from a position [m] and a rotation vector float64[3] (axis times angle [rad])."""
        angle = float(np.sqrt(vector @ vector))
        # sin(a/2)/a → 1/2 for small angles
        share = np.sin(angle / 2) / angle if angle > 1e-12 else 0.5
        return cls(np.asarray(position, dtype=np.float64), np.array([*(share * vector), np.cos(angle / 2)]))

    @classmethod
    def from_matrix(cls, matrix: FloatArray) -> Pose:
        """Builds a pose from a homogeneous matrix float64[4, 4]."""
        return cls.from_rotation(matrix[:3, 3], matrix[:3, :3])

    @property
    def rotation(self) -> FloatArray:
        """The rotation matrix, float64[3, 3]."""
        x, y, z, w = self.quaternion.tolist()
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    @property
    def matrix(self) -> FloatArray:
        """The homogeneous matrix, float64[4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.position
        return matrix

    @classmethod
    def from_wxyz(cls, position: FloatArray, quaternion: FloatArray) -> Pose:
        """Builds a pose from a position [m] and a unit quaternion in MuJoCo's order (w, x, y, z)."""
        return cls(np.array(position, dtype=np.float64), quaternion[[1, 2, 3, 0]])

    @property
    def quaternion_wxyz(self) -> FloatArray:
        """The quaternion in MuJoCo's order (w, x, y, z)."""
        return self.quaternion[[3, 0, 1, 2]]

    def inverse(self) -> Pose:
        """Returns the pose of the parent in the child frame."""
        conjugate = self.quaternion * _CONJUGATE
        return Pose(-(self.rotation.T @ self.position), conjugate)

    def __matmul__(self, other: Pose) -> Pose:
        """Chains two poses: (parent ← middle) @ (middle ← child) = parent ← child."""
        # Quaternions are multiplied by hand: this runs for every link at every control step, and general-purpose
        # rotation classes take a hundred times as long for a single one.
        a, b, c, d = self.quaternion.tolist()
        x, y, z, w = other.quaternion.tolist()
        quaternion = np.array(
            [
                d * x + a * w + b * z - c * y,
                d * y - a * z + b * w + c * x,
                d * z + a * y - b * x + c * w,
                d * w - a * x - b * y - c * z,
            ]
        )
        return Pose(self.rotation @ other.position + self.position, quaternion / np.sqrt(quaternion @ quaternion))


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
