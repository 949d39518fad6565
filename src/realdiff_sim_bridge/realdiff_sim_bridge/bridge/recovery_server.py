"""Error recovery, and the part of ros2_control's controller manager that is needed after a reflex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller_manager_msgs.msg import ControllerState, HardwareComponentState
from controller_manager_msgs.srv import (
    ListControllers,
    ListHardwareComponents,
    SetHardwareComponentState,
    SwitchController,
)
from franka_msgs.action import ErrorRecovery
from lifecycle_msgs.msg import State
from rclpy.action import ActionServer
from realdiff_core.contract import CONTROLLER_MANAGER, ERROR_RECOVERY, HARDWARE_COMPONENT

from realdiff_sim_bridge.bridge.robot import HardwareState, RobotRefusedError
from realdiff_sim_bridge.bridge.session import Session
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

if TYPE_CHECKING:
    from rclpy.node import Node

_UPDATE_RATE = 1000
_BROADCASTERS = {
    "joint_state_broadcaster": "joint_state_broadcaster/JointStateBroadcaster",
    "franka_robot_state_broadcaster": "franka_robot_state_broadcaster/FrankaRobotStateBroadcaster",
}


class RecoveryServer:
    """Serves error recovery and four services of the controller manager.

    Args:
        node: The node that they belong to.
        session: The simulation that they act on.
        controller: Name of the arm's controller.
    """

    def __init__(self, node: Node, session: Session, controller: str) -> None:
        """Opens them."""
        self._session = session
        self._controller = controller
        self._log = node.get_logger()
        self._server = ActionServer(node, ErrorRecovery, ERROR_RECOVERY, self._recover)
        for kind, name, callback in (
            (ListControllers, "list_controllers", self._on_list_controllers),
            (ListHardwareComponents, "list_hardware_components", self._on_list_hardware),
            (SetHardwareComponentState, "set_hardware_component_state", self._on_set_hardware),
            (SwitchController, "switch_controller", self._on_switch),
        ):
            node.create_service(kind, f"{CONTROLLER_MANAGER}/{name}", callback)

    def _recover(self, handle: Any) -> ErrorRecovery.Result:
        self._session.robot.recover(self._session.time_ns)
        self._log.info("the robot's error has been cleared")
        handle.succeed()
        return ErrorRecovery.Result()

    def _on_list_controllers(self, _: Any, response: ListControllers.Response) -> ListControllers.Response:
        efforts = [f"{joint}/effort" for joint in ARM_JOINTS]
        states = [f"{joint}/{kind}" for joint in ARM_JOINTS for kind in ("position", "velocity")]
        active = self._session.robot.controller_active
        response.controller = [
            ControllerState(
                name=self._controller, state="active" if active else "inactive", update_rate=_UPDATE_RATE,
                type="joint_trajectory_controller/JointTrajectoryController",
                claimed_interfaces=efforts if active else [], required_command_interfaces=efforts,
                required_state_interfaces=states,
            ),
            *(
                ControllerState(name=name, state="active", type=kind, update_rate=_UPDATE_RATE)
                for name, kind in _BROADCASTERS.items()
            ),
        ]  # fmt: skip
        return response

    def _state(self) -> State:
        state = self._session.robot.hardware
        return State(id=int(state), label=state.name.lower())

    def _on_list_hardware(self, _: Any, response: ListHardwareComponents.Response) -> ListHardwareComponents.Response:
        response.component = [
            HardwareComponentState(
                name=HARDWARE_COMPONENT, type="system", rw_rate=_UPDATE_RATE, state=self._state(),
                plugin_name="franka_hardware/FrankaHardwareInterface",
            )
        ]  # fmt: skip
        return response

    def _on_set_hardware(
        self, request: SetHardwareComponentState.Request, response: SetHardwareComponentState.Response
    ) -> SetHardwareComponentState.Response:
        target = request.target_state
        known = {state.name.lower(): state for state in HardwareState}
        try:
            wanted = HardwareState(target.id) if target.id else known[target.label]
            self._session.robot.set_hardware(request.name, wanted)
            response.ok = True
        except (KeyError, ValueError):
            self._log.error(f"there is no hardware state '{target.label or target.id}'; there are {', '.join(known)}")
        except RobotRefusedError as error:
            self._log.error(str(error))
        self._session.switch_arm_controller()
        response.state = self._state()
        return response

    def _on_switch(
        self, request: SwitchController.Request, response: SwitchController.Response
    ) -> SwitchController.Response:
        """Deactivates, then activates; all or nothing if STRICT, as far as it goes otherwise."""
        robot = self._session.robot
        known = {self._controller, *_BROADCASTERS}
        named = [*request.activate_controllers, *request.deactivate_controllers]
        strict = request.strictness == SwitchController.Request.STRICT
        problems = [f"there is no controller '{name}'" for name in named if name not in known]
        try:
            if not (strict and problems):
                if self._controller in request.deactivate_controllers:
                    robot.set_controller(active=False)
                if self._controller in request.activate_controllers:
                    robot.set_controller(active=True)
        except RobotRefusedError as error:
            problems.append(str(error))
        self._session.switch_arm_controller()
        failed = self._controller in request.activate_controllers and not robot.controller_active
        response.ok = not problems if strict else not failed and (not named or bool(known & set(named)))
        response.message = "; ".join(problems) or "Successfully switched controllers!"
        if problems:
            self._log.error(response.message)
        return response
