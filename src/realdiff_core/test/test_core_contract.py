"""The drivers' contract against made-up graphs: every kind of deviation is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from realdiff_core.contract import Contract, Endpoint, ObservedGraph, ObservedStream, contract
from realdiff_core.contract_check import compare, markdown
from realdiff_core.graph import StreamTally, observe

from realdiff_core import topics

TABLE = contract()


def graph_of(table: Contract) -> ObservedGraph:
    """A graph that keeps the contract."""
    publishers, subscriptions, streams = {}, {}, {}
    for topic in table.topics:
        endpoint = (Endpoint("/driver", topic.msgtype, topic.reliability, topic.durability),)
        (publishers if topic.direction == "published" else subscriptions)[topic.name] = endpoint
        rate = sum(topic.rate_hz) / 2 if topic.rate_hz else None
        streams[topic.name] = ObservedStream(
            10, rate, frozenset(topic.encodings[:1]), frozenset({topic.frame_id} - {None})
        )
    calls = {kind: {c.name: c.srvtype for c in table.calls if c.kind == kind} for kind in ("action", "service")}
    return ObservedGraph(publishers, subscriptions, calls["action"], calls["service"], streams)


def test_names_are_unique_and_hardware_is_all_but_the_simulator() -> None:
    names = [item.name for item in (*TABLE.topics, *TABLE.calls)]
    assert len(names) == len(set(names))
    hardware = TABLE.hardware()
    assert topics.CLOCK not in {topic.name for topic in hardware.topics}
    assert {topics.COLOR_IMAGE, topics.ALIGNED_DEPTH_IMAGE, topics.EXTRINSICS} <= {t.name for t in hardware.topics}
    left = {item.name for item in (*TABLE.topics, *TABLE.calls) if item.only_in_simulation}
    assert left == set(names) - {item.name for item in (*hardware.topics, *hardware.calls)}


def test_a_graph_that_keeps_it_has_no_findings() -> None:
    assert compare(TABLE, graph_of(TABLE)) == []
    # What is optional may be missing.
    needed = Contract(
        tuple(topic for topic in TABLE.topics if topic.required), tuple(call for call in TABLE.calls if call.required)
    )
    assert compare(TABLE, graph_of(needed)) == []


def test_the_gripper_under_moveits_name_is_found() -> None:
    findings = compare(TABLE, graph_of(contract(gripper="fr3_gripper")))
    assert {finding.name for finding in findings} == {
        "/franka_gripper/joint_states", "/franka_gripper/homing", "/franka_gripper/move", "/franka_gripper/grasp",
        "/franka_gripper/gripper_action", "/franka_gripper/stop",
    }  # fmt: skip
    assert all("gripper_name:=fr3_gripper" in finding.next_step for finding in findings)
    assert compare(contract(gripper="fr3_gripper"), graph_of(contract(gripper="fr3_gripper"))) == []


def test_a_missing_trajectory_controller_is_found() -> None:
    arm = TABLE.of(["arm"])
    without = Contract(
        tuple(t for t in TABLE.topics if t not in arm.topics), tuple(c for c in TABLE.calls if c not in arm.calls)
    )
    findings = compare(TABLE, graph_of(without))
    assert [f.name.rpartition("/")[2] for f in findings] == [
        "joint_trajectory", "controller_state", "follow_joint_trajectory",
    ]  # fmt: skip
    assert all("joint trajectory controller" in finding.next_step for finding in findings)


def _changed(name: str, **changes: object) -> ObservedGraph:
    """A good graph whose topic `name` has another endpoint or stream."""
    graph = graph_of(TABLE)
    endpoint = {key: value for key, value in changes.items() if key in ("msgtype", "reliability", "durability")}
    stream = {key: value for key, value in changes.items() if key not in endpoint}
    graph.publishers[name] = (replace(graph.publishers[name][0], **endpoint),)
    graph.streams[name] = replace(graph.streams[name], **stream)
    return graph


@pytest.mark.parametrize(
    ("name", "changes", "what", "got", "severity"),
    [
        (topics.DEPTH_IMAGE, {"encodings": frozenset({"32FC1"})}, "other encoding", "32FC1", "error"),
        (topics.COLOR_IMAGE, {"encodings": frozenset({"bgr8"})}, "other encoding", "bgr8", "error"),
        (topics.COLOR_IMAGE, {"reliability": "best_effort"}, "other reliability", "best_effort", "error"),
        (topics.TF_STATIC, {"durability": "volatile"}, "isn't latched", "volatile", "error"),
        (topics.COLOR_IMAGE, {"msgtype": "sensor_msgs/msg/CompressedImage"}, "wrong type", "Compressed", "error"),
        (topics.DEPTH_IMAGE, {"frames": frozenset({"robot1_depth"})}, "other frame", "robot1_depth", "error"),
        (topics.ALIGNED_DEPTH_IMAGE, {"rate_hz": 15.0}, "too slowly", "15.0 Hz", "warning"),
        (topics.GRIPPER_JOINT_STATES, {"rate_hz": 50.0}, "too fast", "50.0 Hz", "warning"),
        (topics.JOINT_STATES, {"count": 0, "rate_hz": None}, "no messages", "0 messages", "error"),
    ],
)
def test_each_deviation_is_found_and_nothing_else(name, changes, what, got, severity) -> None:
    (finding,) = compare(TABLE, _changed(name, **changes))
    assert (finding.name, finding.severity) == (name, severity)
    assert what in finding.what
    assert got in finding.got
    assert finding.expected
    assert finding.next_step
    assert name in str(finding)


def test_a_second_publisher_of_another_type_is_reported_beside_the_right_one() -> None:
    graph = graph_of(TABLE)
    graph.publishers[topics.COLOR_IMAGE] += (Endpoint("/other", "std_msgs/msg/String", "reliable", "volatile"),)
    (finding,) = compare(TABLE, graph)
    assert "/other" in finding.got


def test_a_service_of_another_type_is_found() -> None:
    graph = graph_of(TABLE)
    graph.services["/franka_gripper/stop"] = "std_srvs/srv/Empty"
    (finding,) = compare(TABLE, graph)
    assert (finding.expected, finding.got) == ("std_srvs/srv/Trigger", "std_srvs/srv/Empty")


def test_the_table_names_everything() -> None:
    text = markdown(TABLE)
    assert all(f"`{item.name}`" in text for item in (*TABLE.topics, *TABLE.calls))
    assert all(line.startswith("|") for line in text.splitlines() if line)


def test_streams_are_counted_by_their_stamps() -> None:
    tally = StreamTally()
    for k in range(5):
        stamp = SimpleNamespace(sec=3, nanosec=k * 100_000_000)
        header = SimpleNamespace(stamp=stamp, frame_id="optical")
        tally.add(SimpleNamespace(header=header, encoding="16UC1"), received_ns=k)
    result = tally.result()
    assert (result.count, result.frames, result.encodings) == (5, {"optical"}, {"16UC1"})
    assert result.rate_hz == pytest.approx(10.0)
    without_header = StreamTally()
    without_header.add(SimpleNamespace(), 0)
    without_header.add(SimpleNamespace(), 500_000_000)
    assert without_header.result().rate_hz == pytest.approx(2.0)
    assert StreamTally().result().rate_hz is None


class _Node:
    """What `observe` asks of a node."""

    def __init__(self) -> None:
        self._infos = [self._info("driver", "BEST_EFFORT"), self._info("me", "RELIABLE")]

    def _info(self, node: str, reliability: str) -> SimpleNamespace:
        def policy(name: str) -> SimpleNamespace:
            return SimpleNamespace(name=name)

        qos = SimpleNamespace(reliability=policy(reliability), durability=policy("VOLATILE"))
        return SimpleNamespace(node_name=node, node_namespace="/", topic_type="a/msg/B", qos_profile=qos)

    def get_name(self) -> str:
        return "me"

    def get_namespace(self) -> str:
        return "/"

    def get_topic_names_and_types(self) -> list:
        return [("/a", ["a/msg/B"])]

    def get_publishers_info_by_topic(self, name: str) -> list:
        return self._infos

    def get_subscriptions_info_by_topic(self, name: str) -> list:
        return [self._infos[1]]

    def get_service_names_and_types(self) -> list:
        return [
            ("/g/move/_action/send_goal", ["franka_msgs/action/Move_SendGoal"]),
            ("/g/move/_action/get_result", ["franka_msgs/action/Move_GetResult"]),
            ("/g/stop", ["std_srvs/srv/Trigger"]),
            ("/only/a/client", ["std_srvs/srv/Trigger"]),
        ]

    def count_services(self, name: str) -> int:
        return 0 if "client" in name else 1


def test_a_graph_is_described_without_the_looker_and_without_clients() -> None:
    graph = observe(_Node())
    assert graph.publishers == {"/a": (Endpoint("/driver", "a/msg/B", "best_effort", "volatile"),)}
    assert graph.subscriptions == {}
    assert graph.actions == {"/g/move": "franka_msgs/action/Move"}
    assert graph.services == {"/g/stop": "std_srvs/srv/Trigger"}


def test_the_documentation_shows_this_table() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "ros_interface.md"
    if not page.is_file():
        pytest.skip("the documentation isn't here: the package is installed alone")
    shown = page.read_text(encoding="utf-8").split("<!-- table -->\n")[1].split("\n<!-- end of table -->")[0]
    assert shown == markdown(TABLE), "put the output of realdiff_core.contract_check.markdown(contract()) there"
