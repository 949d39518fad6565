"""`ros2 run realdiff_policy go_home`: brings the arm to its home position."""

from __future__ import annotations

import argparse
import sys

from realdiff_core.cli import run_command
from realdiff_core.errors import RealdiffError

_EXAMPLES = """examples:
  ros2 run realdiff_policy go_home
  ros2 run realdiff_policy go_home --moveit        # plan around what MoveIt knows; straight if it isn't there
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ros2 run realdiff_policy go_home",
        description="Brings the arm to the home position of its configuration, slowly, within the safety limits.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--robot", default="fr3", help="robot cell: name in config/robots, or a .yaml file [%(default)s]")
    add("--controller", default="fr3_arm_controller", help="joint trajectory controller [%(default)s]")
    add("--moveit", action="store_true", help="plan with MoveIt where it is installed")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Does it."""
    import numpy as np

    from realdiff_policy.robot.client import client
    from realdiff_policy.robot.home import follow, measured_joints, straight
    from realdiff_policy.robot.moveit_home import NOT_INSTALLED, go_in_child
    from realdiff_policy.safety import motion_limits, robot_config

    config = robot_config(arguments.robot)
    if arguments.moveit:
        code = go_in_child()
        if code == 0:
            print("home, with MoveIt")
            return 0
        if code != NOT_INSTALLED:
            raise RealdiffError("MoveIt did not bring the arm home", got=f"exit code {code}")
        print("MoveIt isn't installed: going straight", file=sys.stderr)
    with client("go_home") as opened:
        start, home = measured_joints(opened), np.array(config.home)
        if np.max(np.abs(start - home)) < 0.01:
            print("the arm is at home already")
            return 0
        motion = straight(start, home, motion_limits(config))
        follow(opened, motion, arguments.controller)
        print(f"home, after {motion.times_s[-1]:.1f} s")
    return 0


def entry() -> None:
    """Entry point of `ros2 run`."""
    from rclpy.utilities import remove_ros_args

    arguments = build_parser().parse_args(remove_ros_args(sys.argv)[1:])
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    entry()
