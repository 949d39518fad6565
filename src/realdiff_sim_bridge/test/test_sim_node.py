"""The bridge node as a real process over DDS: names, types, QoS, rates, services, commands, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from realdiff_sim_bridge.contract import TOPICS
from sim_fixtures import needs_gl

from realdiff_core import topics

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]

RATE = 5.0


def _start(*parameters: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "realdiff_sim_bridge.commands.sim_bridge", "--ros-args"]
    for parameter in parameters:
        command += ["-p", parameter]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def graph() -> Iterator[SimpleNamespace]:
    """A running bridge and a client node that listens to all of its topics."""
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile
    from realdiff_sim_bridge.bridge.ros_messages import message_class

    os.environ["ROS_DOMAIN_ID"] = str(100 + os.getpid() % 100)
    process = _start(f"rate:={RATE}", "width:=160", "height:=120", "seed:=4", "real_time_factor:=2.0")
    rclpy.init()
    node = rclpy.create_node("test_client")
    received: dict[str, list] = {topic.name: [] for topic in TOPICS}
    for topic in TOPICS:
        qos = QoSProfile(depth=50)
        if topic.qos == "latched":
            qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
        node.create_subscription(message_class(topic.msgtype), topic.name, received[topic.name].append, qos)

    def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "nothing came in time"
            rclpy.spin_once(node, timeout_sec=0.05)

    def call(kind, name: str, **fields):
        client = node.create_client(kind, name)
        until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        until(future.done)
        return future.result()

    def act(kind, name: str, goal):
        from rclpy.action import ActionClient

        client = ActionClient(node, kind, name)
        until(client.server_is_ready)
        accepted = client.send_goal_async(goal)
        until(accepted.done)
        assert accepted.result().accepted
        outcome = accepted.result().get_result_async()
        until(outcome.done)
        return outcome.result()

    result = SimpleNamespace(process=process, node=node, received=received, until=until, call=call, act=act)
    try:
        until(lambda: len(received[topics.ALIGNED_DEPTH_IMAGE]) >= 4)
        yield result
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
        rclpy.shutdown()


def _ns(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def test_topics_types_and_qos(graph) -> None:
    from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy

    for topic in TOPICS:
        (info,) = graph.node.get_publishers_info_by_topic(topic.name)
        assert info.node_name == "sim_bridge"
        assert info.topic_type == topic.msgtype
        assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        latched = info.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
        assert latched == (topic.qos == "latched"), topic.name


def test_images_come_at_their_rate_with_their_camera_info(graph) -> None:
    from realdiff_core.image import image_to_numpy

    for name, encoding, frame in (
        (topics.COLOR_IMAGE, "rgb8", topics.COLOR_FRAME),
        (topics.DEPTH_IMAGE, "16UC1", topics.DEPTH_FRAME),
        (topics.ALIGNED_DEPTH_IMAGE, "16UC1", topics.COLOR_FRAME),
    ):
        images = graph.received[name][1:]
        stamps = [_ns(image.header.stamp) for image in images]
        assert np.all(np.diff(stamps) == 1e9 / RATE)
        assert images[0].encoding == encoding
        assert images[0].header.frame_id == frame
        assert image_to_numpy(images[0]).shape[:2] == (120, 160)
        infos = {_ns(info.header.stamp): info for info in graph.received[topics.camera_info_topic(name)]}
        assert infos[stamps[0]].width == 160
        assert infos[stamps[0]].header.frame_id == frame
        assert infos[stamps[0]].distortion_model == "plumb_bob"


def test_clock_leads_and_states_follow_at_50_hz(graph) -> None:
    clocks = [_ns(message.clock) for message in graph.received[topics.CLOCK]]
    assert np.all(np.diff(clocks) > 0)
    states = graph.received[topics.JOINT_STATES]
    stamps = [_ns(state.header.stamp) for state in states]
    assert set(np.diff(stamps)) == {20_000_000}
    assert set(stamps[2:]) <= set(clocks) | {clocks[-1] + 20_000_000}
    assert list(states[0].name)[-1] == "fr3_finger_joint2"


def test_latched_provenance_and_static_frames(graph) -> None:
    (provenance,) = graph.received[topics.PROVENANCE][-1:]
    assert list(provenance.topics) == [topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE]
    assert list(provenance.kinds) == [provenance.CLEAN_SIM] * 2
    frames = {transform.child_frame_id for transform in graph.received[topics.TF_STATIC][0].transforms}
    assert {topics.COLOR_FRAME, topics.DEPTH_FRAME, "fr3_hand_tcp"} <= frames


def test_reset_and_its_errors(graph) -> None:
    from realdiff_msgs.srv import Reset

    first = graph.call(Reset, "/sim_bridge/reset", seed=7)
    assert first.success
    graph.until(lambda: graph.received[topics.PROVENANCE][-1].seed == 7)
    graph.until(lambda: graph.received[topics.TASK_STATUS][-1].seed == 7)
    assert graph.call(Reset, "/sim_bridge/reset", seed=7).message == first.message
    assert graph.call(Reset, "/sim_bridge/reset", seed=8).message != first.message
    wrong = graph.call(Reset, "/sim_bridge/reset", seed=7, task="juggle")
    assert not wrong.success
    assert "can_to_plate" in wrong.message


def test_depth_sensor_is_never_mislabelled(graph) -> None:
    from realdiff_msgs.srv import SetDepthSensor

    assert graph.call(SetDepthSensor, "/sim_bridge/set_depth_sensor", sensor="clean").success
    refused = graph.call(SetDepthSensor, "/sim_bridge/set_depth_sensor", sensor="lidar")
    assert not refused.success
    assert "clean" in refused.message


def _goal_positions(graph) -> list[float]:
    return [value + 0.1 for value in graph.received[topics.JOINT_STATES][-1].position[:7]]


def _trajectory(positions: list[float]):
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    point = JointTrajectoryPoint(positions=positions, velocities=[0.0] * 7)
    point.time_from_start.sec = 1
    return JointTrajectory(joint_names=[f"fr3_joint{i}" for i in range(1, 8)], points=[point])


def test_arm_follows_the_topic_and_survives_nan(graph) -> None:
    from trajectory_msgs.msg import JointTrajectory

    publisher = graph.node.create_publisher(JointTrajectory, topics.ARM_TRAJECTORY, 1)
    graph.until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(_trajectory([float("nan")] * 7))
    wanted = _goal_positions(graph)
    publisher.publish(_trajectory(wanted))
    graph.until(lambda: np.allclose(graph.received[topics.JOINT_STATES][-1].position[:7], wanted, atol=5e-3))


def test_follow_joint_trajectory_action(graph) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import FollowJointTrajectory

    name = "/fr3_arm_controller/follow_joint_trajectory"
    wanted = _goal_positions(graph)
    outcome = graph.act(FollowJointTrajectory, name, FollowJointTrajectory.Goal(trajectory=_trajectory(wanted)))
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.error_code == FollowJointTrajectory.Result.SUCCESSFUL
    graph.until(
        lambda: np.allclose(graph.received[topics.JOINT_STATES][-1].position[:7], wanted, atol=5e-3), timeout_s=10
    )
    wrong = _trajectory(wanted)
    wrong.joint_names[0] = "panda_joint1"
    outcome = graph.act(FollowJointTrajectory, name, FollowJointTrajectory.Goal(trajectory=wrong))
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert outcome.result.error_code == FollowJointTrajectory.Result.INVALID_JOINTS


def test_new_goal_replaces_the_old_and_cancelling_stops_the_arm(graph) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import FollowJointTrajectory
    from rclpy.action import ActionClient

    client = ActionClient(graph.node, FollowJointTrajectory, "/fr3_arm_controller/follow_joint_trajectory")
    graph.until(client.server_is_ready)
    slow = _trajectory(_goal_positions(graph))
    slow.points[0].time_from_start.sec = 60
    handles = []
    for _ in range(2):
        future = client.send_goal_async(FollowJointTrajectory.Goal(trajectory=slow))
        graph.until(future.done)
        handles.append(future.result())
    replaced = handles[0].get_result_async()
    graph.until(replaced.done)
    assert replaced.result().status == GoalStatus.STATUS_ABORTED
    cancelled = handles[1].get_result_async()
    graph.until(handles[1].cancel_goal_async().done)
    graph.until(cancelled.done)
    assert cancelled.result().status == GoalStatus.STATUS_CANCELED


def test_gripper_actions(graph) -> None:
    from action_msgs.msg import GoalStatus
    from franka_msgs.action import Grasp, Move

    outcome = graph.act(Move, "/franka_gripper/move", Move.Goal(width=0.03, speed=0.1))
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.success
    graph.until(lambda: abs(sum(graph.received[topics.GRIPPER_JOINT_STATES][-1].position) - 0.03) < 3e-3)
    outcome = graph.act(Grasp, "/franka_gripper/grasp", Grasp.Goal(width=0.05, speed=0.1, force=20.0))
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert "nothing" in outcome.result.error
    outcome = graph.act(Move, "/franka_gripper/move", Move.Goal(width=0.5, speed=0.1))
    assert not outcome.result.success


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(number: int) -> None:
    process = _start("rate:=2.0", "width:=64", "height:=48")
    try:
        for line in process.stdout:
            if "simulating" in line:
                break
        process.send_signal(number)
        output = process.communicate(timeout=30)[0]
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("task:=juggle", "unknown task 'juggle'"),
        ("behaviour:=dance", "idle or expert"),
        ("rate:=-3.0", "parameter rate"),
        ("rate:=fast", "parameter rate"),
    ],
)
def test_wrong_parameters_are_refused(parameter: str, message: str) -> None:
    process = _start(parameter)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
