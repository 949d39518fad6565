"""Who records: this process itself, a pool of processes (`pool`) or a Ray cluster (`ray_pool`), behind one protocol."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from realdiff_core.errors import RealdiffError

if TYPE_CHECKING:
    from realdiff_sim_bridge.recorder import EpisodeResult, Recorder


POLL_S = 0.2
"""Time between looks whether a recording is to stop, where it can be stopped."""


@dataclass(frozen=True)
class Job:
    """One attempt to record.

    Attributes:
        index: Its number.
        seed: Seed of its reset.
        bag: The bag to make.
        thumbnail: The small picture to make.
    """

    index: int
    seed: int
    bag: Path
    thumbnail: Path


@dataclass(frozen=True)
class Report:
    """What became of a job: exactly one of result, error and lost is set.

    Attributes:
        job: The job.
        result: It was played to its end, with or without success.
        error: It can't be recorded, and no other attempt could (no space, no OpenGL, a defect).
        lost: How the worker died that had it; the job may be submitted again.
    """

    job: Job
    result: EpisodeResult | None = None
    error: Exception | None = None
    lost: str = ""


class Workers(Protocol):
    """Recorders that work at the same time. Jobs are reported in any order."""

    size: int

    def submit(self, job: Job) -> None:
        """Gives a job to a free worker; at most `size` jobs may be under way."""
        ...

    def wait(self) -> Report:
        """Waits for the next report on a submitted job.

        Raises:
            StoppedError: The recording is to stop; nothing more will be reported.
        """
        ...

    def close(self) -> None:
        """Stops all workers at once, whatever they do."""
        ...


class StoppedError(Exception):
    """Somebody has asked for the end of a recording."""


class DefectError(RuntimeError):
    """An exception that nobody expected, raised in a worker; its text is the worker's traceback."""


def perform(recorder: Recorder, job: Job, on_frame: Callable[[], None] | None = None) -> Report:
    """Records one attempt and reports every error, so that it can travel to the process that leads."""
    try:
        result = recorder.record(job.bag, job.seed, job.index, on_frame, job.thumbnail)
    except (RealdiffError, OSError) as error:
        return Report(job, error=error)
    except Exception:  # a defect: its traceback would otherwise stay in the worker
        return Report(job, error=DefectError(traceback.format_exc()))
    return Report(job, result=result)


class InlineWorkers:
    """This process records by itself, one attempt after the other.

    Args:
        recorder: Plays and records; it isn't closed here.
        on_frame: Called after every camera frame.
    """

    size = 1

    def __init__(self, recorder: Recorder, on_frame: Callable[[], None] | None = None) -> None:
        """Starts with nothing to do."""
        self._recorder, self._on_frame = recorder, on_frame
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        """Notes a job."""
        self._jobs.append(job)

    def wait(self) -> Report:
        """Records the oldest job."""
        return perform(self._recorder, self._jobs.pop(0), self._on_frame)

    def close(self) -> None:
        """Forgets the jobs."""
        self._jobs.clear()
