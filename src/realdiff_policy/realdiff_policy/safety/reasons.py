"""Why the robot is held: one list of reasons for gate, run time, node and records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(str, Enum):
    """What is wrong; the value is what appears on topics and in trial records."""

    NOT_FINITE = "not_finite"  # an action holds NaN or infinity
    JOINT_POSITION = "joint_position"
    JOINT_VELOCITY = "joint_velocity"
    JOINT_ACCELERATION = "joint_acceleration"
    WORKSPACE = "workspace"  # the hand would leave its box
    TABLE = "table"  # hand or arm would enter the table
    JUMP = "jump"  # a trajectory doesn't begin where the robot is commanded to be
    UNREACHABLE = "unreachable"  # no joint positions reach a pose that the policy asks for
    MALFORMED = "malformed"  # wrong shape, times that don't increase, or no stop at the end
    IMAGE_STALE = "image_stale"
    IMAGE_FROZEN = "image_frozen"
    IMAGES_APART = "images_apart"  # colour and depth of one moment don't come together
    JOINTS_STALE = "joints_stale"
    GRIPPER_STALE = "gripper_stale"
    CAMERA = "camera"  # intrinsics, encoding or size differ from the policy's training
    PROVENANCE = "provenance"  # depth that a policy must not see on this robot
    POLICY_SILENT = "policy_silent"
    POLICY_DEAD = "policy_dead"  # its process has ended
    POLICY_FAILED = "policy_failed"  # it raised an error
    CLOCK = "clock"  # time jumped back or stands still
    TRACKING = "tracking"  # the arm is not where it was commanded to be
    CONTROLLER = "controller"  # the arm controller refused or aborted
    GRIPPER = "gripper"  # the gripper refused or failed
    ROBOT_DESCRIPTION = "robot_description"  # the URDF isn't this robot's
    ROBOT_MODE = "robot_mode"  # reflex, user stop, guiding

    def __str__(self) -> str:
        """Returns the reason's name."""
        return self.value


@dataclass(frozen=True)
class Fault:
    """Something that keeps the robot from moving on.

    Attributes:
        reason: What kind of fault it is.
        text: What exactly is wrong, with numbers, for a person.
    """

    reason: Reason
    text: str

    def __str__(self) -> str:
        """Returns "reason: text", as it appears on topics."""
        return f"{self.reason}: {self.text}"
