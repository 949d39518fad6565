"""A policy in a process of its own: asked without waiting, watched, and started again when it dies or hangs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection

from realdiff_core.errors import ConfigError

from realdiff_policy.contract import Observation, PolicyContract
from realdiff_policy.runtime.inference import InferenceResult
from realdiff_policy.safety.reasons import Fault, Reason

DEFAULT_LOADER = "realdiff_policy.bundle:load_bundle"

_HUNG_S = 10.0
"""A request that nobody waits for any more, and that is still not answered after this time, means a hung policy."""

_RESTART_S = 1.0
_LOAD_TIMEOUT_S = 120.0


class ProcessInference:
    """Asks a policy in another process.

    Args:
        bundle: The policy's bundle.
        device: "auto", "cpu" or "cuda".
        loader: "module:function" that loads it.
    """

    def __init__(self, bundle: str, device: str = "auto", loader: str = DEFAULT_LOADER) -> None:
        """Starts the process and waits until the policy is loaded.

        Raises:
            ConfigError: The policy can't be loaded.
        """
        self._arguments = (loader, bundle, device)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._asked_s = 0.0
        self._stamp_ns = 0
        self._awaited: int | None = None
        self._busy = False
        self._ready = False
        self._ended = ""
        self._start()
        self.contract = self._wait_until_loaded()

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        return self._process.pid if self._process is not None else None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "realdiff_policy.runtime.worker", str(theirs.fileno()), *self._arguments]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._connection = Connection(ours.detach())
        self._started_s = time.monotonic()
        self._awaited, self._busy, self._ready = None, False, False

    def _wait_until_loaded(self) -> PolicyContract:
        assert self._connection is not None
        try:
            if not self._connection.poll(_LOAD_TIMEOUT_S):
                raise ConfigError(f"the policy isn't loaded after {_LOAD_TIMEOUT_S:.0f} s", where=self._arguments[1])
            kind, text = self._connection.recv()
        except (EOFError, ConnectionResetError):
            kind, text = "failed", f"its process ended while it was being loaded{self._exit_code()}"
        except ConfigError:
            self.close()
            raise
        if kind != "ready":
            self.close()
            raise ConfigError("the policy can't be loaded", where=self._arguments[1], got=text)
        self._ready = True
        return PolicyContract.model_validate_json(text)

    def _exit_code(self) -> str:
        if self._process is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=1.0)
            return f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return ""

    def submit(self, observation: Observation, seed: int) -> None:
        """Sends a request."""
        assert self._connection is not None
        self._number += 1
        self._awaited, self._busy = self._number, True
        self._asked_s, self._stamp_ns = time.monotonic(), observation.stamp_ns
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `problem` will find the process ended
            self._connection.send((self._number, observation, seed))

    def poll(self) -> InferenceResult | None:
        """Returns the answer to the last request if it has come and hasn't been given up."""
        if not self._ready or self._connection is None:
            return None
        try:
            while self._connection.poll():
                number, actions, error, duration_s = self._connection.recv()
                self._busy = self._busy and number != self._number
                if number == self._awaited:
                    self._awaited = None
                    return InferenceResult(self._stamp_ns, actions, error, duration_s)
        except (EOFError, ConnectionResetError):
            self._lost()
        return None

    def forget(self) -> None:
        """Gives the request up; its answer will be dropped when it comes."""
        self._awaited = None

    def problem(self) -> Fault | None:
        """Looks after the process: restarts it when it has ended, kills it when it hangs."""
        if self._process is None:
            if time.monotonic() - self._started_s > _RESTART_S:
                self._start()
            return self._dead("it is being started again")
        if self._process.poll() is not None:
            self._lost()
            return self._dead("it will be started again")
        if not self._ready:
            self._see_whether_loaded()
            return None if self._ready else self._dead("it is being loaded again")
        if self._busy and self._awaited is None:
            self.poll()
            waited = time.monotonic() - self._asked_s
            if self._busy and waited > _HUNG_S:
                self._process.kill()
            if self._busy:
                return Fault(Reason.POLICY_SILENT, f"the policy has been at one request for {waited:.1f} s")
        return None

    def _dead(self, what_next: str) -> Fault:
        return Fault(Reason.POLICY_DEAD, f"the policy's process has ended{self._ended}; {what_next}")

    def _see_whether_loaded(self) -> None:
        assert self._connection is not None
        with contextlib.suppress(EOFError, ConnectionResetError):
            if self._connection.poll():
                kind, text = self._connection.recv()
                self._ready = kind == "ready"
                self._ended = "" if self._ready else f" ({text})"

    def _lost(self) -> None:
        """The process has gone: frees what it leaves; `problem` starts the next one."""
        if self._process is not None and self._connection is not None:
            if self._ready:
                self._ended = self._exit_code()
            self._process.kill()
            self._process.wait()
            self._connection.close()
        self._process = self._connection = None
        self._awaited, self._busy, self._ready = None, False, False

    def close(self) -> None:
        """Ends the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._connection = None
        self._ready = False
