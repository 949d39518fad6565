"""The hand on the ROS graph: the actions and the service of franka_gripper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from control_msgs.action import GripperCommand
from franka_msgs.action import Grasp, Homing, Move
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from realdiff_core.errors import ConfigError, RealdiffError
from std_srvs.srv import Trigger

from realdiff_sim_bridge.bridge.gripper_controller import DEFAULT_EPSILON_M, MAX_SPEED, Motion, grasped, moved_to
from realdiff_sim_bridge.bridge.session import Session
from realdiff_sim_bridge.bridge.waiting import Answer
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH

if TYPE_CHECKING:
    from rclpy.node import Node

_SAME_WIDTH_M = 1e-4
_HOMING_SPEED = 0.05


class GripperServer:
    """Serves homing, move, grasp, gripper_action and stop.

    Args:
        node: The node that they belong to.
        session: The simulation that they act on.
        name: Name of the gripper's node.
    """

    def __init__(self, node: Node, session: Session, name: str) -> None:
        """Opens them."""
        self._session = session
        self._log = node.get_logger()
        self._handle: Any = None

        def server(kind: Any, leaf: str, execute: Any) -> ActionServer:
            return ActionServer(
                node, kind, f"/{name}/{leaf}", execute, goal_callback=self._on_goal,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
            )  # fmt: skip

        self._servers = [
            server(Homing, "homing", self._home),
            server(Move, "move", self._move),
            server(Grasp, "grasp", self._grasp),
            server(GripperCommand, "gripper_action", self._gripper_action),
        ]
        node.create_service(Trigger, f"/{name}/stop", self._on_stop)

    def _on_goal(self, _: Any) -> GoalResponse:
        try:
            self._session.refuse_expert("a gripper command")
        except RealdiffError as error:
            self._log.error(f"goal rejected: {error}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    @property
    def waiting(self) -> bool:
        """Whether a goal is under way."""
        return self._handle is not None

    def _width(self) -> float:
        return self._session.state().robot.gripper_width

    async def _home(self, handle: Any) -> Homing.Result:
        error = await self._run(handle, (0.0, MAX_GRIPPER_WIDTH), _HOMING_SPEED, moved_to(MAX_GRIPPER_WIDTH))
        return self._finish(handle, Homing.Result(success=not error, error=error))

    async def _move(self, handle: Any) -> Move.Result:
        request = handle.request
        error = await self._run(handle, (float(request.width),), float(request.speed), moved_to(float(request.width)))
        return self._finish(handle, Move.Result(success=not error, error=error))

    async def _grasp(self, handle: Any) -> Grasp.Result:
        request = handle.request
        width = float(request.width)
        if not (np.isfinite(width) and 0.0 <= width <= MAX_GRIPPER_WIDTH):
            error = str(ConfigError("grasp width out of range", expected=f"0 … {MAX_GRIPPER_WIDTH} m", got=width))
        else:
            accept = grasped(width, float(request.epsilon.inner), float(request.epsilon.outer))
            error = await self._run(handle, (0.0,), float(request.speed), accept)
        return self._finish(handle, Grasp.Result(success=not error, error=error))

    async def _gripper_action(self, handle: Any) -> GripperCommand.Result:
        """As the driver: opens with a move, closes with a grasp of that width; reports the width as position."""
        target, present = 2.0 * float(handle.request.command.position), self._width()
        if abs(target - present) < _SAME_WIDTH_M:
            handle.succeed()
            return GripperCommand.Result(position=present, reached_goal=True)
        if target >= present:
            error = await self._run(handle, (target,), MAX_SPEED, moved_to(target))
        elif target >= 0.0:
            accept = grasped(target, DEFAULT_EPSILON_M, DEFAULT_EPSILON_M)
            error = await self._run(handle, (0.0,), MAX_SPEED, accept)
        else:
            error = f"{target / 2:g} m per finger can't be reached"  # NaN ends here too
        result = GripperCommand.Result(position=self._width(), reached_goal=not error, stalled=bool(error))
        return self._finish(handle, result, error)

    async def _run(self, handle: Any, stages: tuple[float, ...], speed: float, accept: Any) -> str:
        """Moves the fingers until they rest; returns why that failed, or an empty text."""
        answer: Answer[str] = Answer()
        try:
            self._session.gripper.start(Motion(stages, speed, accept, answer.give))
        except ConfigError as error:
            return str(error)
        self._handle = handle
        error_text = await answer.wait(handle, lambda: self._stop("cancelled", answer))
        if self._handle is handle:
            self._handle = None
        return error_text

    def _stop(self, reason: str, answer: Answer[str]) -> None:
        answer.give(reason)
        self._session.gripper.stop(self._width())

    def _finish(self, handle: Any, result: Any, error: str | None = None) -> Any:
        reason = result.error if error is None else error
        if handle.is_cancel_requested:
            handle.canceled()
        elif reason:
            self._log.warning(f"gripper: {reason}")
            handle.abort()
        else:
            handle.succeed()
        return result

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._session.refuse_expert("a gripper command")
        except RealdiffError as error:
            response.success, response.message = False, str(error)
            return response
        self._session.gripper.stop(self._width())
        response.success = True
        return response

    def update(self) -> None:
        """Tells the present goal's client how wide the hand is; to be called after a simulation step."""
        if self._handle is None:
            return
        kind = type(self._handle.request)
        width = self._width()
        for action in (Homing, Move, Grasp):
            if kind is action.Goal:
                self._handle.publish_feedback(action.Feedback(current_width=width))
        if kind is GripperCommand.Goal:
            self._handle.publish_feedback(GripperCommand.Feedback(position=width))
