"""The arm's controller on the ROS graph: its topic, its action and its service, under the real controller's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from control_msgs.action import FollowJointTrajectory
from control_msgs.srv import QueryTrajectoryState
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from realdiff_core.errors import RealdiffError
from realdiff_core.messages import to_ns
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from realdiff_sim_bridge.bridge.arm_controller import Goal, Outcome, Tolerances
from realdiff_sim_bridge.bridge.controller_state import controller_state
from realdiff_sim_bridge.bridge.ros_messages import fill
from realdiff_sim_bridge.bridge.session import Session
from realdiff_sim_bridge.bridge.trajectory import (
    INVALID_GOAL,
    SUCCESSFUL,
    BeyondRobotError,
    TrajectoryError,
    Waypoint,
)
from realdiff_sim_bridge.bridge.waiting import Answer
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

if TYPE_CHECKING:
    from rclpy.node import Node

_FEEDBACK_NS = 50_000_000
"""The real controller looks after its actions at 20 Hz."""


class ArmServer:
    """Serves the joint trajectory controller's topic, action and query.

    Args:
        node: The node that they belong to.
        session: The simulation that they act on.
        controller: The controller's name.
    """

    def __init__(self, node: Node, session: Session, controller: str) -> None:
        """Opens them."""
        self._session = session
        self._log = node.get_logger()
        self._topic = f"/{controller}/joint_trajectory"
        self._handle: Any = None
        self._feedback_due_ns = 0
        node.create_subscription(JointTrajectoryMsg, self._topic, self._on_trajectory, 10)
        node.create_service(QueryTrajectoryState, f"/{controller}/query_state", self._on_query)
        self._server = ActionServer(
            node, FollowJointTrajectory, f"/{controller}/follow_joint_trajectory", self._follow,
            goal_callback=self._on_goal, cancel_callback=lambda _: CancelResponse.ACCEPT,
        )  # fmt: skip

    def _on_trajectory(self, message: JointTrajectoryMsg) -> None:
        try:
            self._session.refuse_expert("a trajectory")
            self._start(message)
        except RealdiffError as error:
            self._log.error(f"{self._topic}: {error}", throttle_duration_sec=1.0)

    def _on_goal(self, request: Any) -> GoalResponse:
        message = request.trajectory
        try:
            self._session.refuse_expert("a trajectory")
            self._session.arm.check(
                message.joint_names, _points(message), to_ns(message.header.stamp), self._session.time_ns
            )
        except BeyondRobotError:
            return GoalResponse.ACCEPT  # as the real controller; where the robot would stop, `_follow` aborts
        except RealdiffError as error:
            self._log.error(f"goal rejected: {error}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _start(self, message: JointTrajectoryMsg, goal: Goal | None = None) -> None:
        stamp_ns = to_ns(message.header.stamp)
        self._session.arm.accept(message.joint_names, _points(message), stamp_ns, self._session.time_ns, goal)

    async def _follow(self, handle: Any) -> FollowJointTrajectory.Result:
        answer: Answer[Outcome] = Answer()
        goal = Goal(self._tolerances(handle.request), answer.give)
        try:
            self._start(handle.request.trajectory, goal)
        except TrajectoryError as error:
            self._log.error(f"goal aborted: {error}")
            handle.abort()
            return FollowJointTrajectory.Result(error_code=INVALID_GOAL, error_string=str(error))
        self._handle = handle
        outcome = await answer.wait(handle, lambda: self._session.arm.cancel(goal))
        if self._handle is handle:
            self._handle = None
        if outcome.cancelled:
            handle.canceled()
        elif outcome.code == SUCCESSFUL:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            self._log.warning(f"goal aborted: {outcome.message}")
            handle.abort()
        return FollowJointTrajectory.Result(error_code=outcome.code, error_string=outcome.message)

    def _tolerances(self, request: Any) -> Tolerances:
        defaults = Tolerances.defaults(self._session.arm.settings)
        try:
            return _tolerances(request, defaults)
        except TrajectoryError as error:  # the real controller falls back to its own as well
            self._log.error(f"the controller's own tolerances are used: {error}")
            return defaults

    def _on_query(
        self, request: QueryTrajectoryState.Request, response: QueryTrajectoryState.Response
    ) -> QueryTrajectoryState.Response:
        sample, reason = self._session.arm.query(to_ns(request.time))
        response.success, response.message = not reason, reason
        response.name = list(ARM_JOINTS)
        response.position = sample.positions.tolist()
        response.velocity = sample.velocities.tolist()
        response.acceleration = sample.accelerations.tolist()
        return response

    @property
    def waiting(self) -> bool:
        """Whether a goal is under way."""
        return self._handle is not None

    def update(self) -> None:
        """Tells the present goal's client how far it is; to be called after a simulation step."""
        handle, now = self._handle, self._session.time_ns
        if handle is None or now < self._feedback_due_ns <= now + _FEEDBACK_NS:
            return
        self._feedback_due_ns = now + _FEEDBACK_NS
        fields = controller_state(now, self._session.arm.state).fields
        names = {"reference": "desired", "feedback": "actual"}
        kept = ("header", "joint_names", "reference", "feedback", "error")
        feedback = {names.get(name, name): fields[name] for name in kept}
        handle.publish_feedback(fill(FollowJointTrajectory.Feedback(), feedback))


def _points(message: JointTrajectoryMsg) -> list[Waypoint]:
    return [
        Waypoint(_seconds(point.time_from_start), point.positions, point.velocities, point.accelerations)
        for point in message.points
    ]


def _seconds(duration: Any) -> float:
    return float(duration.sec + duration.nanosec * 1e-9)


def _tolerances(request: Any, defaults: Tolerances) -> Tolerances:
    def merged(entries: Any, attribute: str, default: FloatArray) -> FloatArray:
        result = default.copy()
        for entry in entries:
            if entry.name not in ARM_JOINTS:
                raise TrajectoryError("a tolerance names another joint", expected=list(ARM_JOINTS), got=entry.name)
            joint = ARM_JOINTS.index(entry.name)
            result[joint] = _tolerance(getattr(entry, attribute), float(default[joint]))
        return result

    return Tolerances(
        merged(request.path_tolerance, "position", defaults.path),
        merged(request.path_tolerance, "velocity", defaults.path_velocity),
        merged(request.goal_tolerance, "position", defaults.goal),
        merged(request.goal_tolerance, "velocity", defaults.goal_velocity),
        _tolerance(_seconds(request.goal_time_tolerance), defaults.goal_time_s),
    )


def _tolerance(value: float, default: float) -> float:
    """A goal's tolerance: 0 keeps the controller's, -1 switches it off."""
    if np.isclose(value, -1.0):
        return 0.0
    if value < 0.0 or not np.isfinite(value):
        raise TrajectoryError("a tolerance makes no sense", expected="0, -1 or more than 0", got=value)
    return value or default
