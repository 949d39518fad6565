"""Segments moved along with their reference objects: T_new · T_src⁻¹, with what looks the same taken as the same."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from realdiff_sim_bridge.geometry import FloatArray, Pose

_FLIP = Pose(np.zeros(3), np.array([0.0, 0.0, 1.0, 0.0]))
"""Half a turn about the tool's axis: a parallel gripper then holds as before."""


def angle(first: Pose, second: Pose) -> float:
    """Angle between two orientations [rad]."""
    dot = abs(float(first.quaternion @ second.quaternion))
    return 2.0 * float(np.arccos(min(dot, 1.0)))


def relative(source: Pose, new: Pose, symmetry_deg: float) -> list[Pose]:
    """The transforms T_new · S · T_src⁻¹ that take the source's object to the new one.

    Args:
        source: Pose of the object in the demonstration.
        new: Pose of the object now.
        symmetry_deg: The object looks the same after this rotation S about its z axis; 0 for round objects.

    Returns:
        One transform a symmetry; for round objects the one without any turn about the object's axis.
    """
    if symmetry_deg > 0.0:
        steps = max(1, round(360.0 / symmetry_deg))
        angles = [2.0 * np.pi * k / steps for k in range(steps)]
    else:
        angles = [_twist(source) - _twist(new)]
    return [new @ _about_z(turn) @ source.inverse() for turn in angles]


def move(poses: tuple[Pose, ...], transform: Pose, flipped: bool) -> tuple[Pose, ...]:
    """Applies a transform to the hand's poses; with `flipped` the hand is turned by half a turn as well."""
    moved = (transform @ pose for pose in poses)
    return tuple(pose @ _FLIP if flipped else pose for pose in moved)


def interpolate(start: Pose, end: Pose, share: float) -> Pose:
    """Pose between two: the position on the line, the orientation on the shortest turn (slerp)."""
    first, last = Rotation.from_quat(start.quaternion), Rotation.from_quat(end.quaternion)
    turned = first * Rotation.from_rotvec(share * (first.inv() * last).as_rotvec())
    return Pose((1.0 - share) * start.position + share * end.position, np.asarray(turned.as_quat(canonical=True)))


def perturb(pose: Pose, shift: FloatArray, turn: FloatArray) -> Pose:
    """Shifts a pose [m] and turns it by a rotation vector [rad], both in the frame of its parent."""
    turned = Rotation.from_rotvec(turn) * Rotation.from_quat(pose.quaternion)
    return Pose(pose.position + shift, np.asarray(turned.as_quat(canonical=True)))


def _twist(pose: Pose) -> float:
    """The part of a rotation that is about the z axis [rad] (swing-twist decomposition)."""
    _, _, z, w = pose.quaternion
    return 2.0 * float(np.arctan2(z, w))


def _about_z(turn: float) -> Pose:
    return Pose(np.zeros(3), np.array([0.0, 0.0, np.sin(turn / 2), np.cos(turn / 2)]))
