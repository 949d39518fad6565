"""The bridge's publishers: the contract's topics under their names, with their QoS, as cheaply as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from realdiff_core.cdr import encode
from realdiff_core.contract import Contract, TopicContract
from realdiff_core.messages import typestore

from realdiff_core import topics
from realdiff_sim_bridge.bridge.ros_messages import message_class, to_message
from realdiff_sim_bridge.streams import Outgoing

if TYPE_CHECKING:
    from rclpy.node import Node

_DEPTH_IMAGES = {topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE}


class Publishers:
    """Publishes what a session says.

    Args:
        node: The node that they belong to.
        known: The topics as the session calls them.
        actual: The same topics, in the same order, as they are called on the graph.
        color_qos: QoS of the colour image, as the camera driver's parameter.
        depth_qos: QoS of the depth images.
        optional: Optional topics to open.
    """

    def __init__(
        self,
        node: Node,
        known: Contract,
        actual: Contract,
        *,
        color_qos: str,
        depth_qos: str,
        optional: set[str],
    ) -> None:
        """Opens them."""
        self._topics: dict[str, tuple[Any, TopicContract, bool]] = {}
        fast = typestore().fielddefs
        qos = {topics.COLOR_IMAGE: color_qos, **dict.fromkeys(_DEPTH_IMAGES, depth_qos)}
        for name, topic in zip((topic.name for topic in known.topics), actual.topics, strict=True):
            if topic.direction == "published" and (topic.required or name in optional):
                profile = _profile(topic, qos.get(name, "DEFAULT"))
                publisher = node.create_publisher(message_class(topic.msgtype), topic.name, profile)
                self._topics[name] = (publisher, topic, topic.msgtype in fast)

    def wanted(self, topic: str) -> bool:
        """Whether anybody listens to a topic of the session."""
        return topic in self._topics and bool(self._topics[topic][0].get_subscription_count())

    def publish(self, messages: list[Outgoing]) -> None:
        """Publishes messages; what nobody hears is dropped before it is put together, but for what is latched."""
        for name, fields in messages:
            if name not in self._topics:
                continue
            publisher, topic, fast = self._topics[name]
            if topic.durability == "transient_local" or publisher.get_subscription_count():
                publisher.publish(encode(topic.msgtype, fields) if fast else to_message(topic.msgtype, fields))


def _profile(topic: TopicContract, preset: str) -> QoSProfile:
    best_effort = topic.reliability == "best_effort" or preset == "SENSOR_DATA"
    latched = topic.durability == "transient_local"
    return QoSProfile(
        depth=1 if latched else 5 if preset == "SENSOR_DATA" else 10,
        reliability=QoSReliabilityPolicy.BEST_EFFORT if best_effort else QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )
