"""Joint trajectories as ros2_controllers' joint_trajectory_controller follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import RealdiffError
from scipy.interpolate import CubicHermiteSpline

from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

INVALID_GOAL, INVALID_JOINTS = -1, -2
"""Error codes of control_msgs/FollowJointTrajectory."""


class TrajectoryError(RealdiffError):
    """A trajectory can't be followed.

    Args:
        what: Why not.
        code: Error code of control_msgs/FollowJointTrajectory.
        expected: What a valid trajectory has.
        got: What this one has.
    """

    def __init__(self, what: str, code: int, *, expected: object = None, got: object = None) -> None:
        """Keeps the error code."""
        super().__init__(what, expected=expected, got=got)
        self.code = code


@dataclass(frozen=True)
class Waypoint:
    """A point of a trajectory.

    Attributes:
        time_s: Time from the trajectory's start.
        positions: In the order of the trajectory's joint names [rad].
        velocities: The same for velocities [rad/s]; empty if not given.
    """

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


class JointTrajectory:
    """A trajectory of the arm: cubic where velocities are given, linear otherwise.

    Args:
        joint_names: All seven arm joints, in any order.
        points: At least one; times strictly increase.
        start_positions: float64[7], where the arm is commanded to be now [rad].

    Raises:
        TrajectoryError: Wrong joints, lengths, times or numbers.
    """

    def __init__(self, joint_names: Sequence[str], points: Sequence[Waypoint], start_positions: FloatArray) -> None:
        """Checks the points and lays the curve from the present position through them."""
        if sorted(joint_names) != sorted(ARM_JOINTS):
            raise TrajectoryError(
                "the trajectory has other joints than the arm", INVALID_JOINTS, expected=list(ARM_JOINTS),
                got=list(joint_names),
            )  # fmt: skip
        if not points:
            raise TrajectoryError("the trajectory has no points", INVALID_GOAL)
        order = [list(joint_names).index(name) for name in ARM_JOINTS]
        times = np.array([point.time_s for point in points])
        positions = _table(points, "positions")[:, order]
        with_velocities = all(len(point.velocities) for point in points)
        velocities = _table(points, "velocities")[:, order] if with_velocities else None
        if np.any(times < 0) or np.any(np.diff(times) <= 0):
            raise TrajectoryError(
                "the points' times don't increase",
                INVALID_GOAL,
                expected="strictly increasing, from 0",
                got=times.tolist(),
            )
        if times[0] > 0.0:
            times = np.concatenate([[0.0], times])
            positions = np.vstack([start_positions, positions])
            velocities = None if velocities is None else np.vstack([np.zeros(7), velocities])
        self.duration_s = float(times[-1])
        self._times, self._positions = times, positions
        self._spline = (
            CubicHermiteSpline(times, positions, velocities) if velocities is not None and len(times) > 1 else None
        )

    def sample(self, time_s: float) -> FloatArray:
        """Returns the joint positions float64[7] [rad] at a time from the start; before and after it, its ends."""
        time_s = float(np.clip(time_s, 0.0, self.duration_s))
        if self._spline is not None:
            return np.asarray(self._spline(time_s), dtype=np.float64)
        return np.array([np.interp(time_s, self._times, column) for column in self._positions.T])


def _table(points: Sequence[Waypoint], attribute: str) -> FloatArray:
    rows = [list(getattr(point, attribute)) for point in points]
    if any(len(row) != len(ARM_JOINTS) for row in rows):
        raise TrajectoryError(
            f"a point has the wrong number of {attribute}", INVALID_GOAL, expected=len(ARM_JOINTS),
            got=[len(row) for row in rows],
        )  # fmt: skip
    table = np.asarray(rows, dtype=np.float64)
    if not np.all(np.isfinite(table)):
        raise TrajectoryError(f"the {attribute} hold NaN or infinity", INVALID_GOAL, expected="finite numbers")
    return table
