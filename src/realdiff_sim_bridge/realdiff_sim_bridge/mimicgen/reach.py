"""Where a moved segment comes within the arm's reach.

A segment begins where its source's hand was, moved along with the object: for an object far away that may be out of
reach, and an arm that strains towards it ends up stretched out in a corner from which it doesn't follow the rest. What
lies before the reachable part is the way to the object, which the interpolation replaces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.scene.robot import FLANGE_Z, TCP_Z

_SHOULDER = np.array([0.0, 0.0, 0.333])
_WRIST_OFFSET_M = 0.088
"""Distance of joint 6 from the hand's axis [m]."""

_REACH_M = 0.69
"""Greatest distance of the wrist from the shoulder [m]: 0.719 with a straight elbow, less some room to move."""

_FINGERS_M = 1e-3


def reachable(pose: Pose) -> bool:
    """Tells whether the arm gets to a pose of fr3_hand_tcp at least with the wrist towards itself.

    Joint limits aren't looked at: this is a quick necessary condition for a hand that points more or less downwards.
    """
    flange_axis = pose.position - (TCP_Z + FLANGE_Z) * pose.rotation[:, 2]
    outwards = np.array([flange_axis[0], flange_axis[1], 0.0])
    outwards /= max(float(np.linalg.norm(outwards)), 1e-9)
    return float(np.linalg.norm(flange_axis - _WRIST_OFFSET_M * outwards - _SHOULDER)) <= _REACH_M


def first_reachable(poses: tuple[Pose, ...], widths: NDArray[np.float64]) -> int:
    """Returns the first step of a moved segment that is in reach, before the fingers first move.

    Args:
        poses: The moved segment.
        widths: float64[N], its commanded distances between the fingers [m].

    Returns:
        The step; 0 if none before the fingers' first movement is in reach.
    """
    moving = np.flatnonzero(np.abs(widths - widths[0]) > _FINGERS_M)
    last = int(moving[0]) if len(moving) else len(poses) - 1
    return next((step for step in range(min(last, len(poses) - 1)) if reachable(poses[step])), 0)
