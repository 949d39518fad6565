"""The node `calibration_overlay`: the rendered robot over the live picture, and the camera's static transform.

It converts messages and reports; `realdiff_sim_bridge.calibration.live` draws.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from realdiff_core.camera import CameraModel
from realdiff_core.errors import ConfigError, RealdiffError
from realdiff_core.image import image_to_numpy, numpy_to_image_fields
from realdiff_core.messages import to_ns
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage

from realdiff_core import topics
from realdiff_sim_bridge.bridge.ros_messages import fill
from realdiff_sim_bridge.calibration.live import LiveOverlay
from realdiff_sim_bridge.calibration.transform import CameraTransform, Transform, load_transform

NODE_NAME = "calibration_overlay"
OVERLAY_TOPIC = f"{topics.ENHANCED_PREFIX}/calibration_overlay"

_WARN_EVERY_S = 5.0


class CalibrationOverlay(Node):
    """Draws the robot where the calibration says it is."""

    def __init__(self) -> None:
        """Reads the calibration and opens topics.

        Raises:
            ConfigError: The parameter `calibration` is missing, or its file is wrong.
        """
        super().__init__(NODE_NAME)
        path = str(self.declare_parameter("calibration", "").value)
        self._period_ns = round(1e9 / max(float(self.declare_parameter("rate", 5.0).value or 0.0), 0.1))
        publish_tf = bool(self.declare_parameter("publish_tf", False).value)
        if not path:
            raise ConfigError(
                "parameter calibration is missing",
                expected="the path of a camera_tf.yaml",
                next_step="--ros-args -p calibration:=calibration/camera_tf.yaml",
            )
        content = load_transform(Path(path))
        self._overlay = LiveOverlay(content.optical.pose)
        self._last_ns = -self._period_ns
        self._warned: dict[str, float] = {}
        self._publisher = self.create_publisher(Image, OVERLAY_TOPIC, 2)
        self.create_subscription(CameraInfo, topics.COLOR_INFO, self._on_camera, qos_profile_sensor_data)
        for topic in (topics.JOINT_STATES, topics.GRIPPER_JOINT_STATES):
            self.create_subscription(JointState, topic, self._on_joints, qos_profile_sensor_data)
        self.create_subscription(Image, topics.COLOR_IMAGE, self._on_image, qos_profile_sensor_data)
        if publish_tf:
            self._publish_tf(content)

    def _publish_tf(self, content: CameraTransform) -> None:
        latched = QoSProfile(
            depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
        )
        self._tf = self.create_publisher(TFMessage, topics.TF_STATIC, latched)
        transform: Transform = content.link or content.optical
        fields = {
            "header": {"frame_id": transform.parent},
            "child_frame_id": transform.child,
            "transform": {
                "translation": transform.translation.model_dump(),
                "rotation": transform.rotation.model_dump(),
            },
        }
        self._tf.publish(fill(TFMessage(), {"transforms": [fields]}))

    def _on_camera(self, message: CameraInfo) -> None:
        self._guarded(lambda: self._overlay.set_camera(CameraModel.from_camera_info(message)))

    def _on_joints(self, message: JointState) -> None:
        stamp = to_ns(message.header.stamp)
        self._guarded(lambda: self._overlay.set_joints(stamp, message.name, message.position))

    def _on_image(self, message: Image) -> None:
        stamp = to_ns(message.header.stamp)
        if 0 <= stamp - self._last_ns < self._period_ns:
            return
        self._last_ns = stamp
        self._guarded(lambda: self._draw(message, stamp))

    def _draw(self, message: Image, stamp: int) -> None:
        picture = image_to_numpy(message)
        if message.encoding in ("bgr8", "bgra8"):
            picture = picture[..., 2::-1]
        drawn = self._overlay.draw(picture[..., :3], stamp)
        result = fill(Image(), numpy_to_image_fields(drawn, "rgb8"))
        result.header = message.header
        self._publisher.publish(result)

    def _guarded(self, action: Any) -> None:
        """Reports what is wrong with a message now and then; the node lives on."""
        try:
            action()
        except RealdiffError as error:
            now = time.monotonic()
            if now - self._warned.get(error.what, -_WARN_EVERY_S) >= _WARN_EVERY_S:
                self._warned[error.what] = now
                self.get_logger().warning(str(error))

    def close(self) -> None:
        """Frees the renderer."""
        self._overlay.close()


def spin(arguments: list[str]) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    rclpy.init(args=arguments)
    node: CalibrationOverlay | None = None
    try:
        node = CalibrationOverlay()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # asked to stop
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
