"""The node over DDS as on hardware: raw depth alone, the camera of the training, the gripper's own name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from policy_graph import HOLD, RUNNING, Graph
from realdiff_core.ros_domain import free_domain

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
