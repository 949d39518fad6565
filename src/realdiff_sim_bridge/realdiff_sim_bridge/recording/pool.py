"""Worker processes on this machine: each builds its own simulator and records one attempt after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from realdiff_core.errors import RealdiffError
from realdiff_core.processes import end_with

from realdiff_sim_bridge.recording.plan import RecordingPlan
from realdiff_sim_bridge.recording.workers import POLL_S, Job, Report, StoppedError, perform

ONE_THREAD = dict.fromkeys(("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of a worker: software rendering and linear algebra keep to one core, for each core has a worker."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None


class LocalPool:
    """Records with several processes; see `recording.workers.Workers`.

    Args:
        plan: What to record.
        size: Number of processes.
        stopped: Asked several times a second whether the recording is to stop.
    """

    def __init__(self, plan: RecordingPlan, size: int, stopped: Callable[[], bool] | None = None) -> None:
        """Starts nothing yet: processes start with the first jobs."""
        self._stopped = stopped
        self.size = size
        self._plan = plan
        self._workers: list[_Worker] = []

    def submit(self, job: Job) -> None:
        """Gives a job to a free process, or to a new one."""
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = self._start()
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
        assert job is not None
        try:
            report: Report = connection.recv()
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            worker.process.join()
            connection.close()
            return Report(job, lost=_cause(worker.process.exitcode))
        return report

    def close(self) -> None:
        """Kills the processes; what they were writing lies in the folder for unfinished bags."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # OpenGL contexts don't survive a fork
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._plan, os.getpid()), daemon=True)
        with _environment(ONE_THREAD):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


def _work(connection: Connection, plan: RecordingPlan, leader: int) -> None:
    """What a worker process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the leader decides
    end_with(leader)  # nobody would use what it records
    recorder = None
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        try:
            recorder = recorder or plan.build()
        except (RealdiffError, OSError) as error:
            connection.send(Report(job, error=error))
            return
        connection.send(perform(recorder, job))


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started in the body; what the user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
