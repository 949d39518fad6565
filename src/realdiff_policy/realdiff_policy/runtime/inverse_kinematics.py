"""From poses of the tool centre point to joint positions: damped least squares (Nakamura and Hanafusa 1986)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from realdiff_policy.safety.kinematics import forward, tcp_jacobian
from realdiff_policy.safety.limits import MotionLimits

FloatArray = NDArray[np.float64]

_DAMPING = 0.02
_STEPS = 60
_LONGEST_STEP_RAD = 0.2
_POSTURE_GAIN = 0.05
POSITION_TOLERANCE_M = 0.002
ANGLE_TOLERANCE_RAD = 0.01


def rotation_from_6d(values: FloatArray) -> FloatArray:
    """Rotation matrix float64[3, 3] from its first two columns float64[6], made orthonormal (Zhou et al. 2019).

    Columns that are zero or parallel give NaN.
    """
    first, second = np.asarray(values[:3], dtype=np.float64), np.asarray(values[3:6], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = first / np.linalg.norm(first)
        y = second - (x @ second) * x
        y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def solve(
    position: FloatArray, rotation: FloatArray, start: FloatArray, limits: MotionLimits, posture: FloatArray
) -> FloatArray | None:
    """Finds joint positions near a start that bring fr3_hand_tcp to a pose.

    Args:
        position: float64[3], in "base" [m].
        rotation: float64[3, 3], axes of fr3_hand in "base".
        start: float64[7], where the search begins [rad].
        limits: Joint ranges that are kept.
        posture: float64[7], preferred where the arm has a choice [rad].

    Returns:
        float64[7] [rad]; None if the pose isn't reached within 2 mm and 0.01 rad.
    """
    if not (np.all(np.isfinite(position)) and np.all(np.isfinite(rotation))):
        return None
    joints = np.clip(start, limits.lower, limits.upper)
    for _ in range(_STEPS):
        frames = forward(joints)
        turn = Rotation.from_matrix(rotation @ frames.rotations[7].T).as_rotvec()
        error = np.concatenate([position - frames.tcp, turn])
        if np.linalg.norm(error[:3]) < POSITION_TOLERANCE_M / 10 and np.linalg.norm(turn) < ANGLE_TOLERANCE_RAD / 10:
            break
        jacobian = tcp_jacobian(frames)
        square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
        inverse = jacobian.T @ np.linalg.inv(square)
        free = np.eye(7) - inverse @ jacobian
        step = inverse @ error + free @ (_POSTURE_GAIN * (posture - joints))
        step *= min(1.0, _LONGEST_STEP_RAD / max(float(np.max(np.abs(step))), 1e-12))
        joints = np.clip(joints + step, limits.lower, limits.upper)
    frames = forward(joints)
    apart = float(np.linalg.norm(position - frames.tcp))
    turned = float(Rotation.from_matrix(rotation @ frames.rotations[7].T).magnitude())
    return joints if apart < POSITION_TOLERANCE_M and turned < ANGLE_TOLERANCE_RAD else None
