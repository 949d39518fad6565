"""Recovery after a reflex, all three steps in one call.

franka_ros2 (3.3 and later) needs, in this order: the robot's own error recovery, the hardware component active again,
and the controllers switched on again. Each alone leaves the arm dead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from action_msgs.msg import GoalStatus
from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController
from franka_msgs.action import ErrorRecovery
from lifecycle_msgs.msg import State
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from realdiff_core.contract import CONTROLLER_MANAGER, ERROR_RECOVERY, HARDWARE_COMPONENT

if TYPE_CHECKING:
    from rclpy.node import Node

STEP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class RecoveryNames:
    """What the parts are called.

    Attributes:
        error_recovery: The robot's action.
        controller_manager: Node name of ros2_control's controller manager.
        hardware_component: Name of the hardware component.
        controllers: Controllers to switch on.
    """

    error_recovery: str = ERROR_RECOVERY
    controller_manager: str = CONTROLLER_MANAGER
    hardware_component: str = HARDWARE_COMPONENT
    controllers: tuple[str, ...] = ("fr3_arm_controller",)


class ErrorRecoverer:
    """Runs the three steps while the node's executor spins.

    Args:
        node: The node that asks.
        names: What the parts are called.
    """

    def __init__(self, node: Node, names: RecoveryNames) -> None:
        """Opens action and services."""
        self._names = names
        self._action = ActionClient(node, ErrorRecovery, names.error_recovery)
        manager = names.controller_manager
        self._hardware = node.create_client(SetHardwareComponentState, f"{manager}/set_hardware_component_state")
        self._switch = node.create_client(SwitchController, f"{manager}/switch_controller")
        self._node = node
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._steps: Generator[Any, Any, str] | None = None
        self._done: Callable[[str], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a recovery is under way."""
        return self._steps is not None

    def ready(self) -> bool:
        """Whether action and services are there."""
        services = self._hardware.service_is_ready() and self._switch.service_is_ready()
        return bool(services and self._action.server_is_ready())

    def start(self, done: Callable[[str], None]) -> None:
        """Begins a recovery.

        Args:
            done: Called at the end with why it failed; an empty text if the arm can move again.
        """
        if self._steps is not None:
            done("a recovery is under way already")
            return
        self._done, self._steps = done, self._run()
        self._advance(None)

    def _advance(self, value: Any) -> None:
        assert self._steps is not None
        try:
            future = self._steps.send(value)
        except StopIteration as end:
            self._steps = None
            assert self._done is not None
            self._done(end.value)
            return
        steps = self._steps
        timer: list[Any] = []

        def finish(answer: Any) -> None:
            if timer:
                self._node.destroy_timer(timer.pop())
                if self._steps is steps:
                    self._advance(answer)

        timer.append(self._node.create_timer(STEP_TIMEOUT_S, lambda: finish(TimeoutError()), clock=self._clock))
        future.add_done_callback(lambda done: finish(done.result()))

    def _run(self) -> Generator[Any, Any, str]:
        names = self._names
        if not self._action.server_is_ready():
            return f"step 1 of 3: there is no action {names.error_recovery}"
        handle = yield self._action.send_goal_async(ErrorRecovery.Goal())
        if isinstance(handle, TimeoutError) or not handle.accepted:
            return "step 1 of 3: the robot rejected the error recovery"
        result = yield handle.get_result_async()
        if isinstance(result, TimeoutError) or result.status != GoalStatus.STATUS_SUCCEEDED:
            return "step 1 of 3: the robot could not clear its error: is the user stop released?"
        if not self._hardware.service_is_ready():
            return f"step 2 of 3: there is no service {self._hardware.srv_name}"
        active = State(id=State.PRIMARY_STATE_ACTIVE, label="active")
        answer = yield self._hardware.call_async(
            SetHardwareComponentState.Request(name=names.hardware_component, target_state=active)
        )
        if isinstance(answer, TimeoutError) or not answer.ok:
            return f"step 2 of 3: {names.hardware_component} did not become active"
        if not self._switch.service_is_ready():
            return f"step 3 of 3: there is no service {self._switch.srv_name}"
        request = SwitchController.Request(
            activate_controllers=list(names.controllers), strictness=SwitchController.Request.BEST_EFFORT
        )
        answer = yield self._switch.call_async(request)
        if isinstance(answer, TimeoutError) or not answer.ok:
            return f"step 3 of 3: the controllers {', '.join(names.controllers)} were not switched on"
        return ""

    def close(self) -> None:
        """Closes action and services."""
        self._steps = None
        self._action.destroy()
        self._node.destroy_client(self._hardware)
        self._node.destroy_client(self._switch)
