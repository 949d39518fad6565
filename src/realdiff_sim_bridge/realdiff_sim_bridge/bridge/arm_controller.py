"""The joint trajectory controller of the arm, without ROS: what ros2_controllers' one does at each update.

Behaviour and error codes follow joint_trajectory_controller (Jazzy) as franka_fr3_moveit_config configures it. Known
differences: a new trajectory starts from the desired state (`interpolate_from_desired_state`), so that replacing one
leaves no jump; trajectories that would end in a reflex (NaN, outside the robot's limits) are refused before anything
moves; the output never changes faster than the joints can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS
from realdiff_sim_bridge.bridge.limits import VELOCITY
from realdiff_sim_bridge.bridge.trajectory import (
    GOAL_TOLERANCE,
    INVALID_GOAL,
    PATH_TOLERANCE,
    SUCCESSFUL,
    BeyondRobotError,
    JointSample,
    JointTrajectory,
    TrajectoryError,
    Waypoint,
)
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

_DOF = len(ARM_JOINTS)
_STEP = VELOCITY * CONTROL_PERIOD_NS * 1e-9


@dataclass(frozen=True)
class ControllerSettings:
    """The controller's parameters, under the real one's names and with its defaults.

    Attributes:
        allow_partial_joints_goal: Whether trajectories may name some of the joints only.
        allow_nonzero_velocity_at_trajectory_end: Whether the last point may have a velocity.
        goal_time: Seconds after a trajectory's end within which the goal tolerance must be met; 0 waits for ever.
        stopped_velocity_tolerance: Goal tolerance of all joints' velocities [rad/s]; 0 switches it off.
        trajectory: Path tolerance of all joints [rad]; 0 switches it off.
        goal: Goal tolerance of all joints [rad]; 0 switches it off.
    """

    allow_partial_joints_goal: bool = False
    allow_nonzero_velocity_at_trajectory_end: bool = False
    goal_time: float = 0.0
    stopped_velocity_tolerance: float = 0.01
    trajectory: float = 0.0
    goal: float = 0.0


@dataclass(frozen=True)
class Tolerances:
    """Tolerances in force, float64[7] each; 0 is off.

    Attributes:
        path: Positions along the way [rad].
        path_velocity: Velocities along the way [rad/s].
        goal: Positions at the end [rad].
        goal_velocity: Velocities at the end [rad/s].
        goal_time_s: Time after the end within which the goal tolerances must be met; 0 waits for ever.
    """

    path: FloatArray
    path_velocity: FloatArray
    goal: FloatArray
    goal_velocity: FloatArray
    goal_time_s: float

    @classmethod
    def defaults(cls, settings: ControllerSettings) -> Tolerances:
        """The controller's own tolerances."""
        return cls(
            np.full(_DOF, settings.trajectory), np.zeros(_DOF), np.full(_DOF, settings.goal),
            np.full(_DOF, settings.stopped_velocity_tolerance), settings.goal_time,
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a goal ended.

    Attributes:
        code: Error code of control_msgs/FollowJointTrajectory.
        message: Why, for people.
        cancelled: Whether the client asked for the end.
    """

    code: int
    message: str
    cancelled: bool = False


@dataclass
class Goal:
    """A trajectory that somebody waits for.

    Attributes:
        tolerances: In force for it.
        ended: Called once, when it ends.
    """

    tolerances: Tolerances
    ended: Callable[[Outcome], None]


@dataclass
class ControllerState:
    """What `~/controller_state` tells.

    Attributes:
        desired: What the trajectory asks for now.
        measured: What the arm does.
        output: float64[7], commanded positions [rad].
        elapsed_s: Time since the trajectory's start.
    """

    desired: JointSample
    measured: JointSample
    output: FloatArray
    elapsed_s: float = 0.0


@dataclass
class _Running:
    trajectory: JointTrajectory
    start_ns: int | None  # None: with the next update
    sampled: bool = field(default=False)


class ArmController:
    """Follows trajectories; see the module.

    Args:
        settings: The controller's parameters.
        positions: float64[7], where the arm is now [rad].
    """

    def __init__(self, settings: ControllerSettings, positions: FloatArray) -> None:
        """Holds the position."""
        self.settings = settings
        self.active = True
        self._goal: Goal | None = None
        self._running: _Running | None = None
        self._holding = True
        self.state = ControllerState(JointSample.at_rest(positions), JointSample.at_rest(positions), positions.copy())
        self.hold(positions)

    @property
    def busy(self) -> bool:
        """Whether a trajectory is being followed."""
        return self._running is not None

    def hold(self, positions: FloatArray) -> None:
        """Drops the trajectory and holds a position [rad]; the goal, if any, is left to the caller."""
        self._running, self._holding = None, True
        self.state.desired = JointSample.at_rest(positions)
        self.state.elapsed_s = 0.0

    def restart(self, positions: FloatArray, reason: str) -> None:
        """Holds a position that the arm has been put to; a goal ends unsuccessfully for a reason."""
        self._end(Outcome(INVALID_GOAL, reason))
        self.state.output = positions.copy()
        self.hold(positions)

    def activate(self) -> None:
        """Takes control where the arm is."""
        self.active = True
        self.restart(self.state.measured.positions, "the controller starts")

    def deactivate(self, reason: str) -> None:
        """Gives up control; a goal is aborted for a reason."""
        self._end(Outcome(INVALID_GOAL, reason))
        self.active = False
        self.state.output = self.state.measured.positions.copy()
        self.hold(self.state.output)

    def mirror(self, measured: JointSample, command: FloatArray) -> None:
        """Takes over what somebody else commands [rad], so that the published state is true."""
        self.state.measured = measured
        self.state.output = command.copy()
        self.hold(command)

    def accept(
        self,
        joint_names: Sequence[str],
        points: Sequence[Waypoint],
        stamp_ns: int,
        now_ns: int,
        goal: Goal | None = None,
    ) -> None:
        """Follows a trajectory from now on, or from its stamp on; one that is being followed is replaced.

        A goal that is waited for is replaced by a new goal only: as in the real controller, a trajectory from the topic
        replaces the motion and leaves the goal to be judged by its new end.

        Args:
            joint_names: Joints of the trajectory.
            points: Its points.
            stamp_ns: When it starts; 0: with the next update.
            now_ns: The present.
            goal: Whoever waits for it.

        Raises:
            TrajectoryError: It can't be followed; nothing has changed then.
        """
        trajectory, start_ns = self.check(joint_names, points, stamp_ns, now_ns)
        if goal is not None:
            self._end(Outcome(INVALID_GOAL, "replaced by a new goal"))
            self._goal = goal
        self._running = _Running(trajectory, start_ns)
        self._holding = False

    def check(
        self, joint_names: Sequence[str], points: Sequence[Waypoint], stamp_ns: int, now_ns: int
    ) -> tuple[JointTrajectory, int | None]:
        """Judges a trajectory without following it; the arguments are those of `accept`.

        Returns:
            The trajectory from where the arm is told to be, and when it starts; None: with the next update.

        Raises:
            TrajectoryError: The real controller rejects it, too.
            BeyondRobotError: It would end in a reflex.
        """
        if not self.active:
            raise TrajectoryError(
                "the arm's controller is not active", expected="an active controller",
                next_step="recover from the error, set the hardware component active, then switch the controller on",
            )  # fmt: skip
        settings = self.settings
        trajectory = JointTrajectory(
            joint_names,
            points,
            others_stay_at=self.state.desired.positions if settings.allow_partial_joints_goal else None,
            allow_moving_end=settings.allow_nonzero_velocity_at_trajectory_end,
        )
        start_ns = stamp_ns or None
        if start_ns is not None and start_ns + round(trajectory.duration_s * 1e9) < now_ns:
            raise TrajectoryError(
                "the trajectory ends in the past", expected=f"an end after {now_ns * 1e-9:.3f} s",
                got=f"{start_ns * 1e-9 + trajectory.duration_s:.3f} s",
                next_step="stamp it with the time of /clock (use_sim_time), or with 0 for at once",
            )  # fmt: skip
        trajectory.join(self._splice(), 0.0 if start_ns is None else (now_ns - start_ns) * 1e-9)
        if (fast := trajectory.first_speed()) is not None:
            raise BeyondRobotError(
                f"{fast[0]} would have to move faster than it can", expected=f"at most {fast[2]:g} rad/s",
                got=f"{fast[1]:.2f} rad/s on average up to the first point",
                next_step="start where the arm is, or give the first point more time",
            )  # fmt: skip
        return trajectory, start_ns

    def _splice(self) -> JointSample:
        """Where a new trajectory begins: where the arm is told to be now, as fast as it is told to be."""
        desired = self.state.desired
        return JointSample(self.state.output.copy(), desired.velocities.copy(), desired.accelerations.copy())

    def cancel(self, goal: Goal) -> None:
        """Ends a goal at its client's wish and holds the position; a goal that isn't the present one is left alone."""
        if self._goal is goal:
            self.hold(self.state.measured.positions)
            self._end(Outcome(SUCCESSFUL, "cancelled", cancelled=True))

    def _end(self, outcome: Outcome) -> None:
        goal, self._goal = self._goal, None
        if goal is not None:
            goal.ended(outcome)

    def query(self, time_ns: int) -> tuple[JointSample, str]:
        """Returns the desired state at a time and why it can't be told, or an empty text, as `~/query_state`."""
        running = self._running
        if not self.active:
            return self.state.measured, "the controller isn't active"
        if running is None or running.start_ns is None:
            return self.state.measured, "no trajectory is being followed"
        elapsed = (time_ns - running.start_ns) * 1e-9
        if elapsed < 0.0:
            return self.state.measured, "the time lies before the trajectory's start"
        if elapsed >= running.trajectory.duration_s:
            return running.trajectory.sample(elapsed), "the time lies after the trajectory's end"
        return running.trajectory.sample(elapsed), ""

    def update(self, now_ns: int, measured: JointSample) -> FloatArray:
        """Runs one period of control.

        Args:
            now_ns: The present.
            measured: What the arm does.

        Returns:
            float64[7], positions to be reached one control period from now [rad].
        """
        state = self.state
        state.measured = measured
        running = self._running
        if not self.active:
            return state.output
        if running is None:
            return self._output(state.desired.positions)
        if running.start_ns is None:
            running.start_ns = now_ns
        first, running.sampled = not running.sampled, True
        trajectory = running.trajectory
        state.elapsed_s = elapsed = (now_ns - running.start_ns) * 1e-9
        state.desired = trajectory.sample(elapsed)
        overtime = elapsed - trajectory.duration_s
        self._judge(overtime, first)
        if self._running is not running:  # it has ended
            return self._output(state.desired.positions)
        return self._output(trajectory.sample(elapsed + CONTROL_PERIOD_NS * 1e-9).positions)

    def _output(self, wanted: FloatArray) -> FloatArray:
        self.state.output = self.state.output + np.clip(wanted - self.state.output, -_STEP, _STEP)
        return self.state.output

    def _judge(self, overtime_s: float, first: bool) -> None:
        """Ends the trajectory where a tolerance is violated or, for a goal, once it is reached."""
        state = self.state
        tolerances = self._goal.tolerances if self._goal is not None else Tolerances.defaults(self.settings)
        error = np.abs(state.desired.positions - state.measured.positions)
        speed_error = np.abs(state.desired.velocities - state.measured.velocities)
        if overtime_s < 0.0 or first:
            off = _outside(error, tolerances.path) | _outside(speed_error, tolerances.path_velocity)
            if np.any(off):
                self.hold(state.measured.positions)
                self._end(Outcome(PATH_TOLERANCE, _worst("path tolerance violated", error, speed_error, off)))
                return
        if overtime_s < 0.0:
            return
        off = _outside(error, tolerances.goal) | _outside(speed_error, tolerances.goal_velocity)
        if not np.any(off):
            if self._goal is not None:
                self._end(Outcome(SUCCESSFUL, "goal reached"))
            self.hold(state.desired.positions)
        elif tolerances.goal_time_s > 0.0 and overtime_s > tolerances.goal_time_s:
            self.hold(state.measured.positions)
            what = f"goal tolerance violated {overtime_s:.2f} s after the trajectory's end"
            self._end(Outcome(GOAL_TOLERANCE, _worst(what, error, speed_error, off)))


def _outside(error: FloatArray, tolerance: FloatArray) -> np.ndarray:
    return (tolerance > 0.0) & (error > tolerance)


def _worst(what: str, error: FloatArray, speed_error: FloatArray, off: np.ndarray) -> str:
    joint = int(np.argmax(np.where(off, error, -1.0)))
    return f"{what}: {ARM_JOINTS[joint]} is off by {error[joint]:.4f} rad and {speed_error[joint]:.4f} rad/s"
