"""How clients command the simulated robot: the arm controller's topic and action, and the gripper's actions.

Callbacks only start motions; `ArmAndGripper.update`, called once per simulation step, notices their ends. Goals wait
for that on a future, so one thread serves everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from control_msgs.action import FollowJointTrajectory
from franka_msgs.action import Grasp, Move
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from realdiff_core.errors import ConfigError
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from realdiff_core import topics
from realdiff_sim_bridge.bridge.session import Session
from realdiff_sim_bridge.bridge.trajectory import INVALID_JOINTS, JointTrajectory, TrajectoryError, Waypoint
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

if TYPE_CHECKING:
    from rclpy.node import Node

_ARM = topics.ARM_TRAJECTORY.rpartition("/")[0]
_GRIPPER = topics.GRIPPER_JOINT_STATES.rpartition("/")[0]

_SUCCESSFUL, _PATH_TOLERANCE, _GOAL_TOLERANCE = 0, -4, -5
_DEFAULT_GOAL_TOLERANCE_RAD = 0.02
_DEFAULT_GOAL_TIME_S = 1.0
_GRIPPER_STILL_M_S = 0.002
_GRIPPER_STILL_S = 0.2
_GRIPPER_TIMEOUT_S = 3.0


@dataclass
class _ArmGoal:
    done: Future
    path_tolerance: FloatArray
    goal_tolerance: FloatArray
    goal_time_s: float
    trajectory: JointTrajectory
    start_ns: int


@dataclass
class _GripperGoal:
    done: Future
    start_ns: int
    still_since_ns: int


class ArmAndGripper:
    """Serves the arm controller's topic and action and the gripper's move and grasp actions.

    Args:
        node: The node that they belong to.
        session: The simulation that they act on.
    """

    def __init__(self, node: Node, session: Session) -> None:
        """Opens subscription and action servers."""
        self._session = session
        self._log = node.get_logger()
        self._arm_goal: _ArmGoal | None = None
        self._gripper_goal: _GripperGoal | None = None
        node.create_subscription(JointTrajectoryMsg, topics.ARM_TRAJECTORY, self._on_trajectory, 10)

        def server(kind: Any, name: str, execute: Any) -> ActionServer:
            return ActionServer(node, kind, name, execute, goal_callback=self._on_goal, cancel_callback=self._on_cancel)

        self._servers = [
            server(FollowJointTrajectory, f"{_ARM}/follow_joint_trajectory", self._follow),
            server(Move, f"{_GRIPPER}/move", self._move),
            server(Grasp, f"{_GRIPPER}/grasp", self._grasp),
        ]

    def _on_goal(self, _: Any) -> GoalResponse:
        return GoalResponse.REJECT if self._session.settings.behaviour == "expert" else GoalResponse.ACCEPT

    def _on_cancel(self, _: Any) -> CancelResponse:
        return CancelResponse.ACCEPT

    def _on_trajectory(self, message: JointTrajectoryMsg) -> None:
        try:
            trajectory = self._parse(message)
            self._session.follow(trajectory)
        except (TrajectoryError, ConfigError) as error:
            self._log.error(f"{topics.ARM_TRAJECTORY}: {error}", throttle_duration_sec=1.0)
            return
        self._end_arm(_SUCCESSFUL, "replaced by a trajectory from the topic", aborted=True)

    def _parse(self, message: JointTrajectoryMsg) -> JointTrajectory:
        points = [
            Waypoint(
                point.time_from_start.sec + point.time_from_start.nanosec * 1e-9, point.positions, point.velocities
            )
            for point in message.points
        ]
        return JointTrajectory(message.joint_names, points, self._session.trajectory_start)

    async def _follow(self, handle: Any) -> FollowJointTrajectory.Result:
        request, result = handle.request, FollowJointTrajectory.Result()
        try:
            trajectory = self._parse(request.trajectory)
            goal = _ArmGoal(
                done=Future(),
                path_tolerance=_tolerances(request.path_tolerance, np.inf),
                goal_tolerance=_tolerances(request.goal_tolerance, _DEFAULT_GOAL_TOLERANCE_RAD),
                goal_time_s=_seconds(request.goal_time_tolerance) or _DEFAULT_GOAL_TIME_S,
                trajectory=trajectory,
                start_ns=self._session.time_ns,
            )
            self._session.follow(trajectory)
        except TrajectoryError as error:
            handle.abort()
            result.error_code, result.error_string = error.code, str(error)
            return result
        self._end_arm(_SUCCESSFUL, "replaced by a new goal", aborted=True)
        self._arm_goal = goal
        aborted, result.error_code, result.error_string = await self._until(goal.done, handle)
        if handle.is_cancel_requested:
            if self._arm_goal is goal:
                self._arm_goal = None
                self._session.hold()
            handle.canceled()
        elif aborted:
            handle.abort()
        else:
            handle.succeed()
        return result

    async def _move(self, handle: Any) -> Move.Result:
        width = float(handle.request.width)
        error = await self._grip(handle, width)
        if not error and abs(self._session.state().robot.gripper_width - width) > 0.005:
            error = f"stopped at {self._session.state().robot.gripper_width:.4f} m"
        return _finished(handle, Move.Result(success=not error, error=error))

    async def _grasp(self, handle: Any) -> Grasp.Result:
        request = handle.request
        error = await self._grip(handle, 0.0)
        width = self._session.state().robot.gripper_width
        lowest, highest = request.width - request.epsilon.inner, request.width + request.epsilon.outer
        if not error and not lowest <= width <= highest:
            error = (
                f"closed to {width:.4f} m, outside {lowest:.4f} … {highest:.4f} m: nothing, or something else, is held"
            )
        return _finished(handle, Grasp.Result(success=not error, error=error))

    async def _grip(self, handle: Any, width: float) -> str:
        """Moves the fingers until they rest; returns why that failed, or an empty text."""
        if self._gripper_goal is not None:
            self._gripper_goal.done.set_result((True, 0, "replaced by a new goal"))
        try:
            self._session.grip(width)
        except ConfigError as error:
            return str(error)
        now = self._session.time_ns
        goal = self._gripper_goal = _GripperGoal(Future(), now, now)
        failed, _, message = await self._until(goal.done, handle)
        return str(message) if failed or handle.is_cancel_requested else ""

    async def _until(self, done: Future, handle: Any) -> tuple[bool, int, str]:
        """Waits for a goal's end or its cancellation: (aborted, error code, message)."""
        while not done.done():
            if handle.is_cancel_requested:
                return True, _SUCCESSFUL, "cancelled"
            await _NextSpin()
        return done.result()

    def cancel(self, reason: str) -> None:
        """Ends all goals, as unsuccessful."""
        self._end_arm(_SUCCESSFUL, reason, aborted=True)
        if self._gripper_goal is not None:
            self._gripper_goal.done.set_result((True, 0, reason))
            self._gripper_goal = None

    def _end_arm(self, code: int, message: str, *, aborted: bool) -> None:
        goal, self._arm_goal = self._arm_goal, None
        if goal is not None:
            goal.done.set_result((aborted, code, message))

    def update(self) -> None:
        """Looks at the robot after a simulation step and ends the goals that are reached or have failed."""
        if self._arm_goal is None and self._gripper_goal is None:
            return
        state = self._session.state()
        now = state.time_ns
        if (goal := self._arm_goal) is not None:
            elapsed = (now - goal.start_ns) * 1e-9
            error = np.abs(goal.trajectory.sample(elapsed) - state.robot.arm_positions)
            if elapsed < goal.trajectory.duration_s:
                if np.any(error > goal.path_tolerance):
                    self._session.hold()
                    self._end_arm(_PATH_TOLERANCE, _worst("path tolerance violated", error), aborted=True)
            elif not np.any(error > goal.goal_tolerance):
                self._end_arm(_SUCCESSFUL, "", aborted=False)
            elif elapsed > goal.trajectory.duration_s + goal.goal_time_s:
                self._end_arm(_GOAL_TOLERANCE, _worst("goal tolerance violated", error), aborted=True)
        if (grip := self._gripper_goal) is not None:
            if float(np.max(np.abs(state.robot.velocities[7:]))) > _GRIPPER_STILL_M_S:
                grip.still_since_ns = now
            if now - grip.still_since_ns > _GRIPPER_STILL_S * 1e9:
                self._gripper_goal = None
                grip.done.set_result((False, 0, ""))
            elif now - grip.start_ns > _GRIPPER_TIMEOUT_S * 1e9:
                self._gripper_goal = None
                grip.done.set_result((True, 0, "the fingers don't come to rest"))


class _NextSpin:
    """Awaiting this gives the executor a turn."""

    def __await__(self) -> Any:
        yield


def _finished(handle: Any, result: Any) -> Any:
    if handle.is_cancel_requested:
        handle.canceled()
    elif result.success:
        handle.succeed()
    else:
        handle.abort()
    return result


def _tolerances(entries: Any, default: float) -> FloatArray:
    """Position tolerances float64[7] [rad] of a goal: 0 keeps the default, a negative value switches the check off."""
    result = np.full(len(ARM_JOINTS), default)
    for entry in entries:
        if entry.name not in ARM_JOINTS:
            raise TrajectoryError(
                "a tolerance names another joint", INVALID_JOINTS, expected=list(ARM_JOINTS), got=entry.name
            )
        if entry.position != 0.0:
            result[ARM_JOINTS.index(entry.name)] = entry.position if entry.position > 0.0 else np.inf
    return result


def _seconds(duration: Any) -> float:
    return float(duration.sec + duration.nanosec * 1e-9)


def _worst(what: str, error: FloatArray) -> str:
    joint = int(np.argmax(error))
    return f"{what}: {ARM_JOINTS[joint]} is off by {error[joint]:.4f} rad"
