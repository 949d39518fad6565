"""Who records: this process itself, or the workers of `realdiff_core.worker_pool` and `ray_workers`; one protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.worker_pool import Report, perform

if TYPE_CHECKING:
    from realdiff_sim_bridge.recorder import EpisodeResult, Recorder
    from realdiff_sim_bridge.recording.plan import RecordingPlan


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


def record(recorder: Recorder, job: Job, on_frame: Callable[[], None] | None = None) -> EpisodeResult:
    """Records one attempt."""
    return recorder.record(job.bag, job.seed, job.index, on_frame, job.thumbnail)


@dataclass(frozen=True)
class RecordingWork:
    """What a worker does, for `realdiff_core.worker_pool`: it builds the plan's recorder once and records with it.

    Attributes:
        plan: What to record.
    """

    plan: RecordingPlan

    def build(self) -> Callable[[Job], EpisodeResult]:
        """Builds simulator and motion source."""
        return partial(record, self.plan.build())


class InlineWorkers:
    """This process records by itself, one attempt after the other; see `worker_pool.Workers`.

    Args:
        recorder: Plays and records; it isn't closed here.
        on_frame: Called after every camera frame.
    """

    size = 1

    def __init__(self, recorder: Recorder, on_frame: Callable[[], None] | None = None) -> None:
        """Starts with nothing to do."""
        self._record = partial(record, recorder, on_frame=on_frame)
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        """Notes a job."""
        self._jobs.append(job)

    def wait(self) -> Report:
        """Records the oldest job."""
        return perform(self._record, self._jobs.pop(0))

    def close(self) -> None:
        """Forgets the jobs."""
        self._jobs.clear()
