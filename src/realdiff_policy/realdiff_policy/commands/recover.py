"""`ros2 run realdiff_policy recover`: error recovery after a reflex, all three steps."""

from __future__ import annotations

import argparse
import sys

from realdiff_core.cli import run_command
from realdiff_core.errors import RealdiffError

_EXAMPLES = """examples:
  ros2 run realdiff_policy recover
  ros2 run realdiff_policy recover --controller fr3_arm_controller
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ros2 run realdiff_policy recover",
        description="Clears the robot's error, makes the hardware component active and switches the controllers on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--controller", action="append", help="controller to switch on, may be repeated [fr3_arm_controller]"
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Does it."""
    from realdiff_policy.robot.client import client
    from realdiff_policy.robot.recovery import STEP_TIMEOUT_S, ErrorRecoverer, RecoveryNames

    names = RecoveryNames(controllers=tuple(arguments.controller or RecoveryNames().controllers))
    with client("recover") as opened:
        recoverer = ErrorRecoverer(opened.node, names)
        opened.wait_for(recoverer.ready, STEP_TIMEOUT_S, f"action {names.error_recovery} and the controller manager")
        ended: list[str] = []
        recoverer.start(ended.append)
        opened.wait_for(lambda: ended, 5 * STEP_TIMEOUT_S, "error recovery")
        recoverer.close()
    if ended[0]:
        raise RealdiffError("error recovery failed", got=ended[0])
    print("the arm can move again")
    return 0


def entry() -> None:
    """Entry point of `ros2 run`."""
    from rclpy.utilities import remove_ros_args

    arguments = build_parser().parse_args(remove_ros_args(sys.argv)[1:])
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    entry()
