"""ros2 topic echo."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from . import qos
from .cli import verb
from .graph import add_node_arguments, open_node, spin_until
from .messages import TRUNCATE_LENGTH, is_message, load_interface, to_csv, to_yaml

if TYPE_CHECKING:
    from rclpy.node import Node


def add(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    item = verb(sub, "echo", _echo, "Output messages from a topic")
    add_node_arguments(item)
    item.add_argument("topic_name", help="Name of the ROS topic to listen to (e.g. '/chatter')")
    item.add_argument("message_type", nargs="?", help="Type of the ROS message (e.g. 'std_msgs/msg/String')")
    qos.add_qos_arguments(item, "sensor_data")
    item.add_argument("--csv", action="store_true", help="Output all recursive fields separated by commas")
    item.add_argument("--field", help="Echo a selected field of a message, sub-fields by '.'")
    item.add_argument("-f", "--full-length", action="store_true", help="Output all elements of arrays and strings")
    item.add_argument(
        "-l", "--truncate-length", type=int, default=TRUNCATE_LENGTH, help="Length at which they are cut (default: 128)"
    )
    item.add_argument("--no-arr", action="store_true", help="Don't print array fields of messages")
    item.add_argument("--no-str", action="store_true", help="Don't print string fields of messages")
    item.add_argument("--flow-style", action="store_true", help="Print collections in the flow style")
    item.add_argument("--no-lost-messages", action="store_true", help="Don't report when a message is lost")
    item.add_argument("--raw", action="store_true", help="Echo the raw binary representation")
    item.add_argument("--filter", dest="filter_expr", help="Python expression of m, the message, for those to print")
    item.add_argument("--once", action="store_true", help="Print the first message received and then exit.")
    item.add_argument("--timeout", metavar="N", type=float, help="Set a timeout in seconds for waiting")
    item.add_argument("-i", "--include-message-info", action="store_true", help="Shows the associated message info.")


def _echo(args: argparse.Namespace) -> str | None:
    from rclpy.event_handler import SubscriptionEventCallbacks
    from rclpy.task import Future

    with open_node(args) as node:
        cls, profile = _find(node, args)
        done: Future = Future()

        def on_message(message: Any, info: Any) -> None:
            if not done.done() and _print(message, info, args) and args.once:
                done.set_result(True)

        def on_lost(status: Any) -> None:
            print(
                f"A message was lost!!!\n\ttotal count change:{status.total_count_change}"
                f"\n\ttotal count: {status.total_count}"
            )

        events = None if args.no_lost_messages else SubscriptionEventCallbacks(message_lost=on_lost)
        callback: Any = on_message
        node.create_subscription(cls, args.topic_name, callback, profile, event_callbacks=events, raw=args.raw)
        spin_until(node, done, math.inf if args.timeout is None else args.timeout)
    return None


def _find(node: Node, args: argparse.Namespace) -> tuple[Any, Any]:
    """Return class and QoS profile of the topic."""
    from .topic import full_name, types_of

    name = full_name(node, args.topic_name)
    if args.message_type is None:
        types = types_of(node, name)
        if not types:
            print(f"WARNING: topic [{args.topic_name}] does not appear to be published yet")
            raise RuntimeError("Could not determine the type for the passed topic")
        if len(types) > 1:
            raise RuntimeError(f"Cannot echo topic '{args.topic_name}', as it contains more than one type: {types}")
        cls = load_interface(types[0], "msg")
    else:
        cls = load_interface(args.message_type, "msg")
    profile = qos.from_arguments(args)
    if not qos.is_given(args):
        profile, notes = qos.matching(node.get_publishers_info_by_topic(name), profile)
        for note in notes:
            print(note)
    return cls, profile


def _print(message: Any, info: Any, args: argparse.Namespace) -> bool:
    """Print a message; return whether the filter let it through."""
    value = message
    for name in filter(None, (args.field or "").split(".")):
        if not hasattr(value, name):
            raise RuntimeError(
                f"Invalid field '{args.field}': '{type(value).__name__}' object has no attribute '{name}'"
            )
        value = getattr(value, name)
    if args.filter_expr and not eval(args.filter_expr, {}, {"m": value}):
        return False
    options = {
        "limit": None if args.full_length else args.truncate_length,
        "arrays": not args.no_arr,
        "texts": not args.no_str,
    }
    if args.include_message_info and not args.csv:
        print(f"---Got new message, message info:---\n{info}\n---Message data:---")
    if args.csv:
        print(to_csv(value, **options))
    elif args.raw or not (is_message(value) or isinstance(value, (list, tuple)) or hasattr(value, "tolist")):
        print(value, end="\n---\n")
    else:
        print(to_yaml(value, flow=args.flow_style, **options), end="---\n")
    return True
