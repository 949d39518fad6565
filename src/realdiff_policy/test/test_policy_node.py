"""The node as a real process over DDS, with a cell that breaks on order: each fault ends in a hold, and passes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from policy_graph import Client, start, start_node
from realdiff_core.ros_domain import free_domain

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.msg", reason="realdiff_msgs isn't built")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")
pytestmark = [pytest.mark.graph, pytest.mark.alone]

HERE = Path(__file__).parent
RUNNING, HOLD, STOPPED = 1, 2, 3
JUMP_PERCENT = 2.0

REACTION_S = 0.2
"""From the moment at which a fault can be known to the hold on the topic."""

MACHINE_S = 0.15
"""What two busy cores add: three processes, their messages, and this one's own turn."""


class Graph:
    """A client of the node: its states, its orders, and what it says."""

    def __init__(self, tmp_path: Path, domain: int | None = None, **parameters: object) -> None:
        from nav_msgs.msg import Path as PathMessage
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64, String
        from visualization_msgs.msg import MarkerArray

        from realdiff_core import topics
        from realdiff_msgs.msg import CommandedAction, PolicyStatus

        self.order = tmp_path / "order"
        self.client = Client(domain)
        self.node = self.client.node
        self.cell = start([sys.executable, str(HERE / "fake_cell.py")], domain)
        self.process = start_node(tmp_path, domain, **parameters)
        self.statuses: list[tuple[float, int, str]] = []
        self.jumps: list[float] = []
        self.joints: list[tuple[float, np.ndarray]] = []
        self.paths: list = []
        self.markers: list = []
        self.actions: list = []

        def on_status(message: PolicyStatus) -> None:
            self.status = message
            self.statuses.append((time.monotonic(), message.state, message.reason))

        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        subscribe = self.node.create_subscription
        subscribe(PolicyStatus, "/diffusion_policy/status", on_status, 50)
        subscribe(Float64, "/fake_cell/jump", lambda message: self.jumps.append(message.data), 100)
        subscribe(PathMessage, "/diffusion_policy/path", self.paths.append, 10)
        subscribe(MarkerArray, "/diffusion_policy/workspace", self.markers.append, latched)
        subscribe(CommandedAction, topics.COMMANDED_ACTION, self.actions.append, 50)
        subscribe(
            JointState, topics.JOINT_STATES,
            lambda message: self.joints.append((time.monotonic(), np.array(message.velocity))), 50,
        )  # fmt: skip
        self.orders = self.node.create_publisher(String, "/fake_cell/order", 10)
        try:
            self.change_state("configure")
            self.change_state("activate")
            self.until(lambda: self.orders.get_subscription_count() == 1)
            self.until_state(RUNNING)
        except BaseException:
            self.close()
            raise

    def until(self, condition: Callable[[], object], timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            for process in (self.cell, self.process):
                assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, f"nothing came in time; last: {self.statuses[-3:]}"
            self.client.executor.spin_once(timeout_sec=0.02)

    def until_state(self, state: int, timeout_s: float = 40.0) -> None:
        seen = len(self.statuses)
        self.until(lambda: any(entry[1] == state for entry in self.statuses[seen:]), timeout_s)

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= deadline)

    def call(self, kind, name: str, **fields):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def change_state(self, transition: str) -> None:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}"))
        assert self.call(ChangeState, "/diffusion_policy/change_state", transition=request).success, transition

    def tell(self, order: str) -> None:
        from std_msgs.msg import String

        self.orders.publish(String(data=order))

    def hold_after(self, break_it: Callable[[], None], timeout_s: float = 10.0) -> SimpleNamespace:
        """Breaks something; returns how long until the hold was told and until the arm stood still, and the reason."""
        began = time.monotonic()
        break_it()
        seen = len(self.statuses)
        self.until(lambda: any(entry[1] == HOLD for entry in self.statuses[seen:]), timeout_s)
        told, _, reason = next(entry for entry in self.statuses[seen:] if entry[1] == HOLD)
        return SimpleNamespace(hold_s=told - began, reason=reason, told=told)

    def still_after(self, told: float) -> float:
        """How long after the hold the arm first stood still for 0.1 s [s]."""
        self.wait(0.7)
        still_since = None
        for moment, velocity in self.joints:
            if moment < told or np.any(np.abs(velocity) > 1e-4):
                still_since = None
                continue
            still_since = moment if still_since is None else still_since
            if moment - still_since > 0.1:
                return still_since - told
        return float("inf")

    def close(self) -> None:
        for process in (self.process, self.cell):
            process.terminate()
        for process in (self.process, self.cell):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.client.close()


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
    assert held.hold_s <= detectable_s + REACTION_S + MACHINE_S
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
    report("gripper off", held, 2.0, still)
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
    assert held.hold_s <= REACTION_S + MACHINE_S
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
    report(order, held, 0.9 + (1.0 if "silent" in order else 0.0), still)  # the next inference is due within 0.9 s
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
