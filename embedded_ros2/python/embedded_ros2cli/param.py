"""ros2 param."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from .cli import verb, verbs
from .graph import add_node_arguments, node_names, open_node, require_node, spin_until

if TYPE_CHECKING:
    from rclpy.node import Node

#: ParameterType: (words for get, words for list).
_LABELS = {
    1: ("Boolean value is:", "boolean"),
    2: ("Integer value is:", "integer"),
    3: ("Double value is:", "double"),
    4: ("String value is:", "string"),
    5: ("Byte values are:", "byte array"),
    6: ("Boolean values are:", "boolean array"),
    7: ("Integer values are:", "integer array"),
    8: ("Double values are:", "double array"),
    9: ("String values are:", "string array"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = _verb(sub, "delete", _delete, "Delete parameter")
    item.add_argument("parameter_name", help="Name of the parameter")
    _verb(sub, "dump", _dump, "Show all of the parameters of a node in a YAML file format")
    item = _verb(sub, "get", _get, "Get parameter")
    item.add_argument("parameter_name", help="Name of the parameter")
    item.add_argument("--hide-type", action="store_true", help="Hide the type information")
    item = verb(sub, "list", _list, "Output a list of available parameters")
    add_node_arguments(item)
    item.add_argument("node_name", nargs="?", help="Name of the ROS node")
    item.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    item.add_argument("--filter", nargs=1, help="Only parameters matching the regex expression will be showed.")
    item.add_argument("--param-prefixes", nargs="+", default=[], help="Only list parameters with these prefixes")
    item.add_argument("--param-type", action="store_true", help="Print parameter types with parameter names")
    item = _verb(sub, "load", _load, "Load parameter file for a node")
    item.add_argument("parameter_file", help="Parameter file")
    item.add_argument("--no-use-wildcard", action="store_true", help="Do not load parameters in the '/**' namespace")
    item = _verb(sub, "set", _set, "Set parameter")
    item.add_argument("parameter_name", help="Name of the parameter")
    item.add_argument("value", help="Value of the parameter")


def _verb(sub: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    item = verb(sub, name, run, text)
    add_node_arguments(item)
    item.add_argument("node_name", help="Name of the ROS node")
    item.add_argument("--include-hidden-nodes", action="store_true", help="Consider hidden nodes as well")
    item.add_argument("--timeout", metavar="N", type=int, default=1, help="accepted for likeness: waits up to 3 s")
    return item


class _Client:
    """Parameter services of a node."""

    def __init__(self, node: Node, name: str) -> None:
        from rclpy.parameter_client import AsyncParameterClient

        self.__node = node
        self.__name = name
        self.__client = AsyncParameterClient(node, name)
        if not self.__client.wait_for_services(timeout_sec=5.0):
            raise RuntimeError(f"Wait for service timed out waiting for parameter services for node {name}")

    def call(self, method: str, *args: Any) -> Any:
        """Call a service and return the response.

        Raises:
            RuntimeError: If the node does not answer.
        """
        future = getattr(self.__client, method)(*args)
        spin_until(self.__node, future, timeout_s=10.0)
        if not future.done() or future.result() is None:
            reason = future.exception() if future.done() else "no answer within 10 s"
            raise RuntimeError(f"Exception while calling service of node {self.__name}: {reason}")
        return future.result()

    def names(self, prefixes: list[str] | None = None) -> list[str]:
        """Return the names of the parameters."""
        return sorted(self.call("list_parameters", prefixes).result.names)


def _python(value: Any) -> Any:
    from rclpy.parameter import parameter_value_to_python

    result = parameter_value_to_python(value)
    return result.tolist() if hasattr(result, "tolist") else result


def _list(args: argparse.Namespace) -> None:
    pattern = re.compile(args.filter[0]) if args.filter else None
    with open_node(args) as node:
        if args.node_name:
            nodes = [require_node(node, args.node_name, hidden=args.include_hidden_nodes)]
        else:
            nodes = node_names(node, hidden=args.include_hidden_nodes)
        for full_name in nodes:
            try:
                client = _Client(node, full_name)
                names = [name for name in client.names(args.param_prefixes) if not pattern or pattern.match(name)]
            except RuntimeError as error:
                print(error, file=sys.stderr)
                continue
            if names and not args.node_name:
                print(f"{full_name}:")
            types = {}
            if args.param_type and names:
                types = {item.name: item.type for item in client.call("describe_parameters", names).descriptors}
            for name in names:
                print(f"  {name} (type: {_LABELS[types[name]][1]})" if name in types else f"  {name}")


def _get(args: argparse.Namespace) -> str | None:
    with open_node(args) as node:
        client = _Client(node, require_node(node, args.node_name, hidden=args.include_hidden_nodes))
        values = client.call("get_parameters", [args.parameter_name]).values
    if not values or values[0].type not in _LABELS:
        return "Parameter not set"
    value = _python(values[0])
    print(value if args.hide_type else f"{_LABELS[values[0].type][0]} {value}")
    return None


def _report(result: Any, done: str, failed: str) -> None:
    """Print what became of a change. As with the real command, a refusal is said and the exit code stays 0."""
    text = (done if result.successful else failed) + (f": {result.reason}" if result.reason else "")
    print(text, file=sys.stdout if result.successful else sys.stderr)


def _set(args: argparse.Namespace) -> None:
    from rclpy.parameter import Parameter, get_parameter_value

    with open_node(args) as node:
        client = _Client(node, require_node(node, args.node_name, hidden=args.include_hidden_nodes))
        parameter = Parameter.from_parameter_msg(_message(args.parameter_name, get_parameter_value(args.value)))
        results = client.call("set_parameters", [parameter]).results
    _report(results[0], "Set parameter successful", "Setting parameter failed")


def _message(name: str, value: Any) -> Any:
    from rcl_interfaces.msg import Parameter

    return Parameter(name=name, value=value)


def _delete(args: argparse.Namespace) -> None:
    with open_node(args) as node:
        client = _Client(node, require_node(node, args.node_name, hidden=args.include_hidden_nodes))
        result = client.call("delete_parameters", [args.parameter_name]).results[0]
    _report(result, "Deleted parameter successfully", "Deleting parameter failed")


def _dump(args: argparse.Namespace) -> None:
    import yaml

    with open_node(args) as node:
        full_name = require_node(node, args.node_name, hidden=args.include_hidden_nodes)
        client = _Client(node, full_name)
        names = client.names()
        values = client.call("get_parameters", names).values
    tree: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _python(value)
    print(yaml.safe_dump({full_name: {"ros__parameters": tree}}, default_flow_style=False))


def _load(args: argparse.Namespace) -> None:
    from rclpy.parameter import parameter_dict_from_yaml_file

    with open_node(args) as node:
        full_name = require_node(node, args.node_name, hidden=args.include_hidden_nodes)
        client = _Client(node, full_name)
        wildcard = not args.no_use_wildcard
        try:
            names = list(parameter_dict_from_yaml_file(args.parameter_file, wildcard, target_nodes=[full_name]))
        except (OSError, RuntimeError) as error:
            raise RuntimeError(f"{args.parameter_file}: {error}") from error
        results = client.call("load_parameter_file", args.parameter_file, wildcard).results
    for name, result in zip(names, results, strict=False):
        _report(result, f"Set parameter {name} successful", f"Set parameter {name} failed")
