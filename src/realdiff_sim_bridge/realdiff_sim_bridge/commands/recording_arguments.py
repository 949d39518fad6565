"""What the commands that record episodes share: arguments, progress, the run itself."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.cli import progress
from realdiff_core.errors import RealdiffError

if TYPE_CHECKING:
    from realdiff_sim_bridge.recording.folder import Attempt
    from realdiff_sim_bridge.recording.plan import RecordingPlan, SourceSpec
    from realdiff_sim_bridge.recording.run import Tally
    from realdiff_sim_bridge.tasks import Task


def positive(text: str) -> int:
    """Reads a positive number."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{value} isn't positive")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"a seed lies between 0 and 2^63 - 1, got {value}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0.0 < value <= 100.0):
        raise argparse.ArgumentTypeError(f"a rate lies above 0 and up to 100 Hz, got {text}")
    return value


def _disturbance(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 0.2:
        raise argparse.ArgumentTypeError(f"a disturbance lies between 0 and 0.2 rad, got {text}")
    return value


def add_recording_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what to record, how, and with how many processes."""
    add = parser.add_argument
    add("--task", required=True, help="task name (config/tasks), or the path of a task's .yaml file")
    add("-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the bags and their index.html")
    add("--episodes", type=positive, default=1, metavar="N", help="successful episodes to record (default 1)")
    add("--seed", type=_seed, default=0, help="attempt k is reset with seed + k (default 0)")
    add("--workers", type=positive, default=1, metavar="N", help="processes that record at the same time (default 1)")
    add("--ray", metavar="ADDRESS", help="let the workers run on the Ray cluster there (auto: the one on this machine)")
    add("--resume", action="store_true", help="keep the episodes in the folder and go on after them")
    add("--rate", type=_rate, default=10.0, metavar="HZ", help="camera frames a second (default 10)")
    add("--width", type=positive, metavar="PX", help="image width (default: the camera's profile)")
    add("--height", type=positive, metavar="PX", help="image height (default: the camera's profile)")
    add("--encoding", choices=("16UC1", "32FC1"), default="16UC1", help="depth encoding (default 16UC1)")
    add("--storage", choices=("mcap", "sqlite3"), default="mcap", help="bag storage (default mcap)")
    add("--compression", choices=("none", "zstd"), default="none", help="bag compression (default none)")
    add(
        "--quality",
        choices=("good", "fast"),
        help="colour with or without shadows and smooth edges (default: fast up to 480 px wide, else good)",
    )
    add(
        "--randomisation",
        choices=("none", "physics", "looks", "all"),
        default="all",
        help="what varies beside the start poses (default all)",
    )
    add(
        "--disturbance",
        type=_disturbance,
        default=0.0,
        metavar="RAD",
        help="push the arm off its way while it demonstrates, so that policies see how to come back; 0.03 is about "
        "15 mm of the hand (default 0)",
    )
    add("--clock", action="store_true", help="record /clock as well")


def make_plan(arguments: argparse.Namespace, task: Task, source: SourceSpec) -> RecordingPlan:
    """Makes the plan that the arguments describe.

    Raises:
        RealdiffError: The arguments contradict each other.
    """
    from realdiff_sim_bridge.recording.plan import RecordingPlan, Settings, default_quality

    if (arguments.width is None) != (arguments.height is None):
        raise RealdiffError("--width and --height belong together", expected="both or neither")
    settings = Settings(
        rate_hz=arguments.rate,
        width=arguments.width,
        height=arguments.height,
        encoding=arguments.encoding,
        quality=arguments.quality or default_quality(arguments.width),
        clock=arguments.clock,
        randomisation=arguments.randomisation,
        disturbance_rad=arguments.disturbance,
    )
    return RecordingPlan(task, settings, arguments.storage, arguments.compression, source)


def run_recording(arguments: argparse.Namespace, plan: RecordingPlan) -> int:
    """Records, shows progress, and writes the index page; returns the exit code."""
    from realdiff_sim_bridge.recording.run import Request, run

    request = Request(
        arguments.output, arguments.episodes, arguments.seed, arguments.resume, arguments.workers, arguments.ray
    )
    with progress(plan.task.name, arguments.episodes, unit="episodes") as bar:

        def show(attempt: Attempt, tally: Tally) -> None:
            bar.advance(int(attempt.success))
            bar.describe(f"{plan.task.name}  {tally.share:.0%} succeed")
            if not attempt.resumed:
                verb = "recorded" if attempt.success else "failed"
                reason = f": {attempt.reason}" if attempt.reason else ""
                print(f"{verb} {attempt.path}{reason}  [{tally}]", flush=True)

        tally, page = run(plan, request, show)
    rate = f", {tally.rate:.0f} episodes/hour" if tally.rate else ""
    print(
        f"{tally.done} episodes in {arguments.output}, {tally.failed} failed attempts ({tally.share:.0%} succeed)"
        f"{rate}; see {page}"
    )
    return 0
