"""A recording from beginning to end, for the commands and for the node: workers, count, index page."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.ray_workers import RayWorkers
from realdiff_core.worker_pool import LocalWorkers, Workers

from realdiff_sim_bridge.recording.folder import Attempt, record_with
from realdiff_sim_bridge.recording.index_page import write_index
from realdiff_sim_bridge.recording.plan import RecordingPlan
from realdiff_sim_bridge.recording.workers import InlineWorkers, RecordingWork

if TYPE_CHECKING:
    from realdiff_core.provenance import BagProvenance

    from realdiff_sim_bridge.recorder import Recorder


@dataclass(frozen=True)
class Request:
    """How much to record, where, and with what.

    Attributes:
        output: Folder of the bags.
        episodes: Number of successful episodes wanted.
        seed: Attempt k is reset with seed + k.
        resume: Keep the episodes that are there already and go on after them.
        workers: Processes that record at the same time.
        ray: Address of the Ray cluster that they run on; None: this machine.
    """

    output: Path
    episodes: int
    seed: int
    resume: bool = False
    workers: int = 1
    ray: str | None = None


class Tally:
    """Counts attempts; its text says how far the recording is and when it will end.

    Args:
        wanted: Number of successful episodes wanted.
    """

    def __init__(self, wanted: int) -> None:
        """Starts the clock."""
        self.wanted = wanted
        self.done = self.attempts = self._recorded = 0
        self._began = time.monotonic()

    def count(self, attempt: Attempt) -> None:
        """Counts one."""
        self.attempts += 1
        self.done += int(attempt.success)
        self._recorded += int(attempt.success and not attempt.resumed)

    @property
    def failed(self) -> int:
        """Attempts that failed."""
        return self.attempts - self.done

    @property
    def share(self) -> float:
        """Share of successes; 0 before the first attempt."""
        return self.done / self.attempts if self.attempts else 0.0

    @property
    def rate(self) -> float | None:
        """Episodes recorded per hour; None before the first."""
        return self._recorded * 3600 / (time.monotonic() - self._began) if self._recorded else None

    @property
    def left_s(self) -> float | None:
        """Estimated time to the end [s]; None before the first recorded success."""
        return (self.wanted - self.done) * 3600 / self.rate if self.rate else None

    def __str__(self) -> str:
        """Returns the standing, as "3/10, 75% succeed, 20 s left"."""
        text = f"{self.done}/{self.wanted}, {self.share:.0%} succeed"
        if self.left_s:
            text += f", {self.left_s / 60:.0f} min left" if self.left_s > 90 else f", {self.left_s:.0f} s left"
        return text


def run(
    plan: RecordingPlan,
    request: Request,
    on_attempt: Callable[[Attempt, Tally], None],
    stopped: Callable[[], bool] | None = None,
) -> tuple[Tally, Path]:
    """Records until there are as many successful episodes as wanted, and writes the index page.

    Args:
        plan: What to record.
        request: How much, and where.
        on_attempt: Called with every finished attempt.
        stopped: Asked several times a second whether to stop; the recording has processes of its own then, even if only
            one, so that it can be stopped in the middle of an attempt.

    Returns:
        The final count and the path of the index page.

    Raises:
        StoppedError: `stopped` said so; finished episodes stay.
        RealdiffError: As `record_with`.
    """
    leader = _Leader(plan)
    workers = _workers(leader, request, stopped)
    tally = Tally(request.episodes)
    try:
        attempts = record_with(
            workers, request.output, task=plan.task.name, expected=leader.provenance, episodes=request.episodes,
            seed=request.seed, resume=request.resume,
        )  # fmt: skip
        with closing(attempts):
            for attempt in attempts:
                tally.count(attempt)
                on_attempt(attempt, tally)
    except BaseException:  # also Ctrl-C: the page shows what there is, and what has ended the recording goes on
        if tally.attempts:
            with suppress(OSError):  # the disk may be full: that error is under way already
                write_index(request.output)
        raise
    finally:
        workers.close()
        leader.close()
    return tally, write_index(request.output)


class _Leader:
    """The leading process needs a recorder only to record by itself, or to judge bags that are there already."""

    def __init__(self, plan: RecordingPlan) -> None:
        self.plan = plan
        self._recorder: Recorder | None = None

    def recorder(self) -> Recorder:
        self._recorder = self._recorder or self.plan.build()
        return self._recorder

    def provenance(self, seed: int, success: bool | None) -> BagProvenance:
        return self.recorder().provenance(seed, success)

    def close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()


def _workers(leader: _Leader, request: Request, stopped: Callable[[], bool] | None) -> Workers:
    if request.ray is not None:
        return RayWorkers(RecordingWork(leader.plan), request.ray, request.workers, stopped=stopped)
    if request.workers > 1 or stopped is not None:
        return LocalWorkers(RecordingWork(leader.plan), request.workers, stopped=stopped)
    return InlineWorkers(leader.recorder())
