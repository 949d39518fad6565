"""ros2 action."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from .cli import verb, verbs
from .graph import NODE_NAME_PREFIX, absolute, add_node_arguments, node_names, open_node, spin_until, split_name
from .messages import fill, load_interface, to_yaml

if TYPE_CHECKING:
    from rclpy.node import Node

_STATUS = {1: "ACCEPTED", 2: "EXECUTING", 3: "CANCELING", 4: "SUCCEEDED", 5: "CANCELED", 6: "ABORTED"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = verb(sub, "info", _info, "Print information about an action")
    add_node_arguments(item)
    item.add_argument("action_name", help="Name of the ROS action to get info (e.g. '/fibonacci')")
    item.add_argument("-t", "--show-types", action="store_true", help="Additionally show the action type")
    item.add_argument("-c", "--count", action="store_true", help="Only display the number of clients and servers")
    item = verb(sub, "list", _list, "Output a list of action names")
    add_node_arguments(item)
    item.add_argument("-t", "--show-types", action="store_true", help="Additionally show the action type")
    item.add_argument("-c", "--count-actions", action="store_true", help="Only display the number of actions")
    item = verb(sub, "send_goal", _send_goal, "Send an action goal")
    item.add_argument("action_name", help="Name of the ROS action (e.g. '/fibonacci')")
    item.add_argument("action_type", help="Type of the ROS action (e.g. 'example_interfaces/action/Fibonacci')")
    group = item.add_mutually_exclusive_group()
    group.add_argument("goal", nargs="?", default="{}", help="Goal request values in YAML format")
    group.add_argument("--stdin", action="store_true", help="Read goal from standard input")
    item.add_argument("-f", "--feedback", action="store_true", help="Echo feedback messages for the goal")


def _list(args: argparse.Namespace) -> None:
    from rclpy.action import get_action_names_and_types

    with open_node(args) as node:
        found = get_action_names_and_types(node)
    if args.count_actions:
        print(len(found))
        return
    for name, types in found:
        print(f"{name} [{', '.join(types)}]" if args.show_types else name)


def _info(args: argparse.Namespace) -> None:
    from rclpy.action import graph

    wanted = absolute(args.action_name)
    with open_node(args) as node:
        print(f"Action: {args.action_name}")
        for title, ask in (
            ("Action clients", graph.get_action_client_names_and_types_by_node),
            ("Action servers", graph.get_action_server_names_and_types_by_node),
        ):
            users = []
            for full_name in node_names(node, hidden=True):
                types = dict(ask(node, *split_name(full_name))).get(wanted)
                if types:
                    users.append((full_name, types))
            print(f"{title}: {len(users)}")
            for full_name, types in users if not args.count else ():
                print(f"    {full_name} [{', '.join(types)}]" if args.show_types else f"    {full_name}")


def _send_goal(args: argparse.Namespace) -> str | int | None:
    import yaml

    cls = load_interface(args.action_type, "action")
    goal = cls.Goal()
    try:
        fill(goal, yaml.safe_load(sys.stdin.read() if args.stdin else args.goal))
    except (ValueError, TypeError, AssertionError) as error:
        return f"Failed to populate message fields: {error!r}"
    label = args.action_type.replace("/", "_")
    with open_node(args, f"{NODE_NAME_PREFIX}_send_goal_{label}", discover=False, signals=False) as node:
        return _run_goal(node, cls, goal, args)


def _wait(node: Node, future: Any) -> Any:
    spin_until(node, future)
    return future.result()


def _run_goal(node: Node, cls: Any, goal: Any, args: argparse.Namespace) -> str | int | None:
    from rclpy.action import ActionClient

    def print_feedback(feedback: Any) -> None:
        print(f"Feedback:\n    {to_yaml(feedback.feedback)}")

    client = ActionClient(node, cls, args.action_name)
    print("Waiting for an action server to become available...")
    client.wait_for_server()
    print(f"Sending goal:\n     {to_yaml(goal)}")
    handle = _wait(node, client.send_goal_async(goal, print_feedback if args.feedback else None))
    if not handle.accepted:
        print("Goal was rejected.")
        return None
    print(f"Goal accepted with ID: {bytes(handle.goal_id.uuid).hex()}\n")
    try:
        result = _wait(node, handle.get_result_async())
    except KeyboardInterrupt:
        # Without this the goal would go on.
        print("Canceling goal...")
        canceled = _wait(node, handle.cancel_goal_async()).goals_canceling
        print("Goal canceled." if canceled else "Failed to cancel goal", file=sys.stdout if canceled else sys.stderr)
        raise
    print(f"Result:\n    {to_yaml(result.result)}")
    print(f"Goal finished with status: {_STATUS.get(result.status, 'UNKNOWN')}")
    return None
