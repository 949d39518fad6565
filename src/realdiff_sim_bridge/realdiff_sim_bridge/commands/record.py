"""`ros2 run realdiff_sim_bridge record`: records demonstrations of a task in simulation."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn

from realdiff_core.cli import parser as make_parser
from realdiff_core.cli import progress, run_command
from realdiff_core.errors import RealdiffError

_EXAMPLES = """\
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 1 -o episodes --seed 0
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 100 -o data --width 320 --height 240 \\
      --quality fast --compression zstd
  ros2 run realdiff_sim_bridge record --task can_to_plate --episodes 100 -o data --resume   # after an interruption

Every episode is a bag: <output>/<task>_000000/, … ; failed attempts go to <output>/failed/.
"""


def _positive(text: str) -> int:
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


def parser() -> argparse.ArgumentParser:
    """Returns the command's argument parser."""
    result = make_parser(
        "Record demonstrations of a scripted expert in simulation, one rosbag2 bag an episode.",
        _EXAMPLES,
        prog="ros2 run realdiff_sim_bridge record",
    )
    result.add_argument("--task", required=True, help="task name (config/tasks), or the path of a task's .yaml file")
    result.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the bags")
    result.add_argument("--episodes", type=_positive, default=1, help="successful episodes to record (default 1)")
    result.add_argument("--seed", type=_seed, default=0, help="attempt k is reset with seed + k (default 0)")
    result.add_argument("--rate", type=_rate, default=10.0, metavar="HZ", help="camera frames a second (default 10)")
    result.add_argument("--width", type=_positive, metavar="PX", help="image width (default: the camera's profile)")
    result.add_argument("--height", type=_positive, metavar="PX", help="image height (default: the camera's profile)")
    result.add_argument(
        "--encoding", choices=("16UC1", "32FC1"), default="16UC1", help="depth encoding (default 16UC1)"
    )
    result.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="bag storage (default mcap)")
    result.add_argument(
        "--compression", choices=("none", "zstd"), default="none", help="bag compression (default none)"
    )
    result.add_argument(
        "--quality", choices=("good", "fast"), default="good", help="colour with or without shadows and smooth edges"
    )
    result.add_argument("--clock", action="store_true", help="record /clock as well")
    result.add_argument("--resume", action="store_true", help="keep the episodes in the folder and go on after them")
    return result


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    if (arguments.width is None) != (arguments.height is None):
        raise RealdiffError("--width and --height belong together", expected="both or neither")
    # From here on it takes a second: simulator and bag libraries are imported only now.
    from realdiff_sim_bridge.recorder import Recorder, Settings, record_episodes
    from realdiff_sim_bridge.tasks import load_task

    settings = Settings(
        rate_hz=arguments.rate,
        width=arguments.width,
        height=arguments.height,
        encoding=arguments.encoding,
        quality=arguments.quality,
        clock=arguments.clock,
    )
    task = load_task(arguments.task)
    recorder = Recorder(task, settings, arguments.storage, arguments.compression)
    done = failed = 0
    try:
        with progress(f"{task.name}", arguments.episodes, unit="episodes") as bar:
            for attempt in record_episodes(
                recorder, arguments.output, episodes=arguments.episodes, seed=arguments.seed, resume=arguments.resume
            ):
                done += int(attempt.success)
                failed += int(not attempt.success)
                bar.advance(int(attempt.success))
                bar.describe(f"{task.name}  {done / (done + failed):.0%} succeed")
                if not attempt.resumed:
                    print(f"{'recorded' if attempt.success else 'failed'} {attempt.path}", file=sys.stdout, flush=True)
    finally:
        recorder.close()
    print(f"{done} episodes in {arguments.output}, {failed} failed attempts ({done / (done + failed):.0%} succeed)")
    return 0


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
