"""sim.launch.py under the real launch system, with launch_pytest; run by `colcon test`."""

from __future__ import annotations

from pathlib import Path

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="launch_pytest isn't installed")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")

LAUNCH_FILE = Path(__file__).resolve().parents[4] / "launch" / "sim.launch.py"


@launch_pytest.fixture
def simulation():
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription

    arguments = {"width": "160", "height": "120", "rate": "5.0", "behaviour": "expert"}
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    return LaunchDescription(
        [
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=simulation)
def test_camera_and_robot_appear() -> None:
    import time

    import rclpy
    from sensor_msgs.msg import Image, JointState

    from realdiff_core import topics

    rclpy.init()
    node = rclpy.create_node("test_sim_launch")
    received: dict[str, object] = {}
    for kind, topic in (
        (Image, topics.COLOR_IMAGE),
        (Image, topics.ALIGNED_DEPTH_IMAGE),
        (JointState, topics.JOINT_STATES),
    ):
        node.create_subscription(kind, topic, lambda message, topic=topic: received.update({topic: message}), 10)
    deadline = time.monotonic() + 60.0
    try:
        while len(received) < 3:
            assert time.monotonic() < deadline, f"only {sorted(received)} came"
            rclpy.spin_once(node, timeout_sec=0.1)
        assert received[topics.COLOR_IMAGE].width == 160
    finally:
        node.destroy_node()
        rclpy.shutdown()
