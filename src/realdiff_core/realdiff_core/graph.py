"""Describes a running ROS graph in the terms of `realdiff_core.contract`.

rclpy isn't imported: a node is handed in, and only its methods are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from realdiff_core.contract import Durability, Endpoint, ObservedGraph, ObservedStream, Reliability

_SEND_GOAL = "/_action/send_goal"


@dataclass
class StreamTally:
    """Counts the messages of one topic while somebody listens.

    Attributes:
        stamps_ns: When each message was made (header stamp) or, without a header, came in [ns].
        encodings: Image encodings that occurred.
        frames: Frames that occurred.
    """

    stamps_ns: list[int] = field(default_factory=list)
    encodings: set[str] = field(default_factory=set)
    frames: set[str] = field(default_factory=set)

    def add(self, message: Any, received_ns: int) -> None:
        """Counts a message of rclpy or rosbags.

        Args:
            message: The message.
            received_ns: When it came in [ns]; counts where the message has no header.
        """
        header = getattr(message, "header", None)
        stamp = 0 if header is None else header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        self.stamps_ns.append(stamp or received_ns)
        if header is not None:
            self.frames.add(header.frame_id)
        encoding = getattr(message, "encoding", None)
        if isinstance(encoding, str):
            self.encodings.add(encoding)

    def result(self) -> ObservedStream:
        """Returns what was heard. The rate is that of the stamps, so it holds in simulation time too."""
        stamps = self.stamps_ns
        span = (max(stamps) - min(stamps)) * 1e-9 if stamps else 0.0
        rate = (len(stamps) - 1) / span if span > 0.0 else None
        return ObservedStream(len(stamps), rate, frozenset(self.encodings), frozenset(self.frames))


def observe(node: Any, streams: dict[str, StreamTally] | None = None) -> ObservedGraph:
    """Looks at everything that a node can see on the graph.

    Discovery takes a moment: a node that was just made sees little.

    Args:
        node: An rclpy node; its own endpoints are left out.
        streams: What was heard on some topics.
    """
    publishers: dict[str, tuple[Endpoint, ...]] = {}
    subscriptions: dict[str, tuple[Endpoint, ...]] = {}
    for name, _ in node.get_topic_names_and_types():
        publishers[name] = _endpoints(node, node.get_publishers_info_by_topic(name))
        subscriptions[name] = _endpoints(node, node.get_subscriptions_info_by_topic(name))
    actions: dict[str, str] = {}
    services: dict[str, str] = {}
    for name, types in node.get_service_names_and_types():
        if not node.count_services(name):  # only clients
            continue
        if name.endswith(_SEND_GOAL):
            actions[name.removesuffix(_SEND_GOAL)] = types[0].removesuffix("_SendGoal")
        elif "/_action/" not in name:
            services[name] = types[0]
    heard = {name: tally.result() for name, tally in (streams or {}).items()}
    return ObservedGraph(
        {name: found for name, found in publishers.items() if found},
        {name: found for name, found in subscriptions.items() if found},
        actions,
        services,
        heard,
    )


def _endpoints(node: Any, infos: Any) -> tuple[Endpoint, ...]:
    own = (node.get_name(), node.get_namespace())
    return tuple(
        Endpoint(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}",
            info.topic_type,
            cast("Reliability | None", _policy(info.qos_profile.reliability, ("reliable", "best_effort"))),
            cast("Durability | None", _policy(info.qos_profile.durability, ("volatile", "transient_local"))),
        )
        for info in infos
        if (info.node_name, info.node_namespace) != own
    )


def _policy(value: Any, known: tuple[str, ...]) -> str | None:
    name = str(getattr(value, "name", value)).lower()
    return name if name in known else None
