"""Entry point of the ros2 command."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

#: Command: (module, help). A module is imported when its command is used, so that --help answers at once.
COMMANDS = {
    "action": ("action", "Various action related sub-commands"),
    "bag": ("bag", "Various rosbag related sub-commands"),
    "interface": ("interface", "Show information about ROS interfaces"),
    "launch": ("launch", "Run a launch file"),
    "lifecycle": ("lifecycle", "Various lifecycle related sub-commands"),
    "node": ("node", "Various node related sub-commands"),
    "param": ("param", "Various param related sub-commands"),
    "pkg": ("pkg", "Various package related sub-commands"),
    "run": ("run", "Run a package specific executable"),
    "service": ("service", "Various service related sub-commands"),
    "topic": ("topic", "Various topic related sub-commands"),
}
#: Commands of the real ros2 that this one does not have.
MISSING = ("component", "control", "daemon", "doctor", "multicast", "security", "test", "trace", "wtf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        Exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(
        prog="ros2",
        description="ros2 of the embedded ROS 2 (registry wheels): the commands that this project uses.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  ros2 topic list -t\n  ros2 launch realdiff enhance.launch.py --show-args\n"
        "  ros2 bag info episode_000",
    )
    parser.add_argument("--use-python-default-buffering", action="store_true", help=argparse.SUPPRESS)
    subparsers = parser.add_subparsers(
        title="Commands", metavar="COMMAND", description="Call `ros2 <command> -h` for more detailed usage."
    )
    chosen = next((item for item in arguments if not item.startswith("-")), None)
    if chosen in MISSING:
        print(
            f"ros2: the embedded ROS 2 does not have 'ros2 {chosen}'; source a ROS 2 Jazzy to use it.", file=sys.stderr
        )
        return 1
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            importlib.import_module(f"embedded_ros2cli.{module}").add_arguments(subparser)
            subparser.set_defaults(command=subparser)
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        # No command, or a command without its verb.
        getattr(args, "command", parser).print_help()
        return 0
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        result = args.run(args)
    except KeyboardInterrupt:
        return int(signal.SIGINT)
    except BrokenPipeError:
        # `ros2 topic echo … | head` is no error.
        sys.stderr.close()
        return 0
    except RuntimeError as error:
        result = str(error)
    if isinstance(result, str):
        print(result, file=sys.stderr)
        return 1
    return 0 if result is None else int(result)


def verbs(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """Add the place for a command's verbs."""
    return parser.add_subparsers(
        title="Verbs", metavar="VERB", description=f"Call `{parser.prog} <verb> -h` for more detailed usage."
    )


def verb(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: object, text: str
) -> argparse.ArgumentParser:
    """Add a verb.

    Args:
        subparsers: From verbs().
        name: Its name.
        run: Function of the parsed arguments; it returns None, an exit code, or an error text.
        text: Help.
    """
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser
