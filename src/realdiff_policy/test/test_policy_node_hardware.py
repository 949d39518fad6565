"""The node over DDS as on hardware: raw depth alone, the camera of the training, the gripper's own name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from policy_graph import HOLD, RUNNING, Graph
from realdiff_core.ros_domain import free_domain
from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.safety import robot_config

pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.msg", reason="realdiff_msgs isn't built")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")
pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A cell whose hand has the name that MoveIt's configuration expects."""
    folder = tmp_path_factory.mktemp("bundle")
    started = Graph(folder, free_domain(), hardware=True, gripper="fr3_gripper", most_holds=1000)
    try:
        yield started
    finally:
        started.close()


@pytest.mark.parametrize("kind", ["enhanced", "clean_sim", "stereo_sim"])
def test_depth_that_is_not_the_raw_cameras_is_refused(graph: Graph, kind: str) -> None:
    """The double-noise guard; the policy runs on as soon as the topic carries the camera's own depth again."""
    graph.wait(0.5)
    try:
        held = graph.hold_after(lambda: graph.tell(f"depth_is {kind}"))
        assert held.reason.startswith("provenance: /camera/camera/aligned_depth_to_color/image_raw carries "), held
        assert f"carries {kind} depth" in held.reason
        seen = len(graph.statuses)
        graph.wait(1.5)  # it doesn't get used to it
        assert {state for _, state, _ in graph.statuses[seen:]} == {HOLD}
    finally:
        graph.tell("depth_is sensor")
        graph.until_state(RUNNING)


def test_another_lens_than_in_training_is_refused(graph: Graph) -> None:
    graph.wait(0.5)
    try:
        held = graph.hold_after(lambda: graph.tell("lens 1.05"))
        assert "camera_info: fx is 32.3 px at 32×24, expected 30.7 px" in held.reason, held
    finally:
        graph.tell("lens 1.01")  # within the tolerance of 2 %
        graph.until_state(RUNNING)


def test_the_hand_opens_and_closes_under_its_own_name(graph: Graph) -> None:
    widths: list[float] = []
    from sensor_msgs.msg import JointState

    graph.node.create_subscription(
        JointState, "/fr3_gripper/joint_states", lambda message: widths.append(sum(message.position)), 10
    )
    graph.until(lambda: widths and min(widths) < 0.01 and max(widths) > 0.07)
    names = {name for name, _ in graph.node.get_topic_names_and_types()}
    assert not any(name.startswith("/franka_gripper") for name in names)


def urdf(prefix: str) -> str:
    """A robot description with the FR3's limits, and a prefix of the joints' names."""
    limits = robot_config("fr3").joints
    joints = "".join(
        f'<joint name="{name.replace("fr3", prefix)}" type="revolute">'
        f'<limit lower="{low}" upper="{high}" velocity="{speed}" effort="87"/></joint>'
        for name, low, high, speed in zip(ARM_JOINTS, limits.lower, limits.upper, limits.velocity, strict=True)
    )
    return f'<robot name="{prefix}">{joints}</robot>'


def test_the_description_of_another_robot_is_refused(graph: Graph) -> None:
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    description = graph.node.create_publisher(String, "/robot_description", latched)
    try:
        graph.until(description.get_subscription_count)
        held = graph.hold_after(lambda: description.publish(String(data=urdf("panda"))))
        assert held.reason.startswith("robot_description: the robot description lacks joint limits"), held
        description.publish(String(data=urdf("fr3")))
        graph.until_state(RUNNING)
    finally:
        graph.node.destroy_publisher(description)


def test_a_start_while_the_policy_runs_is_refused(graph: Graph) -> None:
    """Also after a description has come, whose limits wait for the next start."""
    from std_srvs.srv import Trigger

    graph.until_state(RUNNING)
    answer = graph.call(Trigger, "/diffusion_policy/start")
    assert not answer.success and "stop it first" in answer.message
    graph.until_state(RUNNING)


def test_a_start_right_after_a_stop_waits_until_the_arm_stands_still(graph: Graph) -> None:
    from std_srvs.srv import Trigger

    for _ in range(4):
        graph.wait(0.7)
        seen = len(graph.jumps)
        assert graph.call(Trigger, "/diffusion_policy/stop").success
        assert graph.call(Trigger, "/diffusion_policy/start").success
        graph.until_state(RUNNING)
        graph.wait(0.3)
        assert max(graph.jumps[seen:]) <= 2.0, "percent of the joint's velocity limit"


def test_joint_states_of_another_robot_are_named(graph: Graph) -> None:
    from std_srvs.srv import Trigger

    try:
        graph.tell("prefix panda")
        assert graph.call(Trigger, "/diffusion_policy/stop").success
        graph.wait(0.3)
        assert graph.call(Trigger, "/diffusion_policy/start").success  # anew: the arm isn't known any more
        seen = len(graph.statuses)
        wanted = "panda_joint7, but the policy moves fr3_joint1 to fr3_joint7: another robot"
        graph.until(lambda: any(wanted in reason for _, state, reason in graph.statuses[seen:] if state == 0))
    finally:
        graph.tell("prefix fr3")
        graph.until_state(RUNNING)
