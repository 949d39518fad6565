"""`ros2 run realdiff_sim_bridge mimicgen`: many demonstrations from a few."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from realdiff_core.cli import parser as make_parser
from realdiff_core.cli import run_command

from realdiff_sim_bridge.commands.recording_arguments import add_recording_arguments, make_plan, run_recording

_EXAMPLES = """\
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 10 -o sources --width 64 --height 48
  ros2 run realdiff_sim_bridge mimicgen --task can_to_plate --sources sources --episodes 900 -o data \\
      --width 320 --height 240 --workers 2 --seed 1000
  ros2 run realdiff_sim_bridge mimicgen --task can_to_plate --sources sources --episodes 100 -o data_qp \\
      --controller qp --selection nearest_robot_distance

The sources' pictures aren't used, so they may be small. Output, numbering, --resume and --workers are as for `record`.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command's argument parser."""
    result = make_parser(
        "Make new demonstrations of a task from a few, by moving their segments along with the objects (MimicGen).",
        _EXAMPLES,
        prog="ros2 run realdiff_sim_bridge mimicgen",
    )
    result.add_argument("--sources", required=True, type=Path, metavar="DIR", help="successful episodes of the task")
    result.add_argument(
        "--selection",
        choices=("random", "nearest_object", "nearest_robot_distance"),
        default="nearest_object",
        help="which source segment to move: any, one of the three with the most similar object pose, or one of the "
        "three that begin nearest to the hand (default nearest_object)",
    )
    result.add_argument(
        "--controller",
        choices=("dik", "qp"),
        default="dik",
        help="differential inverse kinematics, or the whole-body quadratic programme (default dik)",
    )
    add_recording_arguments(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    from realdiff_sim_bridge.mimicgen.source import MimicGenSpec
    from realdiff_sim_bridge.tasks import load_task

    task = load_task(arguments.task)
    spec = MimicGenSpec.load(arguments.sources, task, arguments.selection, arguments.controller)
    return run_recording(arguments, make_plan(arguments, task, spec))


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
