"""The topics of simulated camera and robot: one table for recorder and bridge node.

Names, types and QoS are those of the real drivers (realsense2_camera, franka_ros2); what only a simulator can know lies
under /realdiff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from realdiff_core import topics

Qos = Literal["default", "latched"]


@dataclass(frozen=True)
class TopicContract:
    """A published topic.

    Attributes:
        name: Topic name.
        msgtype: Message type.
        qos: "default" is reliable and volatile (the camera driver's default too); "latched" is reliable and transient
            local.
    """

    name: str
    msgtype: str
    qos: Qos = "default"


TOPICS: tuple[TopicContract, ...] = (
    TopicContract(topics.COLOR_IMAGE, "sensor_msgs/msg/Image"),
    TopicContract(topics.COLOR_INFO, "sensor_msgs/msg/CameraInfo"),
    TopicContract(topics.DEPTH_IMAGE, "sensor_msgs/msg/Image"),
    TopicContract(topics.DEPTH_INFO, "sensor_msgs/msg/CameraInfo"),
    TopicContract(topics.ALIGNED_DEPTH_IMAGE, "sensor_msgs/msg/Image"),
    TopicContract(topics.ALIGNED_DEPTH_INFO, "sensor_msgs/msg/CameraInfo"),
    TopicContract(topics.TF, "tf2_msgs/msg/TFMessage"),
    TopicContract(topics.TF_STATIC, "tf2_msgs/msg/TFMessage", "latched"),
    TopicContract(topics.JOINT_STATES, "sensor_msgs/msg/JointState"),
    TopicContract(topics.GRIPPER_JOINT_STATES, "sensor_msgs/msg/JointState"),
    TopicContract(topics.OBJECT_POSES, "realdiff_msgs/msg/ObjectPoses"),
    TopicContract(topics.TASK_STATUS, "realdiff_msgs/msg/TaskStatus"),
    TopicContract(topics.PROVENANCE, "realdiff_msgs/msg/Provenance", "latched"),
    TopicContract(topics.COMMANDED_ACTION, "realdiff_msgs/msg/CommandedAction"),
    TopicContract(topics.CLOCK, "rosgraph_msgs/msg/Clock"),
)
"""What the bridge node publishes (the commanded action only while its expert is at work)."""

RECORDED: tuple[TopicContract, ...] = (
    *(topic for topic in TOPICS if topic.name != topics.CLOCK),
    TopicContract(topics.ARM_TRAJECTORY, "trajectory_msgs/msg/JointTrajectory"),
)
"""What an episode bag holds: the same, and the arm's commands; playing a bag makes its own clock."""
