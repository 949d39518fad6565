"""Joint trajectories as ros2_controllers' joint_trajectory_controller (Jazzy) checks and interpolates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import RealdiffError

from realdiff_sim_bridge.bridge.limits import LOWER, UPPER, VELOCITY
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

SUCCESSFUL, INVALID_GOAL, PATH_TOLERANCE, GOAL_TOLERANCE = 0, -1, -4, -5
"""Error codes of control_msgs/FollowJointTrajectory; −2 and −3 never occur, such goals are rejected."""

_DOF = len(ARM_JOINTS)
_STOPPED = float(np.finfo(np.float32).eps)
"""Below this a final velocity counts as zero, as in the controller [rad/s]."""


class TrajectoryError(RealdiffError):
    """The controller rejects a trajectory as soon as it comes, as `validate_trajectory_msg` of the real one."""


class BeyondRobotError(TrajectoryError):
    """The real controller accepts a trajectory, and the robot ends it with a reflex: NaN, limits, too fast."""


@dataclass(frozen=True)
class Waypoint:
    """A point of a trajectory.

    Attributes:
        time_s: Time from the trajectory's start.
        positions: In the order of the trajectory's joint names [rad].
        velocities: The same for velocities [rad/s]; empty if not given.
        accelerations: The same for accelerations [rad/s²]; empty if not given.
    """

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()
    accelerations: Sequence[float] = ()


@dataclass(frozen=True)
class JointSample:
    """Joint positions, velocities and accelerations at one moment, float64[7] each [rad, rad/s, rad/s²]."""

    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray

    @classmethod
    def at_rest(cls, positions: FloatArray) -> JointSample:
        """A sample that doesn't move."""
        return cls(np.asarray(positions, dtype=np.float64).copy(), np.zeros(_DOF), np.zeros(_DOF))


@dataclass(frozen=True)
class _Knot:
    time_s: float
    positions: FloatArray
    velocities: FloatArray | None
    accelerations: FloatArray | None


class JointTrajectory:
    """A trajectory of the arm in its own time.

    Between two points the curve is a straight line if one of them has no velocities, cubic if both have velocities, and
    quintic if both have accelerations too. Points are not checked against what the arm can follow in between.

    Args:
        joint_names: Arm joints in any order: all seven, or some with `others_stay_at`.
        points: At least one; times strictly increase.
        others_stay_at: float64[7]; joints that aren't named stay there. None: all must be named.
        allow_moving_end: Whether the last point may have a velocity.

    Raises:
        TrajectoryError: Wrong joints, lengths or times, or a velocity at the end.
        BeyondRobotError: NaN, or points that the robot can't reach.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        points: Sequence[Waypoint],
        *,
        others_stay_at: FloatArray | None = None,
        allow_moving_end: bool = False,
    ) -> None:
        """Checks the points."""
        names = list(joint_names)
        named = [ARM_JOINTS.index(name) for name in names if name in ARM_JOINTS]
        complete = len(named) == _DOF or (others_stay_at is not None and named)
        if len(named) != len(names) or len(set(named)) != len(named) or not complete:
            raise TrajectoryError(
                "the trajectory has other joints than the arm", expected=list(ARM_JOINTS), got=names,
                next_step="name every joint once (some are enough with allow_partial_joints_goal:=true)",
            )  # fmt: skip
        if not points:
            raise TrajectoryError("the trajectory has no points", expected="at least one point", got=0)
        times = [point.time_s for point in points]
        if not np.all(np.isfinite(times)) or times[0] < 0.0 or np.any(np.diff(times) <= 0.0):
            raise TrajectoryError("the points' times don't increase", expected="strictly increasing, from 0", got=times)
        stay = np.zeros(_DOF) if others_stay_at is None else np.asarray(others_stay_at, dtype=np.float64)

        def row(point: Waypoint, attribute: str, default: FloatArray) -> FloatArray | None:
            values = np.asarray(getattr(point, attribute), dtype=np.float64)
            if values.size == 0 and attribute != "positions":
                return None
            if values.shape != (len(named),):
                raise TrajectoryError(
                    f"the point at {point.time_s:g} s has the wrong number of {attribute}",
                    expected=len(named), got=values.size,
                )  # fmt: skip
            if not np.all(np.isfinite(values)):
                raise BeyondRobotError(
                    f"the {attribute} of the point at {point.time_s:g} s hold NaN or infinity",
                    expected="finite numbers", got=values.tolist(),
                )  # fmt: skip
            filled = default.copy()
            filled[named] = values
            return filled

        self._knots: list[_Knot] = []
        for point in points:
            positions = row(point, "positions", stay)
            assert positions is not None
            knot = _Knot(
                point.time_s, positions, row(point, "velocities", np.zeros(_DOF)),
                row(point, "accelerations", np.zeros(_DOF)),
            )  # fmt: skip
            _check_limits(knot, named)
            self._knots.append(knot)
        last = self._knots[-1]
        if not allow_moving_end and last.velocities is not None and np.any(np.abs(last.velocities) > _STOPPED):
            raise TrajectoryError(
                "the last point has a velocity", expected="0 rad/s for every joint",
                got=last.velocities.tolist(),
                next_step="end at rest, or start with allow_nonzero_velocity_at_trajectory_end:=true",
            )  # fmt: skip
        self._check_speeds()
        self.duration_s = last.time_s
        self._before: _Knot | None = None

    def _check_speeds(self) -> None:
        for before, after in zip(self._knots, self._knots[1:], strict=False):
            speed = np.abs(after.positions - before.positions) / (after.time_s - before.time_s)
            if np.any(speed > VELOCITY):
                joint = int(np.argmax(speed / VELOCITY))
                raise BeyondRobotError(
                    f"{ARM_JOINTS[joint]} would have to move faster than it can",
                    expected=f"at most {VELOCITY[joint]:g} rad/s",
                    got=f"{speed[joint]:.2f} rad/s on average from {before.time_s:g} to {after.time_s:g} s",
                    next_step="give the points more time",
                )  # fmt: skip

    def join(self, state: JointSample, time_s: float) -> None:
        """Lets the trajectory begin with a state: the curve runs from there to the first point that is still to come.

        Args:
            state: Where the arm is commanded to be.
            time_s: When, in the trajectory's time; negative if it starts in the future.
        """
        self._before = _Knot(time_s, state.positions, state.velocities, state.accelerations)

    def first_speed(self) -> tuple[str, float, float] | None:
        """Returns the joint, its mean speed to the first point and its limit [rad/s] if that is too fast, else None."""
        first, before = self._knots[0], self._before
        if before is None or first.time_s <= before.time_s:
            return None
        speed = np.abs(first.positions - before.positions) / (first.time_s - before.time_s)
        joint = int(np.argmax(speed / VELOCITY))
        return (
            (ARM_JOINTS[joint], float(speed[joint]), float(VELOCITY[joint])) if speed[joint] > VELOCITY[joint] else None
        )

    def sample(self, time_s: float) -> JointSample:
        """Returns the desired state at a time in the trajectory's own time; before and after it, its ends."""
        knots = self._knots
        if time_s >= self.duration_s:
            end = knots[-1]
            return JointSample(
                end.positions,
                np.zeros(_DOF) if end.velocities is None else end.velocities,
                np.zeros(_DOF) if end.accelerations is None else end.accelerations,
            )
        if time_s < knots[0].time_s:
            start = self._before or _Knot(0.0, knots[0].positions, np.zeros(_DOF), np.zeros(_DOF))
            if time_s <= start.time_s or start.time_s >= knots[0].time_s:
                return JointSample.at_rest(start.positions)
            return _between(start, knots[0], time_s)
        index = int(np.searchsorted([knot.time_s for knot in knots], time_s, side="right")) - 1
        return _between(knots[index], knots[index + 1], time_s)


def _check_limits(knot: _Knot, named: list[int]) -> None:
    for what, unit, values, low, high in (
        ("position", "rad", knot.positions, LOWER, UPPER),
        ("velocity", "rad/s", knot.velocities, -VELOCITY, VELOCITY),
    ):
        if values is None:
            continue
        outside = [joint for joint in named if not low[joint] <= values[joint] <= high[joint]]
        if outside:
            joint = outside[0]
            raise BeyondRobotError(
                f"{ARM_JOINTS[joint]} leaves its limits at {knot.time_s:g} s",
                expected=f"{what} of {low[joint]:g} … {high[joint]:g} {unit}", got=f"{values[joint]:g} {unit}",
                next_step="on the robot this would end in a reflex",
            )  # fmt: skip


def _between(a: _Knot, b: _Knot, time_s: float) -> JointSample:
    """The polynomial through two knots with as many derivatives as both have, at a time between them."""
    span, t = b.time_s - a.time_s, time_s - a.time_s
    step = b.positions - a.positions
    if a.velocities is None or b.velocities is None:
        return JointSample(a.positions + step * (t / span), step / span, np.zeros(_DOF))
    va, vb = a.velocities, b.velocities
    if a.accelerations is None or b.accelerations is None:
        c2 = (3 * step / span - 2 * va - vb) / span
        c3 = (-2 * step / span + va + vb) / span**2
        coefficients = np.stack([a.positions, va, c2, c3])
    else:
        wa, wb = a.accelerations, b.accelerations
        c3 = (20 * step - (8 * vb + 12 * va) * span - (3 * wa - wb) * span**2) / (2 * span**3)
        c4 = (-30 * step + (14 * vb + 16 * va) * span + (3 * wa - 2 * wb) * span**2) / (2 * span**4)
        c5 = (12 * step - 6 * (vb + va) * span - (wa - wb) * span**2) / (2 * span**5)
        coefficients = np.stack([a.positions, va, wa / 2, c3, c4, c5])
    polynomial = np.polynomial.polynomial
    first = polynomial.polyder(coefficients)
    return JointSample(
        np.asarray(polynomial.polyval(t, coefficients)),
        np.asarray(polynomial.polyval(t, first)),
        np.asarray(polynomial.polyval(t, polynomial.polyder(first))),
    )
