"""A node to look at the graph with."""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rclpy.node import Node

T = TypeVar("T")

#: Names of the command's own nodes start so; a leading underscore hides them from lists.
NODE_NAME_PREFIX = "_ros2cli"
#: Discovery goes on beyond the asked time while nobody is found or the graph still grows, at most this long [s].
SETTLE_LIMIT_S = 2.5
#: The graph has settled when nothing new has come for this long [s]; participants announce themselves every 0.5 s.
SETTLE_S = 0.6
#: How long to wait for something that was asked for by name [s].
NAMED_TIMEOUT_S = 3.0


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that look at the graph."""
    parser.add_argument(
        "--spin-time", type=float, default=0.5, metavar="S", help="time [s] to wait for discovery (default: 0.5)"
    )
    parser.add_argument("-s", "--use-sim-time", action="store_true", help="Enable ROS simulation time")
    parser.add_argument("--no-daemon", action="store_true", help="accepted for likeness: there is no daemon here")


@contextmanager
def open_node(
    args: argparse.Namespace, name: str | None = None, *, discover: bool = True, signals: bool = True
) -> Iterator[Node]:
    """Start rclpy and a hidden node, and wait until the graph is known.

    Args:
        args: Parsed arguments.
        name: Name of the node; None for a hidden one.
        discover: Wait for discovery.
        signals: Let rclpy shut down on Ctrl-C and SIGTERM; otherwise both raise KeyboardInterrupt and rclpy goes on.

    Yields:
        The node.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.ALL if signals else SignalHandlerOptions.NO)
    if not signals:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node = rclpy.create_node(
            name or f"{NODE_NAME_PREFIX}_{os.getpid()}",
            start_parameter_services=False,
            parameter_overrides=[Parameter("use_sim_time", value=getattr(args, "use_sim_time", False))],
            automatically_declare_parameters_from_overrides=True,
        )
        if discover:
            _discover(node, getattr(args, "spin_time", 0.5))
        yield node
    except ExternalShutdownException:
        # rclpy has seen Ctrl-C or SIGTERM.
        raise KeyboardInterrupt from None
    finally:
        rclpy.try_shutdown()


def _discover(node: Node, spin_time: float) -> None:
    start = time.monotonic()
    known, since = _graph(node), start
    while True:
        time.sleep(0.05)
        now = time.monotonic()
        seen = _graph(node)
        if seen != known:
            known, since = seen, now
        # seen[0] counts the nodes, of which this one is the first. A busy machine may be late to answer.
        settled = seen[0] > 1 and now - since >= SETTLE_S
        if now - start >= spin_time and (settled or now - start >= spin_time + SETTLE_LIMIT_S):
            return


def _graph(node: Node) -> tuple[int, int, int]:
    return (len(node.get_node_names()), len(node.get_topic_names_and_types()), len(node.get_service_names_and_types()))


def wait_for(find: Callable[[], T | None], timeout_s: float = NAMED_TIMEOUT_S) -> T | None:
    """Ask again and again until there is an answer.

    Args:
        find: Returns the answer or something false.
        timeout_s: When to give up [s].

    Returns:
        The last answer.
    """
    end = time.monotonic() + timeout_s
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def spin_until(node: Node, future: Any, timeout_s: float = math.inf) -> bool:
    """Spin until a future is done.

    In short steps: rclpy's wait without a limit now and then sleeps through Ctrl-C and SIGTERM.

    Args:
        node: Node.
        future: Future.
        timeout_s: When to give up [s].

    Returns:
        Whether it is done.
    """
    import rclpy

    end = time.monotonic() + timeout_s
    while not future.done() and rclpy.ok() and time.monotonic() < end:
        rclpy.spin_until_future_complete(node, future, timeout_sec=0.2)
    if not rclpy.ok() and not future.done():
        raise KeyboardInterrupt
    return bool(future.done())


def is_hidden(name: str) -> bool:
    """Return whether a topic, service or node is hidden: a part of its name starts with an underscore."""
    return any(part.startswith("_") for part in name.split("/"))


def node_names(node: Node, *, hidden: bool = False) -> list[str]:
    """Return the full names of all nodes, duplicates included.

    Args:
        node: Node to ask with.
        hidden: Hidden ones too.
    """
    names = [
        f"{namespace.rstrip('/')}/{name}"
        for name, namespace in node.get_node_names_and_namespaces()
        if hidden or not name.startswith("_")
    ]
    return sorted(names)


def split_name(full_name: str) -> tuple[str, str]:
    """Split a full node name into (name, namespace)."""
    namespace, _, name = full_name.rpartition("/")
    return name, namespace or "/"


def absolute(name: str) -> str:
    """Return a node name with its leading slash."""
    return name if name.startswith("/") else f"/{name}"


def require_node(node: Node, name: str, *, hidden: bool = False) -> str:
    """Wait for a node and return its full name.

    Raises:
        RuntimeError: If there is none of that name.
    """
    full_name = absolute(name)
    if not wait_for(lambda: full_name in node_names(node, hidden=hidden) or None):
        raise RuntimeError("Node not found")
    return full_name
