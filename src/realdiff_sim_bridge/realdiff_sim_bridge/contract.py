"""The topics of an episode bag, out of the one table of what drivers and simulation publish."""

from __future__ import annotations

from realdiff_core.contract import TopicContract, contract

from realdiff_core import topics

__all__ = ["RECORDED", "TABLE", "TopicContract"]

TABLE = contract(depth_encodings=("16UC1", "32FC1"))
"""What the bridge serves, under the names that it has by default."""

RECORDED: tuple[TopicContract, ...] = tuple(
    TABLE.topic(name)
    for name in (
        topics.COLOR_IMAGE,
        topics.COLOR_INFO,
        topics.DEPTH_IMAGE,
        topics.DEPTH_INFO,
        topics.ALIGNED_DEPTH_IMAGE,
        topics.ALIGNED_DEPTH_INFO,
        topics.TF,
        topics.TF_STATIC,
        topics.JOINT_STATES,
        topics.GRIPPER_JOINT_STATES,
        topics.OBJECT_POSES,
        topics.TASK_STATUS,
        topics.PROVENANCE,
        topics.COMMANDED_ACTION,
        topics.ARM_TRAJECTORY,
    )
)
"""What an episode bag holds; playing a bag makes its own clock."""
