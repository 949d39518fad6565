"""Forward kinematics of the FR3 and its hand, for many joint positions at once.

Geometry: franka_description (robots/fr3/kinematics.yaml, end_effectors/franka_hand), which are the modified
Denavit–Hartenberg parameters of Franka's documentation. All poses are in the frame "base".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# a [m], d [m], sine and cosine of alpha for joints 1 to 7: turn about x by alpha, shift along x by a, then turn about z
# by the joint's angle and shift along z by d.
_DH = (
    (0.0, 0.333, 0.0, 1.0),
    (0.0, 0.0, -1.0, 0.0),
    (0.0, 0.316, 1.0, 0.0),
    (0.0825, 0.0, 1.0, 0.0),
    (-0.0825, 0.384, -1.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.088, 0.0, 1.0, 0.0),
)
_FLANGE_M = 0.107
_HAND_YAW = -np.pi / 4
_TCP_M = 0.1034

REACH_M = 1.25
"""No guarded point is farther than this from any joint axis [m]; bounds its acceleration between set-points."""

# Points in the frame fr3_hand (x forwards, y the way the fingers move, z towards the objects) [m]. Fingertips: outer
# faces with the hand fully open; palm: the corners of the housing.
_FINGERTIPS = np.array([[x, y, 0.1123] for x in (-0.0105, 0.0105) for y in (-0.0663, 0.0, 0.0663)])
_PALM = np.array([[x, y, z] for x in (-0.0316, 0.0316) for y in (-0.104, 0.104) for z in (-0.026, 0.066)])
HAND_POINTS = np.vstack([_FINGERTIPS, _PALM])
FINGERTIP_COUNT = len(_FINGERTIPS)

# Centres of spheres around the moving links: frame (the joint's number), point in it [m], radius [m].
_SPHERES = (
    (3, (0.0, 0.0, -0.06), 0.08),
    (3, (0.0825, 0.05, 0.0), 0.085),
    (4, (-0.07, 0.06, 0.0), 0.095),
    (4, (0.0, 0.0, 0.05), 0.08),
    (5, (0.0, 0.0, -0.20), 0.08),
    (5, (0.0, 0.07, -0.10), 0.085),
    (5, (0.0, 0.08, 0.0), 0.075),
    (6, (0.0, 0.0, 0.0), 0.075),
    (6, (0.07, 0.02, 0.0), 0.085),
    (7, (0.0, 0.0, 0.07), 0.06),
    (7, (0.03, 0.03, 0.07), 0.065),
)
SPHERE_RADII = np.array([radius for _, _, radius in _SPHERES])


@dataclass(frozen=True)
class Frames:
    """Poses of all joint frames, of flange-mounted hand and tool centre point, for a batch of joint positions.

    Attributes:
        rotations: float64[8, ..., 3, 3]: joint frames 1 to 7, then fr3_hand; columns are the axes in "base".
        origins: float64[8, ..., 3]: their origins [m].
    """

    rotations: FloatArray
    origins: FloatArray

    @property
    def tcp(self) -> FloatArray:
        """float64[..., 3], position of fr3_hand_tcp [m]; its axes are those of fr3_hand."""
        return self.origins[7] + _TCP_M * self.rotations[7][..., 2]

    @property
    def hand_points(self) -> FloatArray:
        """float64[..., P, 3], the points of fingers and palm that the gate guards [m]; fingertips come first."""
        turned = np.einsum("...ij,pj->...pi", self.rotations[7], HAND_POINTS)
        return self.origins[7][..., None, :] + turned

    @property
    def sphere_centres(self) -> FloatArray:
        """float64[..., S, 3], centres of the spheres around the arm's links [m]; radii in SPHERE_RADII."""
        centres = [
            self.origins[joint - 1] + self.rotations[joint - 1] @ np.asarray(point) for joint, point, _ in _SPHERES
        ]
        return np.stack(centres, axis=-2)


def forward(joint_positions: FloatArray) -> Frames:
    """Computes all frames.

    Args:
        joint_positions: float64[..., 7] [rad].
    """
    joint_positions = np.asarray(joint_positions, dtype=np.float64)
    sines, cosines = np.sin(joint_positions), np.cos(joint_positions)
    batch = joint_positions.shape[:-1]
    rotations, origins = np.empty((8, *batch, 3, 3)), np.empty((8, *batch, 3))
    x = np.broadcast_to(np.array([1.0, 0.0, 0.0]), (*batch, 3))
    y = np.broadcast_to(np.array([0.0, 1.0, 0.0]), (*batch, 3))
    z = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*batch, 3))
    origin = np.zeros((*batch, 3))
    for joint, (a, d, sine_alpha, cosine_alpha) in enumerate(_DH):
        sine, cosine = sines[..., joint, None], cosines[..., joint, None]
        tilted = cosine_alpha * y + sine_alpha * z
        origin = origin + a * x
        x, y, z = cosine * x + sine * tilted, cosine * tilted - sine * x, cosine_alpha * z - sine_alpha * y
        origin = origin + d * z
        _store(rotations, origins, joint, (x, y, z), origin)
    sine_yaw, cosine_yaw = np.sin(_HAND_YAW), np.cos(_HAND_YAW)
    hand = (cosine_yaw * x + sine_yaw * y, cosine_yaw * y - sine_yaw * x, z)
    _store(rotations, origins, 7, hand, origin + _FLANGE_M * z)
    return Frames(rotations, origins)


def _store(
    rotations: FloatArray, origins: FloatArray, index: int, axes: tuple[FloatArray, ...], origin: FloatArray
) -> None:
    for column, axis in enumerate(axes):
        rotations[index][..., column] = axis
    origins[index] = origin


def tcp_jacobian(frames: Frames) -> FloatArray:
    """The geometric Jacobian of fr3_hand_tcp.

    Args:
        frames: Frames of one or many joint positions.

    Returns:
        float64[..., 6, 7]: linear [m/rad] above angular [rad/rad] velocity of the TCP in "base" per joint velocity.
    """
    axes = np.moveaxis(frames.rotations[:7][..., 2], 0, -1)
    arms = frames.tcp[..., :, None] - np.moveaxis(frames.origins[:7], 0, -1)
    return np.concatenate([np.cross(axes, arms, axis=-2), axes], axis=-2)
