"""Workers on a Ray cluster: the same attempts on as many machines as share the output folder."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from realdiff_core.errors import RealdiffError

from realdiff_sim_bridge.recording.plan import RecordingPlan
from realdiff_sim_bridge.recording.pool import ONE_THREAD
from realdiff_sim_bridge.recording.workers import POLL_S, Job, Report, StoppedError, perform

_PASSED_ON = ("PYTHONPATH", "AMENT_PREFIX_PATH", "MUJOCO_GL", "PYOPENGL_PLATFORM", "REALDIFF_CONFIG_DIR")


class RayPool:
    """Records on a Ray cluster; see `recording.workers.Workers`.

    Args:
        plan: What to record.
        address: The cluster's address, as for `ray.init`.
        size: Number of workers; each takes one CPU of the cluster.
        stopped: Asked several times a second whether the recording is to stop.

    Raises:
        RealdiffError: Ray isn't installed, or no cluster answers there.
    """

    def __init__(self, plan: RecordingPlan, address: str, size: int, stopped: Callable[[], bool] | None = None) -> None:
        """Connects; workers start with the first jobs."""
        try:
            import ray
        except ImportError:
            raise RealdiffError(
                "recording on a Ray cluster needs Ray",
                next_step="pip install -r requirements/ray.txt, or record without --ray",
            ) from None
        self._ray = ray
        self._stopped = stopped
        self.size = size
        self._plan = plan
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _unreachable(address, error) from error

    def submit(self, job: Job) -> None:
        """Gives a job to a free worker, or to a new one."""
        actor = self._idle.pop() if self._idle else self._start()
        self._busy[actor.record.remote(job)] = (actor, job)

    def wait(self) -> Report:
        """Waits for a result, or for a worker to die."""
        ready: list[Any] = []
        while not ready:
            if self._stopped is not None and self._stopped():
                raise StoppedError
            timeout_s = None if self._stopped is None else POLL_S
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=timeout_s)
        done = ready[0]
        actor, job = self._busy.pop(done)
        try:
            report: Report = self._ray.get(done)
        except self._ray.exceptions.RayActorError as error:
            return Report(job, lost=str(error).splitlines()[0])
        self._idle.append(actor)
        if report.result is not None and not job.bag.is_dir():
            error_ = RealdiffError(
                "a worker has recorded into a folder that isn't visible here",
                where=job.bag,
                next_step="let -o name a folder on a file system that all machines of the cluster share",
            )
            return Report(job, error=error_)
        return report

    def close(self) -> None:
        """Stops the workers and leaves the cluster."""
        for actor in (*self._idle, *(actor for actor, _ in self._busy.values())):
            self._ray.kill(actor)
        self._idle.clear()
        self._busy.clear()
        self._ray.shutdown()

    def _start(self) -> Any:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | ONE_THREAD
        # A dead worker isn't restarted by Ray: the attempt that it had must be submitted again.
        actor = self._ray.remote(num_cpus=1, max_restarts=0)(_RecordingActor)
        return actor.options(runtime_env={"env_vars": environment}).remote(self._plan)


def _check_reachable(address: str) -> None:
    """Knocks at an address of the form host:port or ray://host:port; Ray itself would knock for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto" or "local", or for Ray to judge
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> RealdiffError:
    return RealdiffError(
        "no Ray cluster can be reached",
        where=address,
        got=str(error).splitlines()[0] if str(error) else type(error).__name__,
        next_step="start one with `ray start --head`, and give the address that it prints",
    )


class _RecordingActor:
    """Lives in a process of the cluster; builds its simulator with the first job."""

    def __init__(self, plan: RecordingPlan) -> None:
        self._plan = plan
        self._recorder: Any = None

    def record(self, job: Job) -> Report:
        try:
            self._recorder = self._recorder or self._plan.build()
        except (RealdiffError, OSError) as error:
            return Report(job, error=error)
        return perform(self._recorder, job)
