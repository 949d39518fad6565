"""Worker processes on this machine: each builds its own simulator and records one attempt after another."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from realdiff_core.errors import RealdiffError

from realdiff_sim_bridge.recording.plan import RecordingPlan
from realdiff_sim_bridge.recording.workers import Job, Report, perform

ONE_THREAD = dict.fromkeys(("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of a worker: software rendering and linear algebra keep to one core, for each core has a worker."""

_PR_SET_PDEATHSIG = 1


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
    """

    def __init__(self, plan: RecordingPlan, size: int) -> None:
        """Starts nothing yet: processes start with the first jobs."""
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
        connection = wait(list(busy))[0]  # also ready when the other end is closed, which death does
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
    _die_with(leader)
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


def _die_with(leader: int) -> None:
    """Ends this process when the leading one is killed: nobody would use what it records (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leader:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)


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
