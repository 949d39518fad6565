"""ros2 interface."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from .cli import verb, verbs

_KINDS = {"msg": "Messages", "srv": "Services", "action": "Actions"}
_PRIMITIVE = re.compile(r"^(bool|byte|char|float32|float64|u?int(8|16|32|64)|w?string(<=\d+)?)$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = verb(sub, "list", _list, "List all interface types available")
    _add_kinds(item)
    item = verb(sub, "package", _package, "Output a list of available interface types within one package")
    _add_kinds(item)
    item.add_argument("package_name", help="Name of the ROS package (e.g. 'example_interfaces')")
    item = verb(sub, "packages", _packages, "Output a list of packages that provide interfaces")
    _add_kinds(item)
    item = verb(sub, "show", _show, "Output the interface definition")
    group = item.add_mutually_exclusive_group()
    group.add_argument("--all-comments", action="store_true", help="Show comments of nested definitions as well")
    group.add_argument("--no-comments", action="store_true", help="Show no comments or whitespace")
    item.add_argument("type", help="Show an interface definition (e.g. 'example_interfaces/msg/String'); '-' for stdin")


def _add_kinds(item: argparse.ArgumentParser) -> None:
    item.add_argument("-m", "--only-msgs", action="store_true", help="only the message types")
    item.add_argument("-s", "--only-srvs", action="store_true", help="only the service types")
    item.add_argument("-a", "--only-actions", action="store_true", help="only the action types")


def _wanted(args: argparse.Namespace) -> list[str]:
    flags = {"msg": args.only_msgs, "srv": args.only_srvs, "action": args.only_actions}
    return [kind for kind, flag in flags.items() if flag] or list(flags)


def interfaces(package: str) -> list[str]:
    """Return the interfaces of a package, as 'msg/Name'.

    Raises:
        RuntimeError: If it has none.
    """
    from ament_index_python import get_resource

    try:
        content, _ = get_resource("rosidl_interfaces", package)
    except (LookupError, ValueError) as error:
        raise RuntimeError(f"Unknown package '{package}'") from error
    # The index names the files of an interface: .msg, .idl and .json.
    names = {line.rsplit(".", 1)[0] for line in content.splitlines() if "." in line}
    return sorted(name for name in names if name.split("/")[0] in _KINDS)


def _all() -> dict[str, list[str]]:
    from ament_index_python import get_resources

    return {package: interfaces(package) for package in sorted(get_resources("rosidl_interfaces"))}


def _list(args: argparse.Namespace) -> None:
    known = _all()
    for kind in _wanted(args):
        print(f"{_KINDS[kind]}:")
        for package, names in known.items():
            for name in names:
                if name.startswith(f"{kind}/"):
                    print(f"    {package}/{name}")


def _package(args: argparse.Namespace) -> None:
    for name in interfaces(args.package_name):
        if name.split("/")[0] in _wanted(args):
            print(f"{args.package_name}/{name}")


def _packages(args: argparse.Namespace) -> None:
    for package, names in _all().items():
        if any(name.split("/")[0] in _wanted(args) for name in names):
            print(package)


def definition(name: str) -> str:
    """Return the text of an interface.

    Args:
        name: 'package/kind/Name'.

    Raises:
        RuntimeError: If there is none of that name.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    parts = name.split("/")
    if len(parts) != 3:
        raise RuntimeError(f"Invalid name '{name}'. Expected three parts separated by '/'")
    package, kind, short = parts
    try:
        share = Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError) as error:
        raise RuntimeError(f"Unknown package '{package}'") from error
    path = share / kind / f"{short}.{kind}"
    if not path.is_file():
        raise RuntimeError(f"Could not find the interface '{path}'")
    return path.read_text(encoding="utf-8")


def nested_type(line: str, package: str) -> str | None:
    """Return the message that a line of a definition uses, as 'package/msg/Name', or None.

    Args:
        line: Line.
        package: Package of the definition.
    """
    words = line.split("#")[0].split()
    if len(words) < 2 or words[1].startswith("="):
        return None
    base = words[0].split("[")[0]
    if _PRIMITIVE.match(base):
        return None
    parts = base.split("/")
    return f"{package}/msg/{base}" if len(parts) == 1 else f"{parts[0]}/msg/{parts[-1]}"


def _print(name: str, comments: bool, nested_comments: bool, depth: int = 0) -> None:
    for line in definition(name).splitlines():
        text = line.rstrip()
        if not comments:
            text = text.split("#")[0].rstrip()
            if not text:
                continue
        print("\t" * depth + text if text else "")
        inner = nested_type(line, name.split("/")[0])
        if inner:
            _print(inner, nested_comments, nested_comments, depth + 1)


def _show(args: argparse.Namespace) -> str | None:
    name = sys.stdin.readline().strip() if args.type == "-" else args.type
    if not name:
        return "the passed value is empty"
    _print(name, not args.no_comments, args.all_comments)
    return None
