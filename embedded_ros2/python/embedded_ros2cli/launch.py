"""ros2 launch."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch import LaunchDescription


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "-n", "--noninteractive", action="store_true", default=not sys.stdin.isatty(), help="no terminal is there"
    )
    parser.add_argument("-d", "--debug", action="store_true", help="more verbose output")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-p", "--print", "--print-description", action="store_true", help="Print the launch description only"
    )
    group.add_argument(
        "-s", "--show-args", "--show-arguments", action="store_true", help="Show arguments of the launch file"
    )
    parser.add_argument(
        "-a", "--show-all-subprocesses-output", action="store_true", help="Show the output of all processes"
    )
    parser.add_argument("--launch-prefix", help="Command in front of all executables")
    parser.add_argument("--launch-prefix-filter", help="Regex of the executables that get the prefix")
    parser.add_argument("package_name", help="Name of the ROS package which contains the launch file, or its path")
    parser.add_argument("launch_file_name", nargs="?", help="Name of the launch file")
    parser.add_argument(
        "launch_arguments",
        nargs="*",
        help="Arguments to the launch file; '<name>:=<value>' (for duplicates, last one wins)",
    )
    parser.set_defaults(run=_run)


def find_in_package(package: str, name: str | None) -> Path:
    """Return the path of a launch file of a package.

    Raises:
        RuntimeError: If package or file can't be found, or several files have the name.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        share = get_package_share_directory(package)
    except (PackageNotFoundError, ValueError) as error:
        raise RuntimeError(f"Package '{package}' not found: {error}") from error
    found = [Path(directory) / name for directory, _, files in os.walk(share) if name in files] if name else []
    where = f"in the share directory of package '{package}'"
    if not found:
        raise RuntimeError(f"file '{name}' was not found {where} which is at '{share}'")
    if len(found) > 1:
        paths = ", ".join(f"'{path}'" for path in found)
        raise RuntimeError(f"file '{name}' was found more than once {where}: [{paths}]")
    return found[0]


def parse_launch_arguments(arguments: list[str]) -> list[tuple[str, str]]:
    """Split name:=value arguments; the last one of a name wins.

    Raises:
        RuntimeError: If one has another form.
    """
    parsed: dict[str, str] = {}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not name or not separator or not value:
            raise RuntimeError(f"malformed launch argument '{argument}', expected format '<name>:=<value>'")
        parsed[name] = value
    return list(parsed.items())


def _print_arguments(description: LaunchDescription) -> None:
    print("Arguments (pass arguments as '<name>:=<value>'):")
    arguments = description.get_launch_arguments()
    for argument in arguments:
        mark = "*" if argument._conditionally_included else ""
        print(f"\n    '{argument.name}':{mark}\n        {argument.description}")
        if argument.default_text is not None:
            print(f"        (default: {argument.default_text})")
    if not arguments:
        print("\n  No arguments.")
    elif any(argument._conditionally_included for argument in arguments):
        print("\n* argument(s) which are only used if specific conditions occur")


def _run(args: argparse.Namespace) -> int | str | None:
    arguments = list(args.launch_arguments)
    if Path(args.package_name).is_file():
        path = Path(args.package_name)
        if args.launch_file_name is not None:
            arguments.insert(0, args.launch_file_name)
    else:
        path = find_in_package(args.package_name, args.launch_file_name)
    if args.launch_prefix is None and args.launch_prefix_filter is not None:
        return "--launch-prefix must be specified if --launch-prefix-filter is provided"
    if args.show_all_subprocesses_output:
        os.environ["OVERRIDE_LAUNCH_PROCESS_OUTPUT"] = "both"

    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import (
        AnyLaunchDescriptionSource,
        get_launch_description_from_any_launch_file,
    )

    import launch

    if args.print or args.show_args:
        try:
            description = get_launch_description_from_any_launch_file(str(path))
        except launch.UnsupportedLaunchFeature as error:
            return f"{path}: {error}"
        except launch.InvalidLaunchFileError as error:
            return str(error)
        if args.show_args:
            _print_arguments(description)
        else:
            print(launch.LaunchIntrospector().format_launch_description(description))
        return None
    for option in ("launch_prefix", "launch_prefix_filter"):
        if getattr(args, option):
            arguments.append(f"{option.replace('_', '-')}:={getattr(args, option)}")
    parsed = parse_launch_arguments(arguments)
    service = launch.LaunchService(argv=arguments, noninteractive=args.noninteractive, debug=args.debug)
    include = IncludeLaunchDescription(AnyLaunchDescriptionSource(str(path)), launch_arguments=parsed)
    service.include_launch_description(launch.LaunchDescription([include]))
    return service.run()
