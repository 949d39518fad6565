"""Going home: planned by MoveIt where it is there, otherwise straight in joint space through the arm's controller."""

from __future__ import annotations

from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory
from numpy.typing import NDArray
from rclpy.action import ActionClient
from realdiff_core.errors import RealdiffError
from realdiff_core.topics import JOINT_STATES
from sensor_msgs.msg import JointState

from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.robot.client import Client
from realdiff_policy.robot.messages import trajectory_message
from realdiff_policy.safety.checks import first_fault
from realdiff_policy.safety.limits import MotionLimits
from realdiff_policy.safety.trajectory import Trajectory

FloatArray = NDArray[np.float64]

_STEP_S = 0.02
_SPEED_SHARE, _ACCELERATION_SHARE = 0.25, 0.25
_SETTLE_S = 5.0


def straight(start: FloatArray, end: FloatArray, limits: MotionLimits) -> Trajectory:
    """A minimum-jerk motion in joint space, at a quarter of the limits.

    Args:
        start: float64[7] [rad].
        end: float64[7] [rad].
        limits: The robot's.

    Raises:
        RealdiffError: It would leave the limits: the workspace, or the table.
    """
    distance = np.abs(end - start)
    # Peaks of the unit minimum-jerk motion: velocity 1.875, acceleration 5.774.
    duration = max(
        0.5,
        float(np.max(1.875 * distance / (limits.velocity * _SPEED_SHARE))),
        float(np.max(np.sqrt(5.774 * distance / (limits.acceleration * _ACCELERATION_SHARE)))),
    )
    share = np.linspace(0.0, 1.0, max(2, round(duration / _STEP_S) + 1))[:, None]
    positions = start + (end - start) * share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
    velocities = (end - start) * 30.0 * share**2 * (1.0 - share) ** 2 / duration
    motion = Trajectory(0, share[:, 0] * duration, positions, velocities)
    problem = first_fault(limits, motion.times_s, motion.positions, motion.velocities)
    if problem is not None:
        raise RealdiffError(
            "the straight way home leaves the limits",
            got=str(problem[0]),
            next_step="move the arm by hand to a free place, or plan with MoveIt: go_home --moveit",
        )
    return motion


def measured_joints(client: Client, topic: str = JOINT_STATES, timeout_s: float = 10.0) -> FloatArray:
    """Waits for the arm's joint positions, float64[7] [rad]."""
    found: list[FloatArray] = []

    def take(message: JointState) -> None:
        known = dict(zip(message.name, message.position, strict=False))
        if all(name in known for name in ARM_JOINTS):
            found.append(np.array([known[name] for name in ARM_JOINTS]))

    subscription = client.node.create_subscription(JointState, topic, take, 10)
    try:
        client.wait_for(lambda: found, timeout_s, f"joint states on {topic}")
    finally:
        client.node.destroy_subscription(subscription)
    return found[-1]


def follow(client: Client, motion: Trajectory, controller: str) -> None:
    """Sends a motion to the arm's controller and waits for its end.

    Raises:
        RealdiffError: The controller refused or aborted it.
    """
    name = f"/{controller}/follow_joint_trajectory"
    action = ActionClient(client.node, FollowJointTrajectory, name)
    try:
        client.wait_for(action.server_is_ready, 10.0, f"action {name}")
        message = trajectory_message(motion)
        message.header.stamp.sec = message.header.stamp.nanosec = 0  # "from now on"
        sent = action.send_goal_async(FollowJointTrajectory.Goal(trajectory=message))
        client.wait_for(sent.done, 10.0, f"answer of {name}")
        handle: Any = sent.result()
        if not handle.accepted:
            raise RealdiffError(
                "the controller rejected the motion", where=name,
                next_step="its log says why; after a reflex it is inactive until the recovery's three steps are done",
            )  # fmt: skip
        ended = handle.get_result_async()
        client.wait_for(ended.done, float(motion.times_s[-1]) * 20.0 + _SETTLE_S, f"end of {name}")
        answer = ended.result()
        if answer.status != GoalStatus.STATUS_SUCCEEDED:
            result = answer.result
            raise RealdiffError(
                "the controller didn't finish the motion", where=name, got=f"{result.error_code} {result.error_string}"
            )
    finally:
        action.destroy()
