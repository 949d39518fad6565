"""``ros2 run realdiff_experiments rollout``: how often does a policy succeed in the simulator?"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command
from realdiff_core.errors import OutputError
from realdiff_policy.bundle_path import BUNDLE_HELP, find_bundle

_EXAMPLES = """\
  ros2 run realdiff_experiments rollout --policy can_to_plate --task can_to_plate
  ros2 run realdiff_experiments rollout --policy RUN/policy --task can_to_plate --sensor stereo --trials 30 -o results

30 trials are 10 object positions, 3 times each. The policy runs behind the same run time and safety gate as on the
robot. With -o: results.json, and a video of every trial.
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser(
        "Run a policy in the simulator and report its success with a 95 % interval.", _EXAMPLES, "rollout"
    )
    add = arguments.add_argument
    add("--policy", metavar="BUNDLE", required=True, help=BUNDLE_HELP)
    add("--task", required=True, help="task name, or a task's YAML file")
    add("--sensor", choices=("clean", "stereo"), default="clean", help="depth sensor (default: clean)")
    add("--trials", type=int, default=30, help="trials: positions times 3 (default: 30)")
    add(
        "--randomise",
        choices=("none", "physics", "looks", "all"),
        default="none",
        help="what a reset varies besides the objects' poses (default: none)",
    )
    add("--quality", choices=("good", "fast"), default="fast", help="looks of the colour image (default: fast)")
    add("--seed", type=int, default=0, help="seed of the object positions (default: 0)")
    add("--steps", type=int, help="denoising steps (default: the policy's)")
    add("--execute", type=int, default=0, help="rows of a chunk to execute (default: the policy's)")
    add("--latency", type=float, default=0.05, metavar="S", help="simulated time of an inference (default: 0.05 s)")
    add("--workers", type=int, default=1, help="processes; they don't change the result (default: 1)")
    add("-o", "--output", metavar="DIR", type=Path, help="folder for results and videos; must not exist")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Runs the trials and prints the table."""
    if arguments.output is not None and arguments.output.exists():
        raise OutputError("output exists", where=arguments.output, next_step="choose another folder")

    from realdiff_experiments.rollouts.protocol import Protocol, run_protocol, summary
    from realdiff_experiments.rollouts.trial import Trial, TrialSettings

    protocol = Protocol(
        bundle=find_bundle(arguments.policy),
        task=arguments.task,
        trials=arguments.trials,
        settings=TrialSettings(sensor=arguments.sensor, latency_s=arguments.latency, execute=arguments.execute),
        randomisation=arguments.randomise,
        quality=arguments.quality,
        steps=arguments.steps,
        seed=arguments.seed,
        videos=arguments.output / "videos" if arguments.output is not None else None,
    )
    with progress("trials", arguments.trials, "trials") as bar:
        successes = finished = 0

        def on_trial(trial: Trial) -> None:
            nonlocal successes, finished
            successes, finished = successes + trial.success, finished + 1
            bar.describe(f"trials, {successes} of {finished} succeeded")
            bar.advance()

        trials = run_protocol(protocol, arguments.workers, on_trial)
    result = summary(trials)
    low, high = result["interval_95"]
    print(
        f"{protocol.task}, {arguments.sensor} depth: {result['successes']} of {result['trials']} trials succeeded "
        f"({result['success_rate']:.0%}, 95 % interval {low:.0%} to {high:.0%})"
    )
    for category, count in result["failures"].items():
        print(f"  {category}: {count}")
    if arguments.output is not None:
        record = {
            "command": f"ros2 run realdiff_experiments rollout {shlex.join(sys.argv[1:])}",
            "task": protocol.task,
            "sensor": arguments.sensor,
            "seed": protocol.seed,
            **result,
            "records": [asdict(trial) for trial in trials],
        }
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"results and videos: {arguments.output}")
    return 0


def cli() -> None:
    """Entry point of `ros2 run realdiff_experiments rollout`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    cli()
