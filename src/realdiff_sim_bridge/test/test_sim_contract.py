"""The drivers' contract against bridges as real processes over DDS: what keeps it, and deviations that it must find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from bridge_graph import Client, running_bridge
from realdiff_core.contract import Contract, ObservedGraph, contract
from realdiff_core.contract_check import Finding, compare
from realdiff_core.graph import observe
from sim_fixtures import needs_gl

from realdiff_core import topics

pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
pytest.importorskip("controller_manager_msgs.srv", reason="controller_manager_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]

RATE = 5.0
SMALL = (f"rate:={RATE}", "width:=96", "height:=72", "real_time_factor:=3.0")


def _hear(client: Client, frames: int = 8) -> ObservedGraph:
    for messages in client.received.values():
        messages.clear()
    client.until(lambda: len(client.received[topics.ALIGNED_DEPTH_INFO]) >= frames)
    # The expert's commands and latched topics come on occasion; all else must come.
    return observe(client.node, client.tallies)


@pytest.fixture(scope="class")
def client() -> Iterator[Client]:
    with running_bridge(*SMALL, "pointcloud.enable:=true", "enable_rgbd:=true") as running:
        yield running


def _everything_required(table: Contract) -> Contract:
    return Contract(
        tuple(replace(topic, required=True) for topic in table.topics),
        tuple(replace(call, required=True) for call in table.calls),
    )


class TestAllOptions:
    def test_the_bridge_keeps_the_contract_with_all_its_options(self, client: Client) -> None:
        findings = compare(_everything_required(contract(camera_rate_hz=RATE)), _hear(client))
        assert not findings, "\n".join(map(str, findings))
        heard = {name for name, messages in client.received.items() if messages}
        silent = {topics.COMMANDED_ACTION}  # only with the expert
        latched = {topics.TF_STATIC, topics.PROVENANCE, topics.EXTRINSICS}  # heard before
        assert set(client.received) - heard <= silent | latched

    def test_the_extrinsics_agree_with_tf(self, client: Client) -> None:
        client.until(lambda: client.tallies[topics.EXTRINSICS].stamps_ns != [])
        frames = {name for topic in (topics.DEPTH_IMAGE, topics.COLOR_IMAGE) for name in client.tallies[topic].frames}
        assert frames == {topics.DEPTH_FRAME, topics.COLOR_FRAME}


def test_deviations_of_a_running_graph_are_found() -> None:
    """One bridge that deviates in four ways; the check is asked for what the drivers offer."""
    parameters = ("gripper_name:=fr3_gripper", "encoding:=32FC1", "arm_controller:=other", "color_qos:=SENSOR_DATA")
    names = {"gripper": "fr3_gripper", "arm_controller": "other"}
    with running_bridge(*SMALL, *parameters, **names) as client:
        # A reliable subscriber hears nothing of a best-effort publisher.
        client.until(lambda: len(client.received[topics.DEPTH_IMAGE]) >= 4)

        def look() -> dict[tuple[str, str], Finding]:
            for tally in client.tallies.values():
                tally.stamps_ns.clear()  # rates of the time since the last look
            seen = len(client.received[topics.COLOR_INFO])
            client.until(lambda: len(client.received[topics.COLOR_INFO]) >= seen + 8)
            graph = observe(client.node, client.tallies)
            return {(finding.name, finding.what): finding for finding in compare(contract(camera_rate_hz=RATE), graph)}

        # Services and actions are discovered one by one, also after the first images: none of the other nodes' may be
        # missing for good.
        findings = look()
        for _ in range(20):
            if {name.split("/")[1] for name, _ in findings} <= {"camera", "franka_gripper", "fr3_arm_controller"}:
                break
            findings = look()
    assert client.received[topics.COLOR_IMAGE] == []
    gripper = findings.pop(("/franka_gripper/move", "no action server"))
    assert "fr3_gripper" in gripper.got
    assert "gripper_name:=fr3_gripper" in gripper.next_step
    arm = findings.pop(("/fr3_arm_controller/follow_joint_trajectory", "no action server"))
    assert "other" in arm.got
    for name in (topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE):
        encoding = findings.pop((name, "other encoding"))
        assert (encoding.expected, encoding.got) == ("16UC1", "32FC1")
    reliability = findings.pop((topics.COLOR_IMAGE, "other reliability"))
    assert (reliability.expected, reliability.got) == ("reliable", "best_effort")
    assert findings.pop((topics.COLOR_IMAGE, "no messages come")).next_step
    left = {name.split("/")[1] for name, _ in findings}
    assert left == {"franka_gripper", "fr3_arm_controller"}  # the rest of what carries these names
