"""Workers for independent jobs: processes of this machine; a Ray cluster is in `realdiff_core.ray_workers`.

A plan says how a worker gets ready (loads a model, opens a simulator) and does a job. A worker that dies costs its job
alone: `run_jobs` gives it to another one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from realdiff_core.errors import RealdiffError
from realdiff_core.processes import end_with

__all__ = [
    "ONE_THREAD",
    "POLL_S",
    "DefectError",
    "LocalWorkers",
    "Plan",
    "Report",
    "StoppedError",
    "Workers",
    "perform",
    "run_jobs",
]

ONE_THREAD = dict.fromkeys(("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of a worker that has one core for itself."""

POLL_S = 0.2
"""Time between looks whether work is to stop, where somebody can stop it."""


class Plan(Protocol):
    """What workers do; picklable."""

    def build(self) -> Callable[[Any], Any]:
        """Gets a worker ready, once: returns what does a job (picklable) and returns its result (picklable)."""
        ...


@dataclass(frozen=True)
class Report:
    """What became of a job: a result, an error, or a lost worker.

    Attributes:
        job: The job.
        result: What it returned.
        error: Why it can't be done.
        lost: How the worker died that had it; empty if it didn't.
    """

    job: Any
    result: Any = None
    error: Exception | None = None
    lost: str = ""


class StoppedError(Exception):
    """Somebody has asked for the end of the work."""


class DefectError(RuntimeError):
    """An exception that nobody expected, raised in a worker; its text is the worker's traceback."""


class Workers(Protocol):
    """Workers for one plan. Jobs are reported in any order."""

    size: int

    def submit(self, job: Any) -> None:
        """Gives a job to a free worker; at most `size` jobs may be under way."""
        ...

    def wait(self) -> Report:
        """Waits for the next report on a submitted job.

        Raises:
            StoppedError: The work is to stop; nothing more will be reported.
        """
        ...

    def close(self) -> None:
        """Stops all workers at once, whatever they do."""
        ...


def perform(work: Callable[[Any], Any], job: Any) -> Report:
    """Does a job and reports every error, so that it can travel to the process that leads."""
    try:
        return Report(job, result=work(job))
    except (RealdiffError, OSError) as error:
        return Report(job, error=error)
    except Exception:  # a defect: its traceback would otherwise stay in the worker
        return Report(job, error=DefectError(traceback.format_exc()))


def run_jobs(
    workers: Workers, jobs: Iterable[Any], retry: Callable[[Any], Any] = lambda job: job, attempts: int = 3
) -> Iterator[Report]:
    """Lets workers do all jobs and closes them.

    Args:
        workers: The workers.
        jobs: The jobs; begun in this order.
        retry: What is submitted in place of a job whose worker died.
        attempts: How often a job is begun at most.

    Yields:
        One report a job: done, impossible, or (after `attempts` workers died of it) lost.
    """
    waiting = [(job, 1) for job in jobs]
    waiting.reverse()
    running: dict[int, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers.size:
                job, attempt = waiting.pop()
                running[id(job)] = attempt
                workers.submit(job)
            report = workers.wait()
            attempt = running.pop(id(report.job))
            if report.lost and attempt < attempts:
                waiting.append((retry(report.job), attempt + 1))
            else:
                yield report
    finally:
        workers.close()


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    place: int
    job: Any = field(default=None)


class LocalWorkers:
    """Processes of this machine; see `Workers`.

    Args:
        plan: What they do.
        size: Their number.
        environments: Environment variables of each (e.g. its GPU, out of those that the user has chosen); numbers of
            threads that the user has set stay. By default one thread each.
        stopped: Asked several times a second whether the work is to stop.
    """

    def __init__(
        self,
        plan: Plan,
        size: int,
        environments: Sequence[Mapping[str, str]] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        """Starts nothing yet: processes start with the first jobs."""
        self.size = size
        self._stopped = stopped
        self._plan = plan
        self._environments = environments or [ONE_THREAD] * size
        self._workers: list[_Worker] = []

    def submit(self, job: Any) -> None:
        """Gives a job to a free process, or to a new one."""
        worker = next((worker for worker in self._workers if worker.job is None), None) or self._start()
        worker.job = job
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died while idle; `wait` finds out
            worker.connection.send(job)

    def wait(self) -> Report:
        """Waits for a result, or for a process to die."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        # A connection is also ready when its other end is closed, which death does.
        ready: list[object] = []
        while not ready:
            if self._stopped is not None and self._stopped():
                raise StoppedError
            ready = list(wait(list(busy), None if self._stopped is None else POLL_S))
        connection = ready[0]
        assert isinstance(connection, Connection)
        worker = busy[connection]
        job, worker.job = worker.job, None
        try:
            report: Report = connection.recv()
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            worker.process.join()
            connection.close()
            return Report(job, lost=_cause(worker.process.exitcode))
        return Report(job, report.result, report.error)

    def close(self) -> None:
        """Kills the processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # neither OpenGL nor CUDA survives a fork
        ours, theirs = context.Pipe()
        place = min(set(range(self.size)) - {worker.place for worker in self._workers})
        process = context.Process(target=_work, args=(theirs, self._plan, os.getpid()), daemon=True)
        with _environment(self._environments[place]):
            process.start()
        theirs.close()
        worker = _Worker(process, ours, place)
        self._workers.append(worker)
        return worker


def _work(connection: Connection, plan: Plan, leader: int) -> None:
    """What a worker process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the leader decides
    end_with(leader)  # nobody would use what it makes
    work: Callable[[Any], Any] | None = None
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if work is None:
            try:
                work = plan.build()
            except (RealdiffError, OSError) as error:
                connection.send(Report(None, error=error))
                continue
            except Exception:  # a defect, as in `perform`
                connection.send(Report(None, error=DefectError(traceback.format_exc())))
                continue
        report = perform(work, job)
        connection.send(Report(None, report.result, report.error))


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started in the body; numbers of threads that the user has set stay."""
    values = {name: value for name, value in values.items() if name not in ONE_THREAD or name not in os.environ}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
