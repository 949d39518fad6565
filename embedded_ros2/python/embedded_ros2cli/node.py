"""ros2 node."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .cli import verb, verbs
from .graph import absolute, add_node_arguments, is_hidden, node_names, open_node, split_name, wait_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = verb(sub, "info", _info, "Output information about a node")
    add_node_arguments(item)
    item.add_argument("node_name", help="Node name to request information")
    item.add_argument("--include-hidden", action="store_true", help="Display hidden topics, services, and actions")
    item = verb(sub, "list", _list, "Output a list of available nodes")
    add_node_arguments(item)
    item.add_argument("-a", "--all", action="store_true", help="Display all nodes even hidden ones")
    item.add_argument("-c", "--count-nodes", action="store_true", help="Only display the number of nodes discovered")


def _list(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        names = node_names(node, hidden=args.all)
    if args.count_nodes:
        print(len(names))
        return
    if len(set(names)) < len(names):
        print(
            "WARNING: Be aware that there are nodes in the graph that share an exact name, "
            "which can have unintended side effects.",
            file=sys.stderr,
        )
    for name in names:
        print(name)


def _info(args: argparse.Namespace) -> str | None:
    from rclpy.action import graph as actions

    wanted = absolute(args.node_name)
    name, namespace = split_name(wanted)
    with open_node(args) as node:
        if not wait_for(lambda: wanted in node_names(node, hidden=True)):
            return f"Unable to find node '{args.node_name}'"
        count = node_names(node, hidden=True).count(wanted)
        if count > 1:
            print(f'There are {count} nodes in the graph with the exact name "{wanted}".', file=sys.stderr)
        print(wanted)
        for title, found in (
            ("Subscribers", node.get_subscriber_names_and_types_by_node(name, namespace)),
            ("Publishers", node.get_publisher_names_and_types_by_node(name, namespace)),
            ("Service Servers", node.get_service_names_and_types_by_node(name, namespace)),
            ("Service Clients", node.get_client_names_and_types_by_node(name, namespace)),
            ("Action Servers", actions.get_action_server_names_and_types_by_node(node, name, namespace)),
            ("Action Clients", actions.get_action_client_names_and_types_by_node(node, name, namespace)),
        ):
            print(f"  {title}:")
            _print_names(found, args.include_hidden)
    return None


def _print_names(found: list[Any], hidden: bool) -> None:
    lines = [f"    {name}: {', '.join(types)}" for name, types in found if hidden or not is_hidden(name)]
    print("\n".join(lines))
