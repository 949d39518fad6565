"""ros2 service."""

from __future__ import annotations

import argparse
import sys
import time

from .cli import verb, verbs
from .graph import NODE_NAME_PREFIX, add_node_arguments, is_hidden, open_node, spin_until, wait_for
from .messages import fill, load_interface


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    parser.add_argument("--include-hidden-services", action="store_true", help="Consider hidden services as well")
    sub = verbs(parser)
    item = verb(sub, "call", _call, "Call a service")
    item.add_argument("service_name", help="Name of the ROS service to call to (e.g. '/add_two_ints')")
    item.add_argument("service_type", help="Type of the ROS service (e.g. 'std_srvs/srv/Empty')")
    group = item.add_mutually_exclusive_group()
    group.add_argument("values", nargs="?", default="{}", help="Values to fill the request with in YAML format")
    group.add_argument("--stdin", action="store_true", help="Read values from standard input")
    item.add_argument("-r", "--rate", metavar="N", type=float, help="Repeat the call at a specific rate in Hz")
    item = verb(sub, "find", _find, "Output a list of available services of a given type")
    add_node_arguments(item)
    item.add_argument("service_type", help="Name of the ROS service type to filter for")
    item = verb(sub, "list", _list, "Output a list of available services")
    add_node_arguments(item)
    item.add_argument("-t", "--show-types", action="store_true", help="Additionally show the service type")
    item.add_argument("-c", "--count-services", action="store_true", help="Only display the number of services")
    item.add_argument(
        "--include-hidden-services", action="store_true", default=argparse.SUPPRESS, help="Consider hidden services"
    )
    item = verb(sub, "type", _type, "Output a service's type")
    add_node_arguments(item)
    item.add_argument("service_name", help="Name of the ROS service to get type")


def _services(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    with open_node(args) as node:
        return [
            (name, types)
            for name, types in node.get_service_names_and_types()
            if args.include_hidden_services or not is_hidden(name)
        ]


def _list(args: argparse.Namespace) -> None:
    services = _services(args)
    if args.count_services:
        print(len(services))
        return
    for name, types in services:
        print(f"{name} [{', '.join(types)}]" if args.show_types else name)


def _find(args: argparse.Namespace) -> None:
    for name, types in _services(args):
        if args.service_type in types:
            print(name)


def _type(args: argparse.Namespace) -> int:
    with open_node(args) as node:
        types = wait_for(lambda: dict(node.get_service_names_and_types()).get(args.service_name)) or []
    for name in types:
        print(name)
    return 0 if types else 1


def _call(args: argparse.Namespace) -> str | None:
    import rclpy
    import yaml

    if args.rate is not None and args.rate <= 0:
        return "rate must be greater than zero"
    cls = load_interface(args.service_type, "srv")
    request = cls.Request()
    try:
        fill(request, yaml.safe_load(sys.stdin.read() if args.stdin else args.values))
    except (ValueError, TypeError, AssertionError) as error:
        return f"Failed to populate field: {error}"
    label = args.service_type.replace("/srv", "").replace("/", "_")
    with open_node(args, f"{NODE_NAME_PREFIX}_requester_{label}", discover=False) as node:
        client = node.create_client(cls, args.service_name)
        if not client.wait_for_service(timeout_sec=0.5):
            print("waiting for service to become available...")
            client.wait_for_service()
        while True:
            print(f"requester: making request: {request!r}\n")
            start = time.monotonic()
            future = client.call_async(request)
            spin_until(node, future)
            if future.result() is None:
                return f"Exception while calling service: {future.exception()!r}"
            print(f"response:\n{future.result()!r}\n")
            if args.rate is None or not rclpy.ok():
                return None
            time.sleep(max(0.0, start + 1.0 / args.rate - time.monotonic()))
