"""The bridge node as a real process over DDS: streams, services, commands, recovery, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
from bridge_graph import Client, running_bridge, start_bridge
from realdiff_core.contract import CONTROLLER_MANAGER, ERROR_RECOVERY, HARDWARE_COMPONENT, ROBOT_STATE
from realdiff_sim_bridge.kinematics import ArmKinematics
from realdiff_sim_bridge.scene.robot import ARM_JOINTS
from sim_fixtures import needs_gl

from realdiff_core import topics

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
pytest.importorskip("controller_manager_msgs.srv", reason="controller_manager_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]

RATE = 5.0
FOLLOW = "/fr3_arm_controller/follow_joint_trajectory"


@pytest.fixture(scope="module")
def graph() -> Iterator[Client]:
    with running_bridge(f"rate:={RATE}", "width:=160", "height:=120", "seed:=4", "real_time_factor:=4.0") as client:
        client.until(lambda: len(client.received[topics.ALIGNED_DEPTH_IMAGE]) >= 4)
        yield client


def _ns(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def test_images_come_at_their_rate_with_their_camera_info(graph: Client) -> None:
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


def test_clock_leads_and_states_follow_at_50_hz(graph: Client) -> None:
    clocks = [_ns(message.clock) for message in graph.received[topics.CLOCK]]
    assert np.all(np.diff(clocks) > 0)
    states = graph.received[topics.JOINT_STATES]
    stamps = [_ns(state.header.stamp) for state in states]
    assert set(np.diff(stamps)) == {20_000_000}
    assert set(stamps[2:]) <= set(clocks) | {clocks[-1] + 20_000_000}
    assert list(states[0].name)[-1] == "fr3_finger_joint2"


def test_latched_provenance_and_static_frames(graph: Client) -> None:
    (provenance,) = graph.received[topics.PROVENANCE][-1:]
    assert list(provenance.topics) == [topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE]
    assert list(provenance.kinds) == [provenance.CLEAN_SIM] * 2
    frames = {transform.child_frame_id for transform in graph.received[topics.TF_STATIC][0].transforms}
    assert {topics.COLOR_FRAME, topics.DEPTH_FRAME, "fr3_hand_tcp"} <= frames


def test_reset_and_its_errors(graph: Client) -> None:
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


def test_depth_sensor_is_never_mislabelled(graph: Client) -> None:
    from realdiff_msgs.srv import SetDepthSensor

    name, provenance = "/sim_bridge/set_depth_sensor", graph.received[topics.PROVENANCE]
    assert graph.call(SetDepthSensor, name, sensor="stereo").success
    graph.until(lambda: list(provenance[-1].kinds) == [provenance[-1].STEREO_SIM] * 2)
    switched = len(graph.received[topics.DEPTH_IMAGE])
    graph.until(lambda: len(graph.received[topics.DEPTH_IMAGE]) >= switched + 2)
    assert graph.call(SetDepthSensor, name, sensor="clean").success
    graph.until(lambda: list(provenance[-1].kinds) == [provenance[-1].CLEAN_SIM] * 2)
    refused = graph.call(SetDepthSensor, name, sensor="lidar")
    assert not refused.success
    assert "clean" in refused.message
    stereo, clean = graph.received[topics.DEPTH_IMAGE][switched + 1], graph.received[topics.DEPTH_IMAGE][0]
    holes = [np.mean(np.frombuffer(image.data, np.uint16) == 0) for image in (clean, stereo)]
    assert holes[1] > holes[0]


def _positions(graph: Client) -> np.ndarray:
    count = len(graph.received[topics.JOINT_STATES])
    graph.until(lambda: len(graph.received[topics.JOINT_STATES]) > count)
    return np.array(graph.received[topics.JOINT_STATES][-1].position[:7])


def _trajectory(positions, seconds: float = 1.0, **header):
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    point = JointTrajectoryPoint(positions=[float(value) for value in positions], velocities=[0.0] * 7)
    point.time_from_start.sec, point.time_from_start.nanosec = int(seconds), int(seconds % 1 * 1e9)
    message = JointTrajectory(joint_names=list(ARM_JOINTS), points=[point])
    message.header.stamp.sec = header.get("sec", 0)
    return message


def _swing(graph: Client, share: float = 1.0) -> list[float]:
    """A goal away from the present position, back and forth, so that no limit is reached."""
    present = _positions(graph)
    target = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
    return list(present + share * np.where(np.abs(present - target) < 0.05, 0.15, target - present))


def _near(graph: Client, wanted) -> bool:
    return bool(np.allclose(graph.received[topics.JOINT_STATES][-1].position[:7], wanted, atol=5e-3))


def test_arm_follows_the_topic_and_survives_nan(graph: Client) -> None:
    from trajectory_msgs.msg import JointTrajectory

    publisher = graph.node.create_publisher(JointTrajectory, topics.ARM_TRAJECTORY, 1)
    graph.until(lambda: publisher.get_subscription_count() == 1)
    wanted = _swing(graph)
    publisher.publish(_trajectory([float("nan")] * 7))
    graph.until(lambda: any("NaN" in line for line in graph.log))
    before = _positions(graph)
    publisher.publish(_trajectory(wanted))
    graph.until(lambda: _near(graph, wanted))
    assert not np.allclose(before, wanted, atol=5e-3), "the arm was there already: nothing has been tested"


def test_follow_joint_trajectory_with_feedback_state_and_query(graph: Client) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import FollowJointTrajectory
    from control_msgs.srv import QueryTrajectoryState

    feedback: list = []
    wanted = _swing(graph)
    goal = FollowJointTrajectory.Goal(trajectory=_trajectory(wanted))
    handle = graph.send(FollowJointTrajectory, FOLLOW, goal, feedback)
    outcome = handle.get_result_async()
    query = graph.call(QueryTrajectoryState, "/fr3_arm_controller/query_state")
    assert not query.success  # time 0 lies before the trajectory
    assert "before" in query.message
    graph.until(outcome.done)
    assert outcome.result().status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result().result.error_code == FollowJointTrajectory.Result.SUCCESSFUL
    graph.until(lambda: _near(graph, wanted), timeout_s=10)
    assert len(feedback) > 3
    np.testing.assert_allclose(
        np.array(feedback[-1].desired.positions) - np.array(feedback[-1].actual.positions), feedback[-1].error.positions
    )
    state = graph.received["/fr3_arm_controller/controller_state"][-1]
    assert list(state.joint_names) == list(ARM_JOINTS)
    assert len(state.reference.positions) == len(state.feedback.velocities) == len(state.output.positions) == 7


def test_goals_that_the_real_controller_rejects_are_rejected_with_the_reason_in_the_log(graph: Client) -> None:
    """What `validate_trajectory_msg` of joint_trajectory_controller (Jazzy) refuses never becomes a goal."""
    from control_msgs.action import FollowJointTrajectory

    wanted = _swing(graph)
    strange, some, late = _trajectory(wanted), _trajectory(wanted), _trajectory(wanted, sec=1)
    strange.joint_names[0] = "panda_joint1"
    some.joint_names = some.joint_names[:6]
    moving, short, back = (_trajectory(wanted) for _ in range(3))
    moving.points[0].velocities[2] = 0.1
    short.points[0].positions = wanted[:6]
    back.points = [*back.points, *back.points]
    empty = _trajectory(wanted)
    empty.points = []
    for trajectory, reason in (
        (strange, "panda_joint1"),
        (some, "name every joint once"),
        (empty, "no points"),
        (late, "ends in the past"),
        (moving, "the last point has a velocity"),
        (short, "wrong number of positions"),
        (back, "times don't increase"),
    ):
        printed = len(graph.log)
        handle = graph.send(FollowJointTrajectory, FOLLOW, FollowJointTrajectory.Goal(trajectory=trajectory))
        assert not handle.accepted, reason
        graph.until(lambda printed=printed, reason=reason: any(reason in line for line in graph.log[printed:]))
        assert any("goal rejected" in line for line in graph.log[printed:])


def test_goals_that_would_end_in_a_reflex_are_accepted_and_aborted_before_anything_moves(graph: Client) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import FollowJointTrajectory

    before = _positions(graph)
    for trajectory, reason in (
        (_trajectory([float("nan")] * 7), "NaN"),
        (_trajectory([9.0] * 7), "limits"),
        (_trajectory(_swing(graph), 0.001), "faster"),
    ):
        outcome = graph.act(FollowJointTrajectory, FOLLOW, FollowJointTrajectory.Goal(trajectory=trajectory))
        codes = (outcome.status, outcome.result.error_code)
        assert codes == (GoalStatus.STATUS_ABORTED, FollowJointTrajectory.Result.INVALID_GOAL)
        assert reason in outcome.result.error_string
    np.testing.assert_allclose(_positions(graph), before, atol=1e-3)


def test_a_path_tolerance_aborts(graph: Client) -> None:
    from control_msgs.action import FollowJointTrajectory
    from control_msgs.msg import JointTolerance

    goal = FollowJointTrajectory.Goal(trajectory=_trajectory(_swing(graph), 0.3))
    goal.path_tolerance = [JointTolerance(name="fr3_joint2", position=1e-6)]
    outcome = graph.act(FollowJointTrajectory, FOLLOW, goal)
    assert outcome.result.error_code == FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED
    assert "fr3_joint2" in outcome.result.error_string


def test_new_goal_replaces_the_old_and_cancelling_stops_the_arm(graph: Client) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import FollowJointTrajectory

    slow = FollowJointTrajectory.Goal(trajectory=_trajectory(_swing(graph), 60.0))
    handles = [graph.send(FollowJointTrajectory, FOLLOW, slow) for _ in range(2)]
    replaced = handles[0].get_result_async()
    graph.until(replaced.done)
    assert replaced.result().status == GoalStatus.STATUS_ABORTED
    cancelled = handles[1].get_result_async()
    graph.until(handles[1].cancel_goal_async().done)
    graph.until(cancelled.done)
    assert cancelled.result().status == GoalStatus.STATUS_CANCELED
    before = _positions(graph)
    np.testing.assert_allclose(_positions(graph), before, atol=1e-3)


def test_a_client_that_vanishes_leaves_the_goal_to_the_controller(graph: Client) -> None:
    """As the real controller: the motion goes on to its end, and the next client is served."""
    from control_msgs.action import FollowJointTrajectory

    wanted = _swing(graph)
    script = textwrap.dedent(
        f"""
        import os, rclpy
        from rclpy.action import ActionClient
        from control_msgs.action import FollowJointTrajectory
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
        rclpy.init()
        node = rclpy.create_node("vanishing")
        client = ActionClient(node, FollowJointTrajectory, {FOLLOW!r})
        assert client.wait_for_server(timeout_sec=30.0)
        point = JointTrajectoryPoint(positions={[float(value) for value in wanted]}, velocities=[0.0] * 7)
        point.time_from_start.sec = 2
        trajectory = JointTrajectory(joint_names={list(ARM_JOINTS)}, points=[point])
        sent = client.send_goal_async(FollowJointTrajectory.Goal(trajectory=trajectory))
        rclpy.spin_until_future_complete(node, sent, timeout_sec=30.0)
        assert sent.result().accepted
        sent.result().get_result_async()
        for _ in range(3):
            rclpy.spin_once(node, timeout_sec=0.1)
        os._exit(9)
        """
    )
    environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.domain)}
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False, env=environment).returncode == 9
    graph.until(lambda: _near(graph, wanted))
    back = FollowJointTrajectory.Goal(trajectory=_trajectory(_swing(graph)))
    assert graph.act(FollowJointTrajectory, FOLLOW, back).result.error_code == FollowJointTrajectory.Result.SUCCESSFUL


def test_gripper_actions(graph: Client) -> None:
    from action_msgs.msg import GoalStatus
    from control_msgs.action import GripperCommand
    from franka_msgs.action import Grasp, Homing, Move
    from std_srvs.srv import Trigger

    feedback: list = []
    outcome = graph.act(Move, "/franka_gripper/move", Move.Goal(width=0.03, speed=0.1), feedback)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.success
    assert 0.03 < max(message.current_width for message in feedback) <= 0.081
    graph.until(lambda: abs(sum(graph.received[topics.GRIPPER_JOINT_STATES][-1].position) - 0.03) < 3e-3)
    outcome = graph.act(Grasp, "/franka_gripper/grasp", Grasp.Goal(width=0.05, speed=0.1, force=20.0))
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert "nothing" in outcome.result.error
    outcome = graph.act(Move, "/franka_gripper/move", Move.Goal(width=0.5, speed=0.1))
    assert not outcome.result.success

    goal = GripperCommand.Goal()
    goal.command.position = 0.02  # per finger
    outcome = graph.act(GripperCommand, "/franka_gripper/gripper_action", goal)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.reached_goal
    assert outcome.result.position == pytest.approx(0.04, abs=2e-3)
    for impossible in (-0.01, 0.2, float("nan")):
        goal.command.position = impossible
        assert not graph.act(GripperCommand, "/franka_gripper/gripper_action", goal).result.reached_goal

    handle = graph.send(Move, "/franka_gripper/move", Move.Goal(width=0.0, speed=0.01))
    outcome = handle.get_result_async()
    assert graph.call(Trigger, "/franka_gripper/stop").success
    graph.until(outcome.done)
    assert "stopped" in outcome.result().result.error
    assert graph.act(Homing, "/franka_gripper/homing", Homing.Goal()).result.success


def test_reflex_and_its_three_steps(graph: Client) -> None:
    """The hand is sent through the table; then each step of the recovery is tried too early, and in time."""
    from control_msgs.action import FollowJointTrajectory
    from controller_manager_msgs.srv import ListControllers, SetHardwareComponentState, SwitchController
    from franka_msgs.action import ErrorRecovery
    from lifecycle_msgs.msg import State

    from realdiff_msgs.srv import Reset

    assert graph.call(Reset, "/sim_bridge/reset", seed=4).success
    kinematics, joints = ArmKinematics(), _positions(graph)
    kinematics.reset(joints)
    goal = kinematics.tcp
    goal.position[2] = -0.05
    for _ in range(200):
        joints = kinematics.step(goal, 0.05)
    trajectory = FollowJointTrajectory.Goal(trajectory=_trajectory(joints, 4.0))
    outcome = graph.act(FollowJointTrajectory, FOLLOW, trajectory)
    assert outcome.result.error_code == FollowJointTrajectory.Result.INVALID_GOAL
    assert "reflex" in outcome.result.error_string
    states = graph.received[ROBOT_STATE]
    graph.until(lambda: states[-1].robot_mode == states[-1].ROBOT_MODE_REFLEX)
    assert states[-1].current_errors.cartesian_reflex
    assert not graph.send(FollowJointTrajectory, FOLLOW, trajectory).accepted

    def hardware() -> bool:
        fields = {"name": HARDWARE_COMPONENT, "target_state": State(label="active")}
        service = f"{CONTROLLER_MANAGER}/set_hardware_component_state"
        return bool(graph.call(SetHardwareComponentState, service, **fields).ok)

    def controller() -> bool:
        fields = {"activate_controllers": ["fr3_arm_controller"], "strictness": SwitchController.Request.STRICT}
        return bool(graph.call(SwitchController, f"{CONTROLLER_MANAGER}/switch_controller", **fields).ok)

    assert not controller()
    assert not hardware()
    graph.act(ErrorRecovery, ERROR_RECOVERY, ErrorRecovery.Goal())
    assert not controller()
    assert hardware()
    listed = graph.call(ListControllers, f"{CONTROLLER_MANAGER}/list_controllers").controller
    assert {entry.name: entry.state for entry in listed}["fr3_arm_controller"] == "inactive"
    assert controller()
    graph.until(lambda: states[-1].robot_mode == states[-1].ROBOT_MODE_MOVE)
    assert states[-1].last_motion_errors.cartesian_reflex
    ready = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]
    back = graph.act(FollowJointTrajectory, FOLLOW, FollowJointTrajectory.Goal(trajectory=_trajectory(ready, 2.0)))
    assert back.result.error_code == FollowJointTrajectory.Result.SUCCESSFUL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(number: int) -> None:
    process = start_bridge("rate:=2.0", "width:=64", "height:=48")
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
        ("gripper_name:=my gripper", "parameter gripper_name"),
    ],
)
def test_wrong_parameters_are_refused(parameter: str, message: str) -> None:
    process = start_bridge(parameter)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
