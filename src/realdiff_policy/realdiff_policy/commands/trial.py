"""`ros2 run realdiff_policy trial`: one trial of the running policy, with its bag and a labelled record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from realdiff_core.cli import run_command

_EXAMPLES = """examples:
  ros2 run realdiff_policy trial --task can_to_plate --seed 3
  ros2 run realdiff_policy trial --task can_to_plate --robot real --camera real --output trials

It resets the scene (simulation), starts the bag, starts the policy through its service, waits for success or the time
limit, stops the policy, and writes trial.json. On hardware the outcome is left unlabelled: it is yours to judge.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ros2 run realdiff_policy trial",
        description="Runs one trial of the policy that the node diffusion_policy holds ready.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", required=True, help="task name (config/tasks)")
    add("--policy", default="", help="name of the bundle, for the record")
    add("--robot", choices=["real", "sim", "fci"], default="sim", help="what the robot is [%(default)s]")
    add("--camera", choices=["real", "sim"], default="sim", help="what the camera is [%(default)s]")
    add("--seed", type=int, default=0, help="which of the scenes kept for trials, in simulation [%(default)s]")
    add("--position", type=int, default=0, help="index of the object position in a protocol [%(default)s]")
    add("--repetition", type=int, default=0, help="repetition at that position [%(default)s]")
    add("--time-limit", type=float, default=0.0, metavar="S", help="longest duration; 0: the task's own [%(default)s]")
    add("--no-record", action="store_true", help="write no bag")
    add("--output", type=Path, default=Path("trials"), metavar="DIR", help="where trials go [%(default)s]")
    add("--policy-node", default="diffusion_policy", help="name of the inference node [%(default)s]")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Does it."""
    from realdiff_policy.robot.client import client
    from realdiff_policy.trial import RECORD_FILE, Trial, TrialSettings

    settings = TrialSettings(
        task=arguments.task,
        policy=arguments.policy,
        robot=arguments.robot,
        camera=arguments.camera,
        seed=arguments.seed,
        position=arguments.position,
        repetition=arguments.repetition,
        time_limit_s=arguments.time_limit,
        record=not arguments.no_record,
        output=arguments.output,
        policy_node=arguments.policy_node,
    )
    with client("trial", use_sim_time=settings.simulated) as opened:
        folder = Trial(opened, settings).run()
    print((folder / RECORD_FILE).read_text(), end="")
    print(f"trial: {folder}")
    return 0


def entry() -> None:
    """Entry point of `ros2 run`."""
    from rclpy.utilities import remove_ros_args

    arguments = build_parser().parse_args(remove_ros_args(sys.argv)[1:])
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    entry()
