"""The node as a real process over DDS, with a cell that breaks on order: each fault ends in a hold, and passes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from policy_graph import RUNNING, Graph
from realdiff_core.ros_domain import free_domain

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.msg", reason="realdiff_msgs isn't built")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")
pytestmark = [pytest.mark.graph, pytest.mark.alone]

JUMP_PERCENT = 2.0

REACTION_S = 0.2
"""From the moment at which a fault can be known to the hold on the topic."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    started = Graph(tmp_path_factory.mktemp("bundle"), command_mode="action", most_holds=1000)
    try:
        yield started
    finally:
        started.close()


def report(name: str, held: SimpleNamespace, allowed_s: float, still_s: float) -> None:
    print(
        f"{name}: hold {1e3 * held.hold_s:.0f} ms after the fault (detectable after {1e3 * allowed_s:.0f} ms), still "
        f"{1e3 * still_s:.0f} ms later: {held.reason.split(';')[0]}"
    )


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason", "detectable_s"),
    [
        ("camera off", "camera on", "image_stale: colour images", 0.3 + 0.05),
        ("depth off", "depth on", "image_stale: depth images", 0.3 + 0.05),
        ("freeze on", "freeze off", "image_frozen", 0.4 + 0.3),
        ("joints off", "joints on", "joints_stale", 0.2 + 0.02),
        ("back 5", "", "clock: time has jumped back", 0.01),
        ("abort", "", "controller: the controller aborted the trajectory: code -4", 0.01),
        ("arm off", "arm on", "controller: the controller rejected a trajectory: its log says why", 1.0),
    ],
)
def test_faults_of_the_cell(graph: Graph, break_it: str, mend_it: str, reason: str, detectable_s: float) -> None:
    graph.wait(1.0)
    try:
        held = graph.hold_after(lambda: graph.tell(break_it))
        still = graph.still_after(held.told) if break_it not in ("joints off", "arm off") else float("nan")
    finally:
        graph.tell(mend_it)  # or every test after a failure would fail with it
        graph.until_state(RUNNING)
    report(break_it, held, detectable_s, still)
    assert held.reason.startswith(reason), held.reason
    assert held.hold_s <= detectable_s + REACTION_S
    assert not still > 0.5


def test_a_gripper_that_refuses(graph: Graph) -> None:
    """The policy opens or closes every two seconds; the refusal is known when the goal's answer comes."""
    graph.tell("gripper off")
    try:
        held = graph.hold_after(lambda: None)
        still = graph.still_after(held.told)
    finally:
        graph.tell("gripper on")
        graph.until_state(RUNNING)
    report("gripper off", held, 2.1, still)
    assert held.hold_s <= 2.1 + REACTION_S
    assert held.reason.startswith("gripper: the hand rejected"), held.reason


def policy_pid(graph: Graph) -> int:
    children = Path(f"/proc/{graph.process.pid}/task/{graph.process.pid}/children").read_text().split()
    (worker,) = (
        int(child) for child in children if "runtime.worker" in Path(f"/proc/{child}/cmdline").read_bytes().decode()
    )
    return worker


def test_a_policy_that_is_killed(graph: Graph) -> None:
    graph.wait(1.0)
    held = graph.hold_after(lambda: os.kill(policy_pid(graph), signal.SIGKILL))
    still = graph.still_after(held.told)
    report("policy killed", held, 0.02, still)
    assert held.reason.startswith("policy_dead: the policy's process has ended (signal 9)"), held.reason
    assert held.hold_s <= 0.02 + REACTION_S
    graph.until_state(RUNNING)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("once nan", "not_finite: row 3, column 2"),
        ("once far", "jump: the policy wants fr3_joint1"),
        ("once raise", "policy_failed: ValueError"),
        ("once silent 2.5", "policy_silent: the policy hasn't answered"),
    ],
)
def test_faults_of_the_policy(graph: Graph, order: str, reason: str) -> None:
    graph.wait(0.5)
    held = graph.hold_after(lambda: graph.order.write_text(order))
    still = graph.still_after(held.told)
    detectable_s = 0.9 + (1.0 if "silent" in order else 0.0)  # the next inference is due within 0.9 s
    report(order, held, detectable_s, still)
    assert held.hold_s <= detectable_s + REACTION_S
    assert held.reason.startswith(reason), held.reason
    graph.until_state(RUNNING)


def test_joins_are_smooth_over_dds(graph: Graph) -> None:
    before = len(graph.jumps)
    graph.wait(4.0)
    jumps = graph.jumps[before:]
    assert len(jumps) >= 4
    print(f"{len(jumps)} take-overs in the controller, worst velocity jump {max(jumps):.4f} % of the limit")
    assert max(jumps) <= JUMP_PERCENT


def test_what_rviz_and_recordings_see(graph: Graph) -> None:
    graph.until(lambda: graph.paths and graph.markers and len(graph.actions) > 10)
    assert graph.paths[-1].header.frame_id == "base"
    assert len(graph.paths[-1].poses) > 10
    assert {marker.ns for marker in graph.markers[-1].markers} == {"workspace", "table"}
    action = graph.actions[-1]
    assert list(action.joint_names) == [f"fr3_joint{i}" for i in range(1, 8)]
    assert abs(np.linalg.norm([getattr(action.end_effector_pose.orientation, axis) for axis in "xyzw"]) - 1) < 1e-6


def test_rviz_shows_topics_of_the_running_graph(graph: Graph) -> None:
    from test_rviz import shown

    running = dict(graph.node.get_topic_names_and_types())
    for name, topic, msgtype, _ in shown():
        assert msgtype in running[topic], name
        if topic != "/robot_description":  # which the node itself waits for
            assert graph.node.count_publishers(topic), name


def test_diagnostics(graph: Graph) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    seen: list = []
    graph.node.create_subscription(DiagnosticArray, "/diagnostics", seen.append, 10)
    graph.until(lambda: len(seen) >= 1)
    values = {entry.key: entry.value for entry in seen[-1].status[0].values}
    assert float(values["inference_p99_ms"]) > 0.0
    assert float(values["join_velocity_jump_max_percent"]) <= JUMP_PERCENT
    assert {"missed_deadlines", "end_to_end_p50_ms", "observation_age_p50_ms"} <= set(values)


def test_stop_and_start_services(graph: Graph) -> None:
    from std_srvs.srv import Trigger

    assert graph.call(Trigger, "/diffusion_policy/stop").success
    graph.until(lambda: graph.statuses[-1][1] == 0)
    graph.wait(0.7)
    assert np.allclose(graph.joints[-1][1], 0.0)
    assert graph.call(Trigger, "/diffusion_policy/start").success
    graph.until_state(RUNNING)


def test_recovery_says_what_is_missing(graph: Graph) -> None:
    from std_srvs.srv import Trigger

    assert graph.call(Trigger, "/diffusion_policy/recover").success  # begun; the fake cell has no such action
    assert graph.statuses[-1][1] == RUNNING


def test_ends_cleanly_and_the_arm_stands_still(graph: Graph) -> None:
    """The last test of this graph: a signal stops the arm, and leaves no process behind."""
    worker = policy_pid(graph)
    graph.process.send_signal(signal.SIGINT)
    output = graph.process.communicate(timeout=20)[0]
    assert graph.process.returncode == 0, output
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    graph.client.spin_for(1.0)
    assert np.allclose(graph.joints[-1][1], 0.0)


def test_a_killed_node_leaves_an_arm_that_comes_to_rest(tmp_path: Path) -> None:
    """Nobody is left to command anything: the trajectory that was accepted last ends at rest by itself."""
    graph = Graph(tmp_path, free_domain())  # by the topic this time
    try:
        graph.wait(1.5)
        graph.process.kill()
        graph.process.wait()
        killed = time.monotonic()
        graph.client.spin_for(3.0)
        moving = [moment for moment, velocity in graph.joints if np.any(np.abs(velocity) > 1e-4)]
        print(f"the arm came to rest {1e3 * (max(moving) - killed):.0f} ms after the node was killed")
        assert max(moving) - killed < 2.0
        assert max(graph.jumps) <= JUMP_PERCENT
    finally:
        graph.close()
