"""What the commands that record episodes share: arguments, progress, the run itself."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.cli import progress
from realdiff_core.errors import RealdiffError

if TYPE_CHECKING:
    from realdiff_core.provenance import BagProvenance

    from realdiff_sim_bridge.recorder import Recorder
    from realdiff_sim_bridge.recording.folder import Attempt
    from realdiff_sim_bridge.recording.plan import RecordingPlan, SourceSpec
    from realdiff_sim_bridge.recording.workers import Workers
    from realdiff_sim_bridge.tasks import Task

_SMALL_PX = 480
"""Up to this width the colour image is drawn without shadows by default: it takes a fifth of the time."""


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
        help=f"colour with or without shadows and smooth edges (default: fast up to {_SMALL_PX} px wide, else good)",
    )
    add(
        "--randomisation",
        choices=("none", "physics", "looks", "all"),
        default="all",
        help="what varies beside the start poses (default all)",
    )
    add("--clock", action="store_true", help="record /clock as well")


def make_plan(arguments: argparse.Namespace, task: Task, source: SourceSpec) -> RecordingPlan:
    """Makes the plan that the arguments describe.

    Raises:
        RealdiffError: The arguments contradict each other.
    """
    from realdiff_sim_bridge.recording.plan import RecordingPlan, Settings

    if (arguments.width is None) != (arguments.height is None):
        raise RealdiffError("--width and --height belong together", expected="both or neither")
    small = arguments.width is not None and arguments.width <= _SMALL_PX
    settings = Settings(
        rate_hz=arguments.rate,
        width=arguments.width,
        height=arguments.height,
        encoding=arguments.encoding,
        quality=arguments.quality or ("fast" if small else "good"),
        clock=arguments.clock,
        randomisation=arguments.randomisation,
    )
    return RecordingPlan(task, settings, arguments.storage, arguments.compression, source)


def run_recording(arguments: argparse.Namespace, plan: RecordingPlan) -> int:
    """Records, shows progress, and writes the index page; returns the exit code."""
    from realdiff_sim_bridge.recording.folder import record_with
    from realdiff_sim_bridge.recording.index_page import write_index

    recorder = _LazyRecorder(plan)
    workers = _workers(arguments, recorder)
    tally = _Tally(arguments.episodes)
    try:
        run = record_with(
            workers, arguments.output, task=plan.task.name, expected=recorder.provenance, episodes=arguments.episodes,
            seed=arguments.seed, resume=arguments.resume,
        )  # fmt: skip
        with closing(run), progress(plan.task.name, arguments.episodes, unit="episodes") as bar:
            for attempt in run:
                tally.count(attempt)
                bar.advance(int(attempt.success))
                bar.describe(f"{plan.task.name}  {tally.share:.0%} succeed")
                if not attempt.resumed:
                    verb = "recorded" if attempt.success else "failed"
                    reason = f": {attempt.reason}" if attempt.reason else ""
                    print(f"{verb} {attempt.path}{reason}  [{tally}]", flush=True)
    except BaseException:
        if tally.attempts:
            with suppress(OSError):  # the disk may be full: that error is under way already
                write_index(arguments.output)
        raise
    finally:
        workers.close()
        recorder.close()
    page = write_index(arguments.output)
    print(
        f"{tally.done} episodes in {arguments.output}, {tally.attempts - tally.done} failed attempts "
        f"({tally.share:.0%} succeed){tally.rate}; see {page}"
    )
    return 0


class _LazyRecorder:
    """The leading process needs a recorder only to record by itself, or to judge bags that are there already."""

    def __init__(self, plan: RecordingPlan) -> None:
        self.plan = plan
        self._recorder: Recorder | None = None

    def get(self) -> Recorder:
        self._recorder = self._recorder or self.plan.build()
        return self._recorder

    def provenance(self, seed: int, success: bool | None) -> BagProvenance:
        return self.get().provenance(seed, success)

    def close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()


class _Tally:
    """Counts attempts; its text says how far the recording is and when it will end."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.done = self.attempts = self.recorded = 0
        self._began = time.monotonic()

    def count(self, attempt: Attempt) -> None:
        self.attempts += 1
        self.done += int(attempt.success)
        self.recorded += int(attempt.success and not attempt.resumed)

    @property
    def share(self) -> float:
        return self.done / self.attempts

    @property
    def rate(self) -> str:
        hours = (time.monotonic() - self._began) / 3600
        return f", {self.recorded / hours:.0f} episodes/hour" if self.recorded else ""

    def __str__(self) -> str:
        text = f"{self.done}/{self.wanted}, {self.share:.0%} succeed"
        left = self.wanted - self.done
        if self.recorded and left:
            seconds = (time.monotonic() - self._began) / self.recorded * left
            text += f", {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"
        return text


def _workers(arguments: argparse.Namespace, recorder: _LazyRecorder) -> Workers:
    if arguments.ray is not None:
        from realdiff_sim_bridge.recording.ray_pool import RayPool

        return RayPool(recorder.plan, arguments.ray, arguments.workers)
    if arguments.workers > 1:
        from realdiff_sim_bridge.recording.pool import LocalPool

        return LocalPool(recorder.plan, arguments.workers)
    from realdiff_sim_bridge.recording.workers import InlineWorkers

    return InlineWorkers(recorder.get())
