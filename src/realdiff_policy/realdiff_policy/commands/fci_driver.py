"""`ros2 run realdiff_policy fci_driver`: the FR3 through libfranka, behind franka_ros2's topics and actions."""

from __future__ import annotations

import sys
from typing import NoReturn

from realdiff_core.cli import run_command

_HELP = """usage: ros2 run realdiff_policy fci_driver --ros-args -p robot_ip:=ADDRESS [-p NAME:=VALUE …]

The FR3 through libfranka (pylibfranka, optional: pip install pylibfranka), without franka_ros2.

parameters:
  robot_ip        host name or address of the robot []
  gripper         name under which the hand's actions appear [franka_gripper]
  arm_controller  name under which the trajectory topic and action appear [fr3_arm_controller]

examples:
  ros2 run realdiff_policy fci_driver --ros-args -p robot_ip:=172.16.0.2
  franky-sim --hostname 127.0.0.1 &  ros2 run realdiff_policy fci_driver --ros-args -p robot_ip:=127.0.0.1"""


def main(argv: list[str] | None = None) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    arguments = sys.argv if argv is None else argv
    if "--help" in arguments or "-h" in arguments:
        print(_HELP)
        return 0
    from realdiff_policy.robot.fci_driver import spin

    return spin(arguments)


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
