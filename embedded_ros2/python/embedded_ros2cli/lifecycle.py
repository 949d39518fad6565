"""ros2 lifecycle."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from .cli import verb, verbs
from .graph import absolute, add_node_arguments, node_names, open_node, spin_until, wait_for

if TYPE_CHECKING:
    from rclpy.node import Node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = verb(sub, "get", _get, "Get lifecycle state for one or more nodes")
    _add_common(item)
    item.add_argument("node_name", nargs="?", help="Name of the ROS node; without one, the state of all nodes")
    item = verb(sub, "list", _list, "Output a list of available transitions")
    _add_common(item)
    item.add_argument("node_name", help="Name of the ROS node")
    item.add_argument("-a", "--all", action="store_true", help="Display all existing transitions")
    item = verb(sub, "nodes", _nodes, "Output a list of nodes with lifecycle")
    add_node_arguments(item)
    item.add_argument("-a", "--all", action="store_true", help="Display all nodes even hidden ones")
    item.add_argument("-c", "--count-nodes", action="store_true", help="Only display the number of nodes discovered")
    item = verb(sub, "set", _set, "Trigger lifecycle state transition")
    _add_common(item)
    item.add_argument("node_name", help="Name of the ROS node")
    item.add_argument("transition", help="The lifecycle transition")


def _add_common(item: argparse.ArgumentParser) -> None:
    add_node_arguments(item)
    item.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")


def _lifecycle_nodes(node: Node, hidden: bool) -> list[str]:
    services = dict(node.get_service_names_and_types())
    return sorted(
        {
            name
            for name in node_names(node, hidden=hidden)
            if "lifecycle_msgs/srv/GetState" in services.get(f"{name}/get_state", [])
        }
    )


def _require(node: Node, args: argparse.Namespace) -> str:
    name = absolute(args.node_name)
    if not wait_for(lambda: name in _lifecycle_nodes(node, args.include_hidden_nodes)):
        raise RuntimeError("Node not found")
    return name


def _call(node: Node, name: str, service: str, request: Any = None) -> Any:
    """Call a lifecycle service of a node.

    Raises:
        RuntimeError: If it does not answer.
    """
    from lifecycle_msgs import srv

    cls = {"get_state": srv.GetState, "change_state": srv.ChangeState}.get(service, srv.GetAvailableTransitions)
    client = node.create_client(cls, f"{name}/{service}")
    if not client.wait_for_service(timeout_sec=5.0):
        raise RuntimeError(f"Wait for service timed out waiting for '{client.srv_name}'")
    future = client.call_async(request or cls.Request())
    # A transition may load a model: wait as long as it takes.
    spin_until(node, future)
    if future.result() is None:
        raise RuntimeError(f"Exception while calling service of node '{name}': {future.exception()}")
    return future.result()


def _nodes(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        names = _lifecycle_nodes(node, args.all)
    if args.count_nodes:
        print(len(names))
        return
    for name in names:
        print(name)


def _get(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        names = [_require(node, args)] if args.node_name else _lifecycle_nodes(node, args.include_hidden_nodes)
        for name in names:
            state = _call(node, name, "get_state").current_state
            print(("" if args.node_name else f"{name}: ") + f"{state.label} [{state.id}]")


def _list(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        service = "get_transition_graph" if args.all else "get_available_transitions"
        for item in _call(node, _require(node, args), service).available_transitions:
            print(
                f"- {item.transition.label} [{item.transition.id}]\n"
                f"\tStart: {item.start_state.label}\n\tGoal: {item.goal_state.label}"
            )


def _set(args: argparse.Namespace) -> str | None:
    from lifecycle_msgs.srv import ChangeState

    with open_node(args) as node:
        name = _require(node, args)
        known = [item.transition for item in _call(node, name, "get_available_transitions").available_transitions]
        chosen = [item for item in known if item.label == args.transition]
        chosen += [item for item in known if str(item.id) == args.transition]
        if not chosen:
            lines = "".join(f"\n- {item.label} [{item.id}]" for item in known)
            return f"Unknown transition requested, available ones are:{lines}"
        success = _call(node, name, "change_state", ChangeState.Request(transition=chosen[0])).success
    if success:
        print("Transitioning successful")
        return None
    # As with the real command, the exit code stays 0.
    print("Transitioning failed", file=sys.stderr)
    return None
