"""The folder of a recording: the same episodes whatever recorded them, nothing half-written under a final name.

Layout: `<task>_000000/`, `<task>_000001/`, … for successful episodes and `failed/<task>_000002/` for the others; the
number is that of the attempt. Attempt k is reset with seed + k, so an episode depends only on its number and the
settings, never on what was recorded before it. The recording consists of the attempts up to the last of the wanted
successes. Workers finish them in any order, but they get their final names in the order of their numbers, and what was
begun beyond the last is thrown away: the folder never holds anything but what a single process would have put there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.bag import BagReader
from realdiff_core.errors import ConfigError, OutputError, RealdiffError
from realdiff_core.provenance import BagProvenance
from realdiff_core.seeds import FIRST_TRIAL_SEED
from realdiff_core.worker_pool import Report, Workers

from realdiff_sim_bridge.recording.workers import InlineWorkers, Job

if TYPE_CHECKING:
    from realdiff_sim_bridge.recorder import Recorder

FAILED, THUMBNAILS = "failed", ".thumbnails"
_INCOMPLETE, _LOCK = ".incomplete", ".lock"
_DEATHS = 3
"""So often may workers die at the same attempt before the recording is given up."""

Expected = Callable[[int, "bool | None"], BagProvenance]
"""The provenance that an episode of this recording must have, by seed and success."""


@dataclass(frozen=True)
class Attempt:
    """A finished attempt.

    Attributes:
        index: Its number, from 0.
        path: The bag.
        success: The task was done in time.
        resumed: The bag was there already.
        reason: Why it failed, where more is known than that the time was up.
    """

    index: int
    path: Path
    success: bool
    resumed: bool = False
    reason: str = ""


def record_episodes(
    recorder: Recorder,
    output: Path,
    *,
    episodes: int,
    seed: int,
    resume: bool = False,
    on_frame: Callable[[], None] | None = None,
) -> Generator[Attempt, None, None]:
    """Records in this process until there are as many successful episodes as wanted; see `record_with`.

    Args:
        recorder: Plays and records.
        output: Folder of the bags; made where it is missing.
        episodes: Number of successful episodes wanted.
        seed: Attempt k is reset with seed + k.
        resume: Keep the episodes that are there already and go on after them.
        on_frame: Called after every camera frame.
    """
    workers = InlineWorkers(recorder, on_frame)
    return record_with(
        workers, output, task=recorder.task.name, expected=recorder.provenance, episodes=episodes, seed=seed,
        resume=resume,
    )  # fmt: skip


def record_with(
    workers: Workers,
    output: Path,
    *,
    task: str,
    expected: Expected,
    episodes: int,
    seed: int,
    resume: bool = False,
) -> Generator[Attempt, None, None]:
    """Records with some workers until there are as many successful episodes as wanted; closes the workers.

    Args:
        workers: They record.
        output: Folder of the bags; made where it is missing.
        task: Name of the task.
        expected: Provenance that bags found in the folder must have.
        episodes: Number of successful episodes wanted.
        seed: Attempt k is reset with seed + k.
        resume: Keep the episodes that are there already and go on after them.

    Yields:
        Every attempt when its bag has its final name, in the order of their numbers; those found already with `resumed`
        set.

    Raises:
        ConfigError: Attempts would be reset with seeds that are kept for trials.
        OutputError: The folder holds episodes of this task already (without `resume`), or episodes of other settings;
            no space is left.
        RealdiffError: Too many attempts have failed (more than twice the wanted episodes and 10), or workers die.
    """
    if seed + 3 * episodes + 10 >= FIRST_TRIAL_SEED:
        raise ConfigError(
            "these seeds are kept for the trials of policies",
            expected=f"a seed well below {FIRST_TRIAL_SEED}",
            got=seed,
            next_step="choose a smaller --seed",
        )
    output = output.absolute()
    with _locked(output):
        found = _existing(output, task)
        if found and not resume:
            raise OutputError(
                "the output folder holds episodes of this task already",
                where=found[min(found)],
                expected="a folder without episodes of this task",
                got=f"{len(found)} of them",
                next_step="go on after them with --resume, or choose another folder",
            )
        shutil.rmtree(output / _INCOMPLETE, ignore_errors=True)
        try:
            yield from _attempts(_Queue(workers, output, task, seed), found, expected, episodes)
        finally:
            workers.close()
            shutil.rmtree(output / _INCOMPLETE, ignore_errors=True)


def _attempts(queue: _Queue, found: dict[int, Path], expected: Expected, episodes: int) -> Iterator[Attempt]:
    successes = failures = index = 0
    while successes < episodes:
        if failures > 2 * episodes + 10:
            raise RealdiffError(
                f"task {queue.task} fails too often",
                got=f"{failures} failures and {successes} successes",
                next_step=f"look at the bags in {queue.output / FAILED}",
            )
        if index in found:
            attempt = _check_found(found[index], index, expected, queue.seed + index)
        else:
            # As many attempts are under way as are needed if all succeed: few are thrown away in the end.
            attempt = queue.take(index, episodes - successes, found)
        successes += int(attempt.success)
        failures += int(not attempt.success)
        index += 1
        yield attempt


class _Queue:
    """Gives out attempts ahead of time and hands them over in the order of their numbers."""

    def __init__(self, workers: Workers, output: Path, task: str, seed: int) -> None:
        self.output, self.task, self.seed = output, task, seed
        self._workers = workers
        self._folder = output / _INCOMPLETE
        self._under_way = 0
        self._next = 0
        self._finished: dict[int, Report] = {}
        self._deaths: dict[int, int] = {}

    def take(self, index: int, wanted: int, found: dict[int, Path]) -> Attempt:
        """Returns attempt `index`, recorded and under its final name.

        Args:
            index: Its number; numbers must be asked for in ascending order.
            wanted: Successes still wanted, this one included.
            found: Attempts that needn't be recorded.
        """
        self._next = max(self._next, index)
        while index not in self._finished:
            hopes = self._under_way + sum(
                report.result is None or report.result.success for report in self._finished.values()
            )
            while self._under_way < self._workers.size and hopes < wanted:
                if self._next not in found:
                    self._submit(self._next)
                    hopes += 1
                self._next += 1
            report = self._workers.wait()
            self._under_way -= 1
            if report.error is not None:
                raise report.error
            if report.lost:
                self._count_death(report)
                self._submit(report.job.index)
            else:
                self._finished[report.job.index] = report
        return self._settle(self._finished.pop(index))

    def _submit(self, index: int) -> None:
        name = self._name(index)
        self._workers.submit(
            Job(index, self.seed + index, self._folder / name, self._folder / THUMBNAILS / f"{name}.jpg")
        )
        self._under_way += 1

    def _name(self, index: int) -> str:
        return f"{self.task}_{index:06d}"

    def _count_death(self, report: Report) -> None:
        index = report.job.index
        self._deaths[index] = self._deaths.get(index, 0) + 1
        if self._deaths[index] >= _DEATHS:
            raise RealdiffError(
                "recording processes keep dying",
                where=f"attempt {index} of task {self.task}",
                got=f"{self._deaths[index]} deaths, the last: {report.lost}",
                next_step="free some memory, or record with fewer --workers; `dmesg` may name the killer",
            )

    def _settle(self, report: Report) -> Attempt:
        """Gives an attempt its final name."""
        job, result = report.job, report.result
        if not job.bag.is_dir():
            raise RealdiffError(
                "a worker has recorded into a folder that isn't visible here",
                where=job.bag,
                next_step="let -o name a folder on a file system that all machines of the cluster share",
            )
        final = self.output / job.bag.name if result.success else self.output / FAILED / job.bag.name
        final.parent.mkdir(parents=True, exist_ok=True)
        if job.thumbnail.exists():
            (self.output / THUMBNAILS).mkdir(exist_ok=True)
            job.thumbnail.rename(self.output / THUMBNAILS / job.thumbnail.name)
        job.bag.rename(final)
        return Attempt(job.index, final, result.success, reason=result.reason)


def _existing(output: Path, task: str) -> dict[int, Path]:
    """Returns the bags of a task by the number of the attempt."""
    found = {}
    for folder in (output, output / FAILED):
        for path in folder.glob(f"{task}_*"):
            number = path.name.removeprefix(f"{task}_")
            if number.isdecimal() and len(number) >= 6 and path.is_dir():
                found[int(number)] = path
    return found


def _check_found(path: Path, index: int, expected: Expected, seed: int) -> Attempt:
    """Checks that a bag which is there already is what would be recorded now."""
    with BagReader(path) as bag:
        provenance = bag.provenance()
    if provenance is None or provenance.success is None:
        raise OutputError(
            "a bag in the output folder isn't a recorded episode",
            where=path,
            expected="provenance with the episode's success",
            got="none",
            next_step="move it away, or choose another folder",
        )
    have, want = _flat(provenance), _flat(expected(seed, provenance.success))
    for key in sorted({*have, *want} - _OUTCOME_NOTES):
        if have.get(key) != want.get(key):
            raise OutputError(
                f"an episode in the output folder was recorded with another {key}",
                where=path,
                expected=want.get(key, "nothing"),
                got=have.get(key, "nothing"),
                next_step="give the same task, seed and settings as before, or choose another folder",
            )
    return Attempt(index, path, provenance.success, resumed=True, reason=provenance.notes.get("failure", ""))


_OUTCOME_NOTES = {"failure", "segments"}
"""Notes that say what happened in one episode; all others say how it was recorded."""


def _flat(provenance: BagProvenance) -> dict[str, object]:
    """What two episodes of one recording have in common, notes beside the other fields."""
    return {**provenance.model_dump(mode="json", exclude={"software", "notes"}), **provenance.notes}


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keeps two recordings out of one folder; the lock goes with the process."""
    if output.exists() and not output.is_dir():
        raise OutputError("the output isn't a folder", where=output, next_step="choose another name")
    output.mkdir(parents=True, exist_ok=True)
    handle = os.open(output / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutputError(
            "another recording writes into this folder",
            where=output,
            next_step="wait for it, or choose another folder",
        ) from None
    try:
        yield
    finally:
        (output / _LOCK).unlink(missing_ok=True)
        os.close(handle)
