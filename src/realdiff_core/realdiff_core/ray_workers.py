"""Workers on a Ray cluster: the same jobs on as many machines as share the folders that the jobs name."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from realdiff_core.errors import RealdiffError
from realdiff_core.worker_pool import ONE_THREAD, POLL_S, DefectError, Plan, Report, StoppedError, perform

__all__ = ["RayWorkers"]

_PASSED_ON = (
    "PYTHONPATH", "AMENT_PREFIX_PATH", "REALDIFF_CONFIG_DIR", "XDG_CONFIG_HOME", "MUJOCO_GL", "PYOPENGL_PLATFORM",
)  # fmt: skip


class RayWorkers:
    """Workers on a Ray cluster; see `worker_pool.Workers`.

    Args:
        plan: What they do.
        address: The cluster's address, as for `ray.init`.
        size: Their number; by default as many as the cluster has CPUs (or GPUs).
        gpus: GPUs of each worker; each also takes one CPU.
        stopped: Asked several times a second whether the work is to stop.

    Raises:
        RealdiffError: Ray isn't installed, or no cluster answers there.
    """

    def __init__(
        self,
        plan: Plan,
        address: str,
        size: int | None = None,
        gpus: float = 0.0,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        """Connects; workers start with the first jobs."""
        try:
            import ray
        except ImportError:
            raise RealdiffError(
                "working on a Ray cluster needs Ray",
                next_step="pip install -r requirements/ray.txt, or leave out --ray",
            ) from None
        self._ray = ray
        self._stopped = stopped
        self._plan, self._gpus = plan, gpus
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Any]] = {}
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _unreachable(address, error) from error
        resources = ray.cluster_resources()
        self.size = size or max(1, int(resources.get("GPU", 1) / gpus if gpus else resources.get("CPU", 1)))

    def submit(self, job: Any) -> None:
        """Gives a job to a free worker, or to a new one."""
        actor = self._idle.pop() if self._idle else self._start()
        self._busy[actor.perform.remote(job)] = (actor, job)

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
        except self._ray.exceptions.RayTaskError as error:
            return Report(job, error=DefectError(str(error)))
        self._idle.append(actor)
        return Report(job, report.result, report.error)

    def close(self) -> None:
        """Stops the workers and leaves the cluster."""
        for actor in (*self._idle, *(actor for actor, _ in self._busy.values())):
            self._ray.kill(actor)
        self._idle.clear()
        self._busy.clear()
        self._ray.shutdown()

    def _start(self) -> Any:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | ONE_THREAD
        # A dead worker isn't restarted by Ray: the job that it had must be submitted again.
        actor = self._ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(_Actor)
        return actor.options(runtime_env={"env_vars": environment}).remote(self._plan)


class _Actor:
    """Lives in a process of the cluster; gets ready with the first job."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._work: Any = None

    def perform(self, job: Any) -> Report:
        if self._work is None:
            try:
                self._work = self._plan.build()
            except (RealdiffError, OSError) as error:
                return Report(None, error=error)
        report = perform(self._work, job)
        return Report(None, report.result, report.error)


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
