"""Check bags against the conventions of an episode."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.cli import parser, progress, run_command

if TYPE_CHECKING:
    from realdiff_core.episode import EpisodeReport

EXAMPLES = """\
  ros2 run realdiff_core validate episodes/episode_000000
  ros2 run realdiff_core validate episodes --workers 8
  ros2 run realdiff_core validate episodes --verbose      # a line for every bag, not only for faulty ones

The exit code is 0 where all bags are sound, 1 where one has a fault.
"""
_FAILED = "failed"


@dataclass(frozen=True)
class Verdict:
    """What was found out about one bag.

    Attributes:
        path: The bag.
        problems: One line each; empty for a sound episode.
        depth: Depth topics with the origin of their depth.
        frames: Number of images in all topics together.
        task: The task, as the provenance says.
        success: Whether the task was done, as the provenance says.
    """

    path: Path
    problems: tuple[str, ...]
    depth: str = ""
    frames: int = 0
    task: str = ""
    success: bool | None = None


def check(path: Path) -> Verdict:
    """Reads one bag and checks it; a bag that can't be read at all is a problem like others."""
    from realdiff_core.bag import BagReader
    from realdiff_core.episode import validate_episode
    from realdiff_core.errors import RealdiffError

    try:
        report: EpisodeReport = validate_episode(path)
        with BagReader(path) as reader:
            provenance = reader.provenance()
    except RealdiffError as error:
        return Verdict(path, (str(error).replace("\n", "\n  "),))
    depth = ", ".join(f"{name} {kind or 'unknown'}" for name, kind in report.depth.items()) or "no depth"
    frames = sum(report.frames.values())
    if provenance is None:
        return Verdict(path, tuple(report.problems), depth, frames)
    problems = report.problems
    if provenance.success is False:  # a failed attempt may have ended before anything was published on a topic
        problems = [problem for problem in problems if ": no messages (" not in problem]
    return Verdict(path, tuple(problems), depth, frames, provenance.task or "", provenance.success)


def check_all(paths: list[Path], workers: int) -> Iterator[Verdict]:
    """Checks bags with several processes, in any order.

    A process that dies (it may run out of memory over a damaged bag) fails the bags that nobody else could check; they
    are checked again one by one, each in a process of its own, so that only the culprit is reported.
    """
    if workers == 1 or len(paths) == 1:
        yield from map(check, paths)
        return
    left = set(paths)
    with ProcessPoolExecutor(min(workers, len(paths)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(check, path) for path in paths]):
            try:
                verdict = future.result()
            except BrokenProcessPool:
                continue
            left.discard(verdict.path)
            yield verdict
    for path in sorted(left):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                yield pool.submit(check, path).result()
            except BrokenProcessPool:
                yield Verdict(path, ("the process that read this bag has died: it is damaged, or memory is short",))


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{value} isn't positive")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code is 1 where an episode has a fault."""
    arguments = parser("Check that bags are complete, readable episodes.", EXAMPLES)
    arguments.add_argument("path", type=Path, help="an episode bag, or a folder of them (with its failed attempts)")
    arguments.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    arguments.add_argument("-v", "--verbose", action="store_true", help="print a line for every bag")
    options = arguments.parse_args(argv)

    from realdiff_core.episode import list_episodes, natural_key

    episodes = list_episodes(options.path)
    if (options.path / _FAILED).is_dir():
        bags = [item.parent for item in (options.path / _FAILED).glob("*/metadata.yaml")]
        episodes += sorted(bags, key=natural_key)
    verdicts = {}
    with progress("checking", len(episodes), "episodes") as bar:
        for verdict in check_all(episodes, options.workers):
            verdicts[verdict.path] = verdict
            bar.advance()
    ordered = [verdicts[path] for path in episodes]
    for verdict in ordered:
        if verdict.problems or options.verbose or len(ordered) == 1:
            count = len(verdict.problems)
            state = "ok" if not count else f"{count} problem{'s' if count > 1 else ''}"
            print(f"{verdict.path}: {state} ({verdict.depth or 'unreadable'})")
            for problem in verdict.problems:
                print(f"  {problem}")
    if len(ordered) > 1:
        print(_table(ordered))
    return int(any(verdict.problems for verdict in ordered))


def _table(verdicts: list[Verdict]) -> str:
    """One line a task, and their sum."""
    header = ("task", "bags", "faulty", "successes", "failures", "images")
    rows = [_row(task, [v for v in verdicts if v.task == task]) for task in sorted({v.task for v in verdicts})]
    if len(rows) > 1:
        rows.append(_row("all", verdicts))
    cells = [header, *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def _row(name: str, verdicts: list[Verdict]) -> tuple[str, ...]:
    counts = (
        len(verdicts),
        sum(bool(verdict.problems) for verdict in verdicts),
        sum(verdict.success is True for verdict in verdicts),
        sum(verdict.success is False for verdict in verdicts),
        sum(verdict.frames for verdict in verdicts),
    )
    return (name or "(unknown)", *map(str, counts))


def cli() -> None:
    """Entry point of ``ros2 run realdiff_core validate``."""
    run_command(main)
