"""A process that publishes a clean, moving depth scene under the topics of a camera; for the bench and the tests.

It waits for a subscriber, publishes so many frames at a steady rate, and exits. Messages are made once and sent with
new stamps, so that the source takes next to nothing of the time that is measured.
"""

from __future__ import annotations

import argparse
import struct
import time

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, from_ns, make, make_header, serialize
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics

__all__ = ["depth_scene", "main"]

_SCENES = 30
_SUBSCRIBER_TIMEOUT_S = 60.0


def depth_scene(index: int, height: int, width: int) -> NDArray[np.uint16]:
    """A table, a box and a ball that move, and background beyond a camera's range; uint16 [H,W], millimetres."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    depth = np.where(y < 0.1, 5000.0, 1400 - 700 * y)
    shift = 0.3 * index / _SCENES
    depth[(abs(x - 0.2 - shift) < 0.12) & (abs(y - 0.6) < 0.15)] = 650
    radius = np.hypot(x - 0.8 + shift, 0.75 * (y - 0.4))
    ball = radius < 0.1
    depth[ball] = 800 - 900 * np.sqrt(0.01 - radius[ball] ** 2)
    return np.rint(depth).astype(np.uint16)


def _messages(arguments: argparse.Namespace) -> list[tuple[bytearray, bytearray]]:
    """Serialised image and camera_info of every scene; the stamp is at bytes 4 to 11."""
    camera = CameraModel.from_fov(arguments.width, arguments.height, 55, topics.DEPTH_FRAME)
    info = make(CAMERA_INFO, header=make_header(0, topics.DEPTH_FRAME), **camera.to_camera_info_fields())
    result = []
    for index in range(_SCENES):
        depth: NDArray[np.generic] = depth_scene(index, arguments.height, arguments.width)
        if arguments.encoding == "32FC1":
            depth = depth_to_metres(depth, "16UC1")
        fields = numpy_to_image_fields(depth, arguments.encoding)
        image = make(IMAGE, header=make_header(0, topics.DEPTH_FRAME), **fields)
        result.append((bytearray(serialize(image)), bytearray(serialize(info))))
    return result


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topic", default=topics.DEPTH_IMAGE)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--encoding", choices=("16UC1", "32FC1"), default="16UC1")
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable")
    parser.add_argument("--kind", choices=[*(str(kind) for kind in DepthKind), "none"], default="clean_sim")
    parser.add_argument("--without-camera-info", action="store_true")
    parser.add_argument(
        "--stamp-ns", type=int, help="stamp of the first frame; default: the wall clock when it is sent"
    )
    arguments = parser.parse_args(argv)

    import rclpy
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CameraInfo, Image

    from realdiff_msgs.msg import Provenance

    messages = _messages(arguments)
    rclpy.init()
    node = rclpy.create_node("synthetic_camera")
    qos = QoSProfile(depth=30, reliability=getattr(QoSReliabilityPolicy, arguments.reliability.upper()))
    images = node.create_publisher(Image, arguments.topic, qos)
    infos = node.create_publisher(CameraInfo, topics.camera_info_topic(arguments.topic), qos)
    if arguments.kind != "none":
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        record = BagProvenance(depth={arguments.topic: DepthKind(arguments.kind)}, source="simulation")
        said = make(
            "realdiff_msgs/msg/Provenance",
            header={"stamp": from_ns(0)},
            topics=list(record.depth),
            kinds=[kind.msg_value for kind in record.depth.values()],
            details_json=record.to_json(),
        )
        provenance = node.create_publisher(Provenance, topics.PROVENANCE, latched)
        provenance.publish(deserialize_message(serialize(said), Provenance))

    deadline = time.monotonic() + _SUBSCRIBER_TIMEOUT_S
    while not images.get_subscription_count():
        if time.monotonic() > deadline:
            raise SystemExit(f"nobody listens to {arguments.topic}")
        time.sleep(0.05)
    time.sleep(1.0)  # both ends of every topic must have found each other before the first frame
    period_ns = round(1e9 / arguments.rate)
    begin = time.monotonic()
    for index in range(arguments.frames):
        time.sleep(max(0.0, begin + index / arguments.rate - time.monotonic()))
        stamp = time.time_ns() if arguments.stamp_ns is None else arguments.stamp_ns + index * period_ns
        image, info = messages[index % _SCENES]
        for message in (image, info):
            struct.pack_into("<iI", message, 4, *divmod(stamp, 10**9))
        if not arguments.without_camera_info:
            infos.publish(bytes(info))
        images.publish(bytes(image))
    time.sleep(2.0)  # a publisher that goes takes what hasn't been delivered with it
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
