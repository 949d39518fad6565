"""Compares a graph that was observed with the drivers' contract; says what differs and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from realdiff_core.contract import (
    CallContract,
    Contract,
    Endpoint,
    ObservedGraph,
    ObservedStream,
    Provider,
    Severity,
    TopicContract,
)


@dataclass(frozen=True)
class Finding:
    """A deviation from the contract.

    Attributes:
        name: Topic, action or service.
        what: What is wrong.
        expected: What the contract says.
        got: What was seen.
        next_step: What to do.
        severity: "error" if nothing will work, "warning" if it may.
    """

    name: str
    what: str
    expected: str
    got: str
    next_step: str
    severity: Severity = "error"

    def __str__(self) -> str:
        """Returns all parts, one a line."""
        return (
            f"{self.severity}: {self.name}: {self.what}\n  expected:  {self.expected}\n  got:       {self.got}\n"
            f"  next step: {self.next_step}"
        )


_START: dict[Provider, str] = {
    "camera": "start the camera driver: ros2 launch realsense2_camera rs_launch.py align_depth.enable:=true",
    "arm": "load a joint trajectory controller of that name (franka_fr3_moveit_config's moveit.launch.py does; "
    "franka_bringup's controllers.yaml has none)",
    "gripper": "start the gripper node (load_gripper:=true)",
    "robot state": "load franka_robot_state_broadcaster: ros2 run controller_manager spawner "
    "franka_robot_state_broadcaster",
    "recovery": "start the robot driver, franka_ros2 3.3 or later",
    "robot": "start the robot driver with joint and robot state publisher",
    "simulation": "start the simulation: ros2 launch realdiff sim.launch.py",
}


def compare(contract: Contract, graph: ObservedGraph) -> list[Finding]:
    """Compares a graph with the contract.

    What is optional may be missing but must not be there in another form. Other nodes' endpoints on the same topic (a
    recorder, a second viewer) are no deviation: one of the right kind is enough. Every one of another type is reported.

    Args:
        contract: What should be there; `Contract.hardware()` on a real robot.
        graph: What was seen.

    Returns:
        Findings in the contract's order; empty if all is as it should be.
    """
    findings: list[Finding] = []
    for topic in contract.topics:
        findings += _topic(topic, graph)
    for call in contract.calls:
        findings += _call(call, graph)
    return findings


def _topic(topic: TopicContract, graph: ObservedGraph) -> Iterator[Finding]:
    published = topic.direction == "published"
    endpoints = (graph.publishers if published else graph.subscriptions).get(topic.name, ())
    role = "publisher" if published else "subscriber"
    if not endpoints:
        if topic.required:
            yield _missing(topic.name, role, topic.msgtype, topic.provider, _similar_topics(topic, graph))
        return
    right = [endpoint for endpoint in endpoints if endpoint.msgtype == topic.msgtype]
    for endpoint in endpoints:
        if endpoint.msgtype != topic.msgtype:
            yield Finding(
                topic.name, f"wrong type of its {role}", topic.msgtype, f"{endpoint.msgtype} ({endpoint.node})",
                f"stop or remap node {endpoint.node}, or install the driver version that this workspace is made for",
            )  # fmt: skip
    if right:
        yield from _qos(topic, right, role)
    if (stream := graph.streams.get(topic.name)) is not None:
        yield from _stream(topic, stream)


def _qos(topic: TopicContract, endpoints: list[Endpoint], role: str) -> Iterator[Finding]:
    kinds = {endpoint.reliability for endpoint in endpoints} - {None}
    if kinds and topic.reliability not in kinds:
        if topic.reliability == "reliable":
            next_step = (
                "subscribe best effort as well (the sensor data profile), or set the driver's <stream>_qos to DEFAULT: "
                "a reliable subscriber gets nothing from a best-effort publisher, without any error"
                if role == "publisher"
                else "publish best effort is lost at times: make the subscriber reliable"
            )
        else:
            next_step = "nothing is lost by it; the driver is older or configured differently"
        severity: Severity = "error" if topic.reliability == "reliable" else "warning"
        yield Finding(
            topic.name, "other reliability", topic.reliability, ", ".join(sorted(map(str, kinds))), next_step, severity
        )
    lasting = {endpoint.durability for endpoint in endpoints} - {None}
    if lasting and topic.durability == "transient_local" and topic.durability not in lasting:
        yield Finding(
            topic.name, "isn't latched", "transient_local", ", ".join(sorted(map(str, lasting))),
            "subscribe before it is published, or mend the publisher: whoever comes later never hears it",
        )  # fmt: skip


def _stream(topic: TopicContract, stream: ObservedStream) -> Iterator[Finding]:
    if topic.rate_hz is not None and stream.count == 0:
        yield Finding(
            topic.name, "no messages come", f"{topic.rate_hz[0]:g} … {topic.rate_hz[1]:g} Hz", "0 messages",
            "look at the driver's log; check QoS, network and, in simulation, that it isn't paused",
        )  # fmt: skip
        return
    if topic.encodings and (wrong := sorted(stream.encodings - set(topic.encodings))):
        yield Finding(
            topic.name, "other encoding", " or ".join(topic.encodings), ", ".join(wrong),
            "set the driver's image format, or convert: a policy would read other numbers than in training",
        )  # fmt: skip
    if topic.frame_id is not None and (other := sorted(stream.frames - {topic.frame_id})):
        yield Finding(
            topic.name, "other frame", topic.frame_id, ", ".join(frame or "(empty)" for frame in other),
            "set camera_name and tf_prefix of the driver to their defaults, or tell the policy the frame's name",
        )  # fmt: skip
    if topic.rate_hz is None or stream.rate_hz is None:
        return
    low, high = topic.rate_hz
    if not low <= stream.rate_hz <= high:
        slow = stream.rate_hz < low
        yield Finding(
            topic.name, "comes too slowly" if slow else "comes too fast", f"{low:g} … {high:g} Hz",
            f"{stream.rate_hz:.1f} Hz",
            "lower resolution or rate, check USB 3 and CPU load; half the rate means that enable_sync is off "
            "or the computer is too slow" if slow else "check that only one driver publishes it, and its rate setting",
            "warning",
        )  # fmt: skip


def _call(call: CallContract, graph: ObservedGraph) -> Iterator[Finding]:
    seen = graph.actions if call.kind == "action" else graph.services
    if call.name not in seen:
        if call.required:
            same_type = sorted(name for name, kind in seen.items() if kind == call.srvtype and name != call.name)
            yield _missing(call.name, f"{call.kind} server", call.srvtype, call.provider, same_type)
    elif seen[call.name] != call.srvtype:
        yield Finding(
            call.name, f"wrong type of the {call.kind}", call.srvtype, seen[call.name],
            "install the driver version that this workspace is made for",
        )  # fmt: skip


def _missing(name: str, role: str, kind: str, provider: Provider, similar: list[str]) -> Finding:
    next_step = _START[provider]
    if similar:
        leaf = name.rpartition("/")[2]
        named = sorted(similar, key=lambda other: other.rpartition("/")[2] != leaf)
        next_step = f"tell this workspace the driver's name, or remap {named[0]} to {name}"
        if provider in ("gripper", "arm"):
            node = named[0].strip("/").split("/")[0]
            argument = "gripper_name" if provider == "gripper" else "arm_controller"
            next_step = (
                f"set {argument}:={node}, or rename the driver's node (franka_ros2 says franka_gripper, MoveIt's "
                "configuration fr3_gripper)"
                if provider == "gripper"
                else f"set {argument}:={node}, or rename the controller"
            )
    got = f"the same type under {', '.join(similar)}" if similar else "nothing of that name"
    return Finding(name, f"no {role}", f"{name} ({kind})", got, next_step)


def _similar_topics(topic: TopicContract, graph: ObservedGraph) -> list[str]:
    """Topics of the same type and last name under another node: a renamed driver."""
    seen = graph.publishers if topic.direction == "published" else graph.subscriptions
    leaf = topic.name.rpartition("/")[2]
    return sorted(
        name
        for name, endpoints in seen.items()
        if name != topic.name
        and name.rpartition("/")[2] == leaf
        and any(endpoint.msgtype == topic.msgtype for endpoint in endpoints)
        and topic.provider in ("gripper", "arm")
    )


def markdown(contract: Contract) -> str:
    """Renders the contract as Markdown tables, for the documentation."""
    lines = ["| topic | type | QoS | encoding, frame | rate | |", "|---|---|---|---|---|---|"]
    for topic in contract.topics:
        qos = topic.reliability.replace("_", " ") + (", latched" if topic.durability == "transient_local" else "")
        content = ", ".join(filter(None, (" or ".join(topic.encodings), topic.frame_id)))
        rate = f"{topic.rate_hz[0]:g} … {topic.rate_hz[1]:g} Hz" if topic.rate_hz else ""
        note = [topic.note] if topic.note else []
        if topic.direction == "subscribed":
            note.insert(0, "subscribed")
        if not topic.required:
            note.insert(0, "optional")
        if topic.only_in_simulation:
            note.insert(0, "simulation only")
        lines.append(f"| `{topic.name}` | {topic.msgtype} | {qos} | {content} | {rate} | {'; '.join(note)} |")
    lines += ["", "| action or service | type | |", "|---|---|---|"]
    for call in contract.calls:
        note = [call.note] if call.note else []
        if not call.required:
            note.insert(0, "optional")
        if call.only_in_simulation:
            note.insert(0, "simulation only")
        lines.append(f"| `{call.name}` | {call.srvtype} | {'; '.join(note)} |")
    return "\n".join(lines)
