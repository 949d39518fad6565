"""The live overlay: its drawing, its refusals, and the node on the graph."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from calibration_fixtures import CAMERA
from realdiff_core.config import camera_profile
from realdiff_core.errors import RealdiffError
from realdiff_sim_bridge.calibration.live import LiveOverlay
from realdiff_sim_bridge.calibration.overlay import contact_sheet, draw_overlay
from realdiff_sim_bridge.calibration.silhouettes import JOINTS
from realdiff_sim_bridge.calibration.synthetic import MeshRobot, silhouette
from realdiff_sim_bridge.calibration.transform import camera_transform, write_transform
from realdiff_sim_bridge.geometry import look_at
from sim_fixtures import needs_gl

from realdiff_core import topics

pytestmark = needs_gl

POSE = look_at((1.3, 0.4, 0.75), (0.25, 0.0, 0.35))
READY = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.04, 0.04]
GREY = np.full((240, 320, 3), 120, np.uint8)


def _changed(picture: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - 120).max(axis=-1) > 10


def test_live_overlay_covers_the_robot() -> None:
    live = LiveOverlay(POSE, detail=1.0)
    live.set_camera(CAMERA)
    live.set_joints(5_000_000_000, JOINTS, READY)
    drawn = live.draw(GREY, 5_100_000_000)
    live.close()
    truth = silhouette(MeshRobot(), np.array(READY), CAMERA, POSE)
    assert np.count_nonzero(_changed(drawn) != truth) < 0.1 * truth.sum()
    assert np.all(GREY == 120)


def test_live_overlay_says_what_it_lacks() -> None:
    live = LiveOverlay(POSE)
    with pytest.raises(RealdiffError, match="camera_info"):
        live.draw(GREY, 0)
    live.set_camera(CAMERA)
    with pytest.raises(RealdiffError, match="joint states are missing"):
        live.draw(GREY, 0)
    live.set_joints(0, JOINTS[:7], READY[:7])
    with pytest.raises(RealdiffError, match="joint states are missing") as caught:
        live.draw(GREY, 0)
    assert caught.value.expected == "fr3_finger_joint1, fr3_finger_joint2"
    live.set_joints(0, [*JOINTS[7:], "other"], [0.0, 0.0, float("nan")])
    live.set_joints(0, JOINTS[:7], READY[:7])
    with pytest.raises(RealdiffError, match="different times"):
        live.draw(GREY, 2_000_000_000)
    with pytest.raises(RealdiffError, match="differ in size"):
        live.draw(GREY[:100], 0)
    with pytest.raises(RealdiffError, match="NaN"):
        live.set_joints(0, JOINTS[:1], [float("nan")])
    with pytest.raises(RealdiffError, match="contradicts itself"):
        live.set_joints(0, JOINTS, READY[:3])


def test_live_overlay_takes_the_joint_states_of_the_pictures_time() -> None:
    live = LiveOverlay(POSE)
    live.set_camera(CAMERA)
    moved = [1.0, *READY[1:]]
    live.set_joints(1_000_000_000, JOINTS, READY)
    live.set_joints(1_100_000_000, JOINTS, moved)
    early, late = live.draw(GREY, 1_010_000_000), live.draw(GREY, 1_150_000_000)
    live.close()
    for drawn, joints in ((early, READY), (late, moved)):
        truth = silhouette(MeshRobot(0.2), np.array(joints), CAMERA, POSE)
        assert np.count_nonzero(_changed(drawn) != truth) < 0.15 * truth.sum()


def test_overlay_and_contact_sheet_keep_sizes() -> None:
    mask = np.zeros((240, 320), dtype=bool)
    mask[50:100, 60:120] = True
    drawn = draw_overlay(GREY, mask, np.roll(mask, 10, axis=1))
    assert _changed(drawn)[60:90, 70:110].all()
    assert not _changed(drawn)[150:].any()
    sheet = contact_sheet([drawn] * 5, [f"{k}" for k in range(5)], columns=3, width=160)
    assert sheet.shape == (240, 480, 3)
    assert (sheet[120:, 320:] == 255).all()


@pytest.mark.graph
def test_node_publishes_overlay_and_transform(tmp_path: Path) -> None:
    rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile
    from realdiff_core.image import image_to_numpy, numpy_to_image_fields
    from realdiff_sim_bridge.bridge.ros_messages import fill
    from realdiff_sim_bridge.calibration.node import OVERLAY_TOPIC, CalibrationOverlay
    from sensor_msgs.msg import CameraInfo, Image, JointState
    from tf2_msgs.msg import TFMessage

    path = tmp_path / "camera_tf.yaml"
    write_transform(path, camera_transform(POSE, CAMERA, camera_profile("d435")))
    rclpy.init(args=["--ros-args", "-p", f"calibration:={path}", "-p", "publish_tf:=true"])
    try:
        node = CalibrationOverlay()
        user = rclpy.create_node("user")
        images: list[Image] = []
        frames: list[TFMessage] = []
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        user.create_subscription(Image, OVERLAY_TOPIC, images.append, 5)
        user.create_subscription(TFMessage, topics.TF_STATIC, frames.append, latched)
        send = {
            topic: user.create_publisher(kind, topic, 5)
            for topic, kind in (
                (topics.COLOR_IMAGE, Image),
                (topics.COLOR_INFO, CameraInfo),
                (topics.JOINT_STATES, JointState),
            )
        }
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.add_node(user)
        end = time.monotonic() + 30
        tenth = 0
        while time.monotonic() < end and not (images and frames):
            head = {
                "stamp": {"sec": 7 + tenth // 10, "nanosec": tenth % 10 * 100_000_000},
                "frame_id": topics.COLOR_FRAME,
            }
            for position in ([float("nan")] * 9, READY):  # the node lives on after the first
                state = fill(JointState(), {"header": head, "name": list(JOINTS), "position": position})
                send[topics.JOINT_STATES].publish(state)
            send[topics.COLOR_INFO].publish(fill(CameraInfo(), {"header": head, **CAMERA.to_camera_info_fields()}))
            send[topics.COLOR_IMAGE].publish(fill(Image(), {"header": head, **numpy_to_image_fields(GREY, "rgb8")}))
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                executor.spin_once(timeout_sec=0.05)
            tenth += 1
        assert images, "no overlay came"
        assert _changed(image_to_numpy(images[0])).mean() > 0.02
        assert images[0].header.frame_id == topics.COLOR_FRAME
        (transform,) = frames[0].transforms
        assert (transform.header.frame_id, transform.child_frame_id) == ("base", "camera_link")
        assert transform.transform.translation.x == pytest.approx(POSE.position[0], abs=0.03)
        node.close()
        node.destroy_node()
        user.destroy_node()
    finally:
        rclpy.try_shutdown()
