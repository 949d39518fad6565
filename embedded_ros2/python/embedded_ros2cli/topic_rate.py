"""ros2 topic hz and bw."""

from __future__ import annotations

import argparse
import math
import time
from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Any

from . import qos
from .cli import verb
from .graph import add_node_arguments, open_node
from .messages import load_interface

if TYPE_CHECKING:
    from rclpy.node import Node


def add_hz(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb hz."""
    item = verb(sub, "hz", _hz, "Print the average publishing rate to screen")
    add_node_arguments(item)
    item.add_argument("topic_name", nargs="+", help="Names of the ROS topics to listen to (e.g. '/chatter')")
    item.add_argument("-w", "--window", type=int, default=10000, help="window size, in messages (default: 10000)")
    item.add_argument("--filter", dest="filter_expr", help="only measure messages m for which this expression holds")
    item.add_argument("--wall-time", action="store_true", help="calculates rate using wall time")


def add_bw(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb bw."""
    item = verb(sub, "bw", _bw, "Display bandwidth used by topic")
    add_node_arguments(item)
    item.add_argument("topic_name", nargs="+", help="Names of the ROS topics to listen to (e.g. '/chatter')")
    item.add_argument("-w", "--window", type=int, default=100, help="window size, in messages (default: 100)")


def rate_text(times: list[int]) -> str:
    """Describe the rate of messages.

    Args:
        times: Arrival [ns] of at least two messages.
    """
    steps = [(after - before) * 1e-9 for before, after in zip(times, times[1:], strict=False)]
    mean = sum(steps) / len(steps)
    deviation = math.sqrt(sum((step - mean) ** 2 for step in steps) / len(steps))
    rate = 1.0 / mean if mean > 0 else 0.0
    return (
        f"average rate: {rate:.3f}\n\tmin: {min(steps):.3f}s max: {max(steps):.3f}s "
        f"std dev: {deviation:.5f}s window: {len(steps)}"
    )


def bandwidth_text(samples: list[tuple[float, int]], now: float) -> str:
    """Describe a bandwidth.

    Args:
        samples: (arrival [s], size [B]) of messages.
        now: Time [s].
    """
    sizes = [size for _, size in samples]
    total = sum(sizes)
    per_second = total / max(now - samples[0][0], 1e-9)
    mean, low, high = total / len(sizes), min(sizes), max(sizes)
    unit, scale = next((u, s) for u, s in (("MB", 1e6), ("KB", 1e3), ("B", 1.0)) if per_second >= s or s == 1.0)
    return (
        f"{per_second / scale:.2f} {unit}/s from {len(sizes)} messages\n"
        f"\tMessage size mean: {mean / scale:.2f} {unit} min: {low / scale:.2f} {unit} max: {high / scale:.2f} {unit}"
    )


def _subscribe(node: Node, topic: str, callback: Any, *, raw: bool) -> None:
    from .topic import full_name, types_of

    name = full_name(node, topic)
    types = types_of(node, name, timeout_s=0.0)
    if not types:
        print(f"WARNING: topic [{topic}] does not appear to be published yet")
        types = types_of(node, name, timeout_s=math.inf)
    from rclpy.qos import qos_profile_sensor_data

    profile, _ = qos.matching(node.get_publishers_info_by_topic(name), copy(qos_profile_sensor_data))
    profile.depth = 50
    node.create_subscription(load_interface(types[0], "msg"), name, callback, profile, raw=raw)


def _spin(node: Node, report: Any) -> None:
    import rclpy

    last = time.monotonic()
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.1)
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            report()


def _hz(args: argparse.Namespace) -> None:
    times: dict[str, deque[int]] = {topic: deque(maxlen=args.window + 1) for topic in args.topic_name}
    with open_node(args) as node:

        def listen(topic: str) -> None:
            def on_message(message: Any) -> None:
                if args.filter_expr and not eval(args.filter_expr, {}, {"m": message}):
                    return
                now = time.time_ns() if args.wall_time else node.get_clock().now().nanoseconds
                if times[topic] and now < times[topic][-1]:
                    print("time has reset, resetting counters")
                    times[topic].clear()
                times[topic].append(now)

            # Bytes are not turned into messages unless a filter looks at them: a rate of images is measured, not ours.
            _subscribe(node, topic, on_message, raw=not args.filter_expr)

        for topic in args.topic_name:
            listen(topic)
        seen = dict.fromkeys(args.topic_name, 0)

        def report() -> None:
            for topic, arrivals in times.items():
                if len(arrivals) > 1 and arrivals[-1] != seen[topic]:
                    seen[topic] = arrivals[-1]
                    head = f"{topic}: " if len(times) > 1 else ""
                    print(head + rate_text(list(arrivals)))

        _spin(node, report)


def _bw(args: argparse.Namespace) -> None:
    samples: dict[str, deque[tuple[float, int]]] = {topic: deque(maxlen=args.window) for topic in args.topic_name}
    with open_node(args) as node:
        for topic in args.topic_name:
            keep = samples[topic]
            _subscribe(node, topic, lambda data, keep=keep: keep.append((time.monotonic(), len(data))), raw=True)

        def report() -> None:
            for topic, kept in samples.items():
                if len(kept) > 1:
                    head = f"{topic}: " if len(samples) > 1 else ""
                    print(head + bandwidth_text(list(kept), time.monotonic()))

        _spin(node, report)
