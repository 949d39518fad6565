"""ros2 topic: list, info, type, pub; echo, hz and bw are in topic_echo and topic_rate."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from . import qos, topic_echo, topic_rate
from .cli import verb, verbs
from .graph import add_node_arguments, is_hidden, open_node, wait_for
from .messages import fill, load_interface

if TYPE_CHECKING:
    from rclpy.node import Node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    parser.add_argument("--include-hidden-topics", action="store_true", help="Consider hidden topics as well")
    sub = verbs(parser)
    topic_rate.add_bw(sub)
    topic_echo.add(sub)
    topic_rate.add_hz(sub)
    item = verb(sub, "info", _info, "Print information about a topic")
    add_node_arguments(item)
    item.add_argument("topic_name", help="Name of the ROS topic to get info (e.g. '/chatter')")
    item.add_argument("-v", "--verbose", action="store_true", help="node, type hash and QoS of each endpoint as well")
    item = verb(sub, "list", _list, "Output a list of available topics")
    add_node_arguments(item)
    item.add_argument("-t", "--show-types", action="store_true", help="Additionally show the topic type")
    item.add_argument("-c", "--count-topics", action="store_true", help="Only display the number of topics discovered")
    item.add_argument(
        "--include-hidden-topics", action="store_true", default=argparse.SUPPRESS, help="Consider hidden topics as well"
    )
    item.add_argument("-v", "--verbose", action="store_true", help="List full details about each topic")
    item = verb(sub, "type", _type, "Print a topic's type")
    add_node_arguments(item)
    item.add_argument("topic_name", help="Name of the ROS topic to get type (e.g. '/chatter')")
    item = verb(sub, "pub", _pub, "Publish a message to a topic")
    _add_pub_arguments(item)


def _add_pub_arguments(item: argparse.ArgumentParser) -> None:
    add_node_arguments(item)
    item.add_argument("topic_name", help="Name of the ROS topic to publish to (e.g. '/chatter')")
    item.add_argument("message_type", help="Type of the ROS message (e.g. 'std_msgs/String')")
    group = item.add_mutually_exclusive_group()
    group.add_argument("values", nargs="?", default="{}", help="Values to fill the message with in YAML format")
    group.add_argument("--stdin", action="store_true", help="Read values from standard input")
    item.add_argument("-r", "--rate", metavar="N", type=float, default=1.0, help="Publishing rate in Hz (default: 1)")
    item.add_argument("-p", "--print", metavar="N", type=int, default=1, help="Only print every N-th message")
    group = item.add_mutually_exclusive_group()
    group.add_argument("-1", "--once", action="store_true", help="Publish one message and exit")
    group.add_argument("-t", "--times", type=int, default=0, help="Publish this number of times and then exit")
    item.add_argument("-w", "--wait-matching-subscriptions", type=int, help="Wait for this many subscriptions first")
    item.add_argument("--max-wait-time-secs", type=float, help="Give up that wait after this time [s]")
    item.add_argument("--keep-alive", metavar="N", type=float, default=0.1, help="Stay N seconds after the last one")
    item.add_argument("-n", "--node-name", help="Name of the created publishing node")
    qos.add_qos_arguments(item, "default")


def types_of(node: Node, topic: str, *, timeout_s: float | None = None) -> list[str]:
    """Wait for a topic and return its types, none if it does not appear."""

    def find() -> list[str] | None:
        return dict(node.get_topic_names_and_types()).get(topic)

    return (wait_for(find) if timeout_s is None else wait_for(find, timeout_s)) or []


def full_name(node: Node, topic: str) -> str:
    """Return a topic's full name.

    Raises:
        RuntimeError: If it is no valid name.
    """
    from rclpy.exceptions import InvalidTopicNameException
    from rclpy.expand_topic_name import expand_topic_name
    from rclpy.validate_full_topic_name import validate_full_topic_name

    try:
        name: str = expand_topic_name(topic, node.get_name(), node.get_namespace())
        validate_full_topic_name(name)
    except (InvalidTopicNameException, ValueError) as error:
        raise RuntimeError(str(error)) from error
    return name


def _list(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        topics = [
            (name, ", ".join(types))
            for name, types in node.get_topic_names_and_types()
            if args.include_hidden_topics or not is_hidden(name)
        ]
        if args.count_topics:
            print(len(topics))
            return
        if not args.verbose:
            for name, types in topics:
                print(f"{name} [{types}]" if args.show_types else name)
            return
        for title, noun, count in (
            ("Published", "publisher", node.count_publishers),
            ("Subscribed", "subscriber", node.count_subscribers),
        ):
            print(f"{title} topics:")
            for name, types in topics:
                if number := count(name):
                    print(f" * {name} [{types}] {number} {noun}{'s' if number > 1 else ''}")
            print()


def _info(args: argparse.Namespace) -> str | None:
    with open_node(args) as node:
        types = types_of(node, args.topic_name)
        if not types:
            return f"Unknown topic '{args.topic_name}'"
        end = "\n\n" if args.verbose else "\n"
        print(f"Type: {types[0] if len(types) == 1 else types}", end=end)
        print(f"Publisher count: {node.count_publishers(args.topic_name)}", end=end)
        for info in node.get_publishers_info_by_topic(args.topic_name) if args.verbose else ():
            print(info, end=end)
        print(f"Subscription count: {node.count_subscribers(args.topic_name)}", end=end)
        for info in node.get_subscriptions_info_by_topic(args.topic_name) if args.verbose else ():
            print(info, end=end)
    return None


def _type(args: argparse.Namespace) -> int:
    with open_node(args) as node:
        types = types_of(node, full_name(node, args.topic_name))
    for name in types:
        print(name)
    return 0 if types else 1


def _pub(args: argparse.Namespace) -> str | None:
    import yaml

    if args.rate <= 0:
        return "value of --rate must be positive"
    values = yaml.safe_load(sys.stdin.read() if args.stdin else args.values)
    if not isinstance(values, dict):
        return "The passed value needs to be a dictionary in YAML format"
    cls = load_interface(args.message_type, "msg")
    message = cls()
    try:
        stamps = fill(message, values)
    except (ValueError, TypeError, AssertionError) as error:
        return f"Failed to populate field: {error}"
    times = 1 if args.once else args.times
    subscriptions = args.wait_matching_subscriptions
    if subscriptions is None:
        subscriptions = 1 if times else 0
    with open_node(args, args.node_name, discover=False) as node:
        publisher = node.create_publisher(cls, args.topic_name, qos.from_arguments(args))
        if not _wait_for_subscriptions(publisher, subscriptions, args.max_wait_time_secs):
            return f"Timed out waiting for subscribers: Expected {subscriptions} subcribers"
        _publish(node, publisher, message, stamps, times, args)
    return None


def _wait_for_subscriptions(publisher: Any, wanted: int, limit_s: float | None) -> bool:
    start = said = time.monotonic() - 1.0
    while publisher.get_subscription_count() < wanted:
        now = time.monotonic()
        if now - said >= 1.0:
            print(f"Waiting for at least {wanted} matching subscription(s)...")
            said = now
        if limit_s is not None and now - start - 1.0 >= limit_s:
            return False
        time.sleep(0.05)
    return True


def _publish(node: Node, publisher: Any, message: Any, stamps: list[Any], times: int, args: argparse.Namespace) -> None:
    import rclpy

    print("publisher: beginning loop")
    count = 0
    due = time.monotonic()
    while rclpy.ok() and (times == 0 or count < times):
        for set_stamp in stamps:
            set_stamp(node.get_clock().now().to_msg())
        count += 1
        if args.print and count % args.print == 0:
            print(f"publishing #{count}: {message!r}\n")
        publisher.publish(message)
        due += 1.0 / args.rate
        if count != times:
            rclpy.spin_once(node, timeout_sec=0.0)
            time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(args.keep_alive)
