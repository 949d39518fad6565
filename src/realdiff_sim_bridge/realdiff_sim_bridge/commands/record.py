"""`ros2 run realdiff_sim_bridge record`: records demonstrations of a task in simulation."""

from __future__ import annotations

import argparse
from typing import NoReturn

from realdiff_core.cli import parser as make_parser
from realdiff_core.cli import run_command

from realdiff_sim_bridge.commands.recording_arguments import add_recording_arguments, make_plan, run_recording

_EXAMPLES = """\
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 1 -o episodes --seed 0
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 900 -o data --width 320 --height 240 --workers 2
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 900 -o data --width 320 --height 240 \\
      --workers 2 --resume   # after an interruption
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 900 -o /shared/data --workers 64 --ray auto

Every episode is a bag: DIR/<task>_000000/, … ; failed attempts go to DIR/failed/. DIR/index.html shows all of them.
The number of workers changes nothing but the time.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command's argument parser."""
    result = make_parser(
        "Record demonstrations of a scripted expert in simulation, one rosbag2 bag an episode.",
        _EXAMPLES,
        prog="ros2 run realdiff_sim_bridge record",
    )
    add_recording_arguments(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    # From here on it takes a second: simulator and bag libraries are imported only now.
    from realdiff_sim_bridge.recording.plan import ExpertSpec
    from realdiff_sim_bridge.tasks import load_task

    plan = make_plan(arguments, load_task(arguments.task), ExpertSpec())
    return run_recording(arguments, plan)


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
