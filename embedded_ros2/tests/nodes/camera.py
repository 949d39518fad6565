#!/usr/bin/env python3
"""Publishes or counts 640x480 depth and colour images at 30 Hz, for the tests of `ros2 bag`."""

import array
import json
import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def image(encoding: str, channels: int, number: int) -> Image:
    message = Image(height=480, width=640, encoding=encoding, step=640 * channels)
    message.data = array.array("B", bytes([number % 256]) * (480 * 640 * channels))
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(number * 33_333_333, 1_000_000_000)
    return message


def listen(count: int) -> None:
    """Print what came as JSON: per topic [stamp's number, arrival in s]."""
    node = rclpy.create_node("listener")
    seen: dict[str, list[list[float]]] = {"/depth": [], "/color": []}
    best_effort = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
    for topic in seen:

        def on_image(message: Image, topic: str = topic) -> None:
            stamp = message.header.stamp
            seen[topic].append([round((stamp.sec * 1e9 + stamp.nanosec) / 33_333_333), time.monotonic()])

        node.create_subscription(Image, topic, on_image, best_effort)
    print("ready", flush=True)
    try:
        while min(len(arrivals) for arrivals in seen.values()) < count:
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        print(json.dumps(seen), flush=True)


def publish(count: int) -> None:
    node = rclpy.create_node("camera")
    depth = node.create_publisher(Image, "/depth", 10)
    color = node.create_publisher(Image, "/color", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    frames = [(image("16UC1", 2, number), image("rgb8", 3, number)) for number in range(count)]
    print("ready", flush=True)
    while depth.get_subscription_count() < 1 or color.get_subscription_count() < 1:
        time.sleep(0.05)
    due = time.monotonic()
    for first, second in frames:
        depth.publish(first)
        color.publish(second)
        due += 1 / 30
        time.sleep(max(0.0, due - time.monotonic()))
    print("published", flush=True)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.2)


if __name__ == "__main__":
    rclpy.init()
    try:
        {"listen": listen, "publish": publish}[sys.argv[1]](int(sys.argv[2]))
    except (KeyboardInterrupt, ExternalShutdownException):
        print("leaves", flush=True)
