"""The Franka hand's actions: opening is a move, closing is a grasp of whatever is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from action_msgs.msg import GoalStatus
from franka_msgs.action import Grasp, Move
from rclpy.action import ActionClient

from realdiff_policy.runtime.gripper import GripperAction
from realdiff_policy.safety.limits import GripperConfig
from realdiff_policy.safety.reasons import Fault, Reason

if TYPE_CHECKING:
    from rclpy.node import Node

_PATIENCE_S = 5.0
"""Opening and closing take less than two seconds."""

_RETRY_S = 1.0


class GripperCommander:
    """Starts gripper actions one after the other; what is wanted last counts.

    Args:
        node: The node that asks.
        name: Name of the gripper's node.
        config: Speed, force and width.
        on_fault: Called with what went wrong, and with None once the hand does what it is told again.
    """

    def __init__(self, node: Node, name: str, config: GripperConfig, on_fault: Callable[[Fault | None], None]) -> None:
        """Opens the actions."""
        self._name = name
        self._config = config
        self._on_fault = on_fault
        self._clients = {
            "open": ActionClient(node, Move, f"/{name}/move"),
            "close": ActionClient(node, Grasp, f"/{name}/grasp"),
        }
        self._wanted: GripperAction | None = None
        self._running: GripperAction | None = None
        self._number = 0
        self._since_s = 0.0
        self._failed_s: float | None = None

    def problem(self) -> Fault | None:
        """Whether the gripper's actions are there."""
        missing = [client._action_name for client in self._clients.values() if not client.server_is_ready()]
        if not missing:
            return None
        return Fault(
            Reason.GRIPPER, f"there is no action {', '.join(missing)}: is the gripper's name '{self._name}' right?"
        )

    def want(self, action: GripperAction) -> None:
        """Starts an action, as soon as the one under way has ended."""
        self._wanted = action
        self.update()

    def update(self) -> None:
        """Starts what is wanted, tries again what failed, and notices a hand that doesn't answer."""
        now = time.monotonic()
        if self._running is not None:
            if now - self._since_s > _PATIENCE_S:
                self._fail(f"the hand hasn't finished '{self._running}' after {_PATIENCE_S:g} s")
            return
        if self._wanted is None or (self._failed_s is not None and now - self._failed_s < _RETRY_S):
            return
        self._start(self._wanted)

    def _start(self, action: GripperAction) -> None:
        client = self._clients[action]
        if not client.server_is_ready():
            self._fail(f"there is no action {client._action_name}")
            return
        goal: Any
        if action == "open":
            goal = Move.Goal(width=self._config.open_width, speed=self._config.speed)
        else:
            goal = Grasp.Goal(width=0.0, speed=self._config.speed, force=self._config.force)
            # Closed is closed: whether something is between the fingers is for the policy to see.
            goal.epsilon.inner = goal.epsilon.outer = self._config.open_width
        self._number += 1
        number = self._number
        self._running, self._since_s = action, time.monotonic()
        client.send_goal_async(goal).add_done_callback(lambda done: self._on_answer(done, number))

    def _on_answer(self, future: Any, number: int) -> None:
        if number != self._number:
            return
        handle = future.result()
        if handle is None or not handle.accepted:
            self._fail(f"the hand rejected '{self._running}'")
            return
        handle.get_result_async().add_done_callback(lambda done: self._on_result(done, number))

    def _on_result(self, future: Any, number: int) -> None:
        if number != self._number:
            return
        answer = future.result()
        if answer is None or answer.status != GoalStatus.STATUS_SUCCEEDED or not answer.result.success:
            text = answer.result.error if answer is not None else ""
            self._fail(f"the hand failed to {self._running}: {text or 'no reason given'}")
            return
        if self._wanted == self._running:
            self._wanted = None
        self._running = None
        if self._failed_s is not None:
            self._failed_s = None
            self._on_fault(None)
        self.update()

    def _fail(self, text: str) -> None:
        self._number += 1  # whatever the present goal still says doesn't count
        self._running, self._failed_s = None, time.monotonic()
        self._on_fault(Fault(Reason.GRIPPER, text))

    def forget(self) -> None:
        """Drops what is wanted; a goal under way goes on."""
        self._wanted, self._failed_s = None, None
        self._number += 1
        self._running = None

    def close(self) -> None:
        """Closes the actions."""
        for client in self._clients.values():
            client.destroy()
