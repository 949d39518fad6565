"""The robot behind its controllers: modes, reflexes, and the three steps out of one, as franka_ros2 3.3 has them.

A reflex makes the hardware component "unconfigured" and deactivates the arm's controller. Back to work, in this order:
error recovery, hardware component active, controller active. On hardware the broadcasters go silent as well; here they
go on, so that the mode can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from realdiff_core.contract import HARDWARE_COMPONENT
from realdiff_core.errors import RealdiffError

from realdiff_sim_bridge.adapters.base import RobotState
from realdiff_sim_bridge.bridge.external_force import ExternalForce
from realdiff_sim_bridge.bridge.limits import LOWER, UPPER, VELOCITY
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

_RECOVERY_NS = 200_000_000
"""How long the robot stays in the mode of automatic recovery."""

_POSITION_SLACK = 1e-3
"""Simulated joint stops give way by a little [rad]."""


class RobotMode(IntEnum):
    """Modes of franka_msgs/FrankaRobotState."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


class HardwareState(IntEnum):
    """States of a ros2_control hardware component, with the ids of lifecycle_msgs/State."""

    UNCONFIGURED = 1
    INACTIVE = 2
    ACTIVE = 3
    FINALIZED = 4


class RobotRefusedError(RealdiffError):
    """The robot's state doesn't allow this now."""


@dataclass(frozen=True)
class ReflexLimits:
    """What the robot stops for by itself.

    Attributes:
        force: External force on the arm [N]; 0 switches it off.
        torque: External torque on a joint [N·m]; 0 switches it off.
    """

    force: float = 60.0
    torque: float = 40.0


@dataclass
class Robot:
    """Mode, error flags, hardware component and the arm's controller.

    Attributes:
        limits: What it stops for.
        arm_controller: Name of the joint trajectory controller.
        hardware: State of the hardware component.
        controller_active: Whether the arm's controller is.
        errors: Flags of franka_msgs/Errors that are set now.
        last_errors: Flags of the last reflex.
    """

    limits: ReflexLimits
    arm_controller: str = "fr3_arm_controller"
    hardware: HardwareState = HardwareState.ACTIVE
    controller_active: bool = True
    errors: frozenset[str] = frozenset()
    last_errors: frozenset[str] = frozenset()
    _recovering_until_ns: int = field(default=-1)

    def mode(self, now_ns: int) -> RobotMode:
        """Returns the mode at a time."""
        if now_ns < self._recovering_until_ns:
            return RobotMode.AUTOMATIC_ERROR_RECOVERY
        if self.errors:
            return RobotMode.REFLEX
        return RobotMode.MOVE if self.controller_active else RobotMode.IDLE

    def watch(self, robot: RobotState, external: ExternalForce) -> str:
        """Looks at the robot after a control period; a violation is a reflex.

        Args:
            robot: Measured joint states.
            external: Forces from outside.

        Returns:
            What happened, in a sentence; an empty text if nothing did.
        """
        if self.errors or not self.controller_active:
            return ""
        force = float(np.linalg.norm(external.force))
        positions, speeds = robot.positions[:7], np.abs(robot.velocities[:7])
        if 0.0 < self.limits.force < force:
            self._reflex("cartesian_reflex")
            return f"reflex: an external force of {force:.0f} N, the limit is {self.limits.force:g} N"
        if 0.0 < self.limits.torque < np.max(np.abs(external.torques)):
            self._reflex("joint_reflex")
            joint = int(np.argmax(np.abs(external.torques)))
            return (
                f"reflex: an external torque of {external.torques[joint]:.0f} N·m on {ARM_JOINTS[joint]}, the limit is "
                f"{self.limits.torque:g} N·m"
            )
        outside = (positions < LOWER - _POSITION_SLACK) | (positions > UPPER + _POSITION_SLACK)
        if np.any(outside):
            self._reflex("joint_position_limits_violation")
            joint = int(np.argmax(outside))
            return f"reflex: {ARM_JOINTS[joint]} has left its limits ({positions[joint]:.4f} rad)"
        if np.any(speeds > VELOCITY):
            self._reflex("joint_velocity_violation")
            joint = int(np.argmax(speeds / VELOCITY))
            return f"reflex: {ARM_JOINTS[joint]} is too fast ({speeds[joint]:.2f} rad/s)"
        return ""

    def _reflex(self, error: str) -> None:
        self.errors = self.last_errors = frozenset({error})
        self.hardware = HardwareState.UNCONFIGURED
        self.controller_active = False

    def recover(self, now_ns: int) -> None:
        """The first step: clears the error; without an error nothing happens."""
        if self.errors:
            self.errors = frozenset()
            self._recovering_until_ns = now_ns + _RECOVERY_NS

    def set_hardware(self, name: str, target: HardwareState) -> None:
        """The second step: brings the hardware component into a state.

        Raises:
            RobotRefusedError: There is no such component, or the robot's error has not been cleared.
        """
        if name != HARDWARE_COMPONENT:
            raise RobotRefusedError("there is no such hardware component", expected=HARDWARE_COMPONENT, got=name)
        if target is HardwareState.ACTIVE and self.errors:
            raise RobotRefusedError(
                "the hardware component can't be activated while the robot has an error",
                got=", ".join(sorted(self.errors)),
                next_step="ros2 action send_goal /action_server/error_recovery franka_msgs/action/ErrorRecovery {}",
            )
        self.hardware = target
        if target is not HardwareState.ACTIVE:
            self.controller_active = False

    def set_controller(self, *, active: bool) -> None:
        """The third step: activates or deactivates the arm's controller.

        Raises:
            RobotRefusedError: The hardware component isn't active.
        """
        if active and self.hardware is not HardwareState.ACTIVE:
            raise RobotRefusedError(
                f"{self.arm_controller} can't be activated: its hardware component isn't active",
                expected=f"{HARDWARE_COMPONENT} active", got=self.hardware.name.lower(),
                next_step=f"ros2 control set_hardware_component_state {HARDWARE_COMPONENT} active",
            )  # fmt: skip
        self.controller_active = active

    def restart(self) -> None:
        """Everything works again: the scene has been reset."""
        self.errors = frozenset()
        self.hardware, self.controller_active = HardwareState.ACTIVE, True
        self._recovering_until_ns = -1
