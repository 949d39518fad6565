"""enhance.launch.py under the real launch system, with launch_pytest; run by `colcon test`."""

from __future__ import annotations

from pathlib import Path

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="launch_pytest isn't installed")
pytest.importorskip("realdiff_msgs.msg", reason="realdiff_msgs isn't built")

LAUNCH_FILE = Path(__file__).resolve().parents[4] / "launch" / "enhance.launch.py"
FRAMES = 20


@launch_pytest.fixture
def graph():
    import sys

    from launch.actions import ExecuteProcess, IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription

    camera = [sys.executable, "-m", "realdiff_enhancer.synthetic_camera", "--width", "160", "--height", "120"]
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(LAUNCH_FILE)),
                launch_arguments={"model": "disparity", "seed": "3"}.items(),
            ),
            ExecuteProcess(cmd=[*camera, "--frames", str(10 * FRAMES), "--rate", "10"]),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=graph)
def test_the_node_is_activated_and_enhances() -> None:
    import time

    import rclpy
    from realdiff_core.topics import DEPTH_IMAGE, ENHANCED_PREFIX
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("test_enhance_launch")
    images: list[Image] = []
    node.create_subscription(Image, ENHANCED_PREFIX + DEPTH_IMAGE, images.append, 10)
    deadline = time.monotonic() + 60.0
    try:
        while len(images) < FRAMES:
            assert time.monotonic() < deadline, f"only {len(images)} images came"
            rclpy.spin_once(node, timeout_sec=0.1)
        assert (images[0].width, images[0].encoding) == (160, "16UC1")
    finally:
        node.destroy_node()
        rclpy.shutdown()
