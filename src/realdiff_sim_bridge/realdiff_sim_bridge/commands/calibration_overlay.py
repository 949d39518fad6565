"""`ros2 run realdiff_sim_bridge calibration_overlay`: the rendered robot over the live picture."""

from __future__ import annotations

import sys
from typing import NoReturn

from realdiff_core.cli import run_command

_HELP = """\
usage: ros2 run realdiff_sim_bridge calibration_overlay --ros-args -p calibration:=FILE [-p NAME:=VALUE ...]

Draws the robot's outline over the colour picture where a calibration says it is: topic
/realdiff/calibration_overlay (rgb8). Outline and robot coincide as long as the camera hasn't moved.

parameters:
  calibration  a camera_tf.yaml (needed)
  publish_tf   publish base -> camera_link on /tf_static as well (default false)
  rate         pictures per second at most (default 5.0)

examples:
  ros2 run realdiff_sim_bridge calibration_overlay --ros-args -p calibration:=calibration/camera_tf.yaml
  ros2 run realdiff_sim_bridge calibration_overlay --ros-args -p calibration:=calibration/camera_tf.yaml \\
      -p publish_tf:=true
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    arguments = sys.argv if argv is None else argv
    if "--help" in arguments or "-h" in arguments:
        print(_HELP, end="")
        return 0
    from realdiff_sim_bridge.rendering import select_gl

    select_gl()  # before anything imports mujoco
    from realdiff_sim_bridge.calibration.node import spin

    return spin(arguments)


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
