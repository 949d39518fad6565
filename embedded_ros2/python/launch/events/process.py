"""Events of processes."""

from __future__ import annotations

import signal as signal_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._gaps import module_gaps
from ..event import Event

if TYPE_CHECKING:
    from ..actions import ExecuteProcess

__getattr__ = module_gaps("launch.events.process", ("ProcessStdin",))


class RunningProcessEvent(Event):
    """Something happened to a process."""

    name = "launch.events.process.RunningProcessEvent"

    def __init__(
        self,
        *,
        action: ExecuteProcess,
        name: str,
        cmd: list[str],
        cwd: str | None,
        env: dict[str, str] | None,
        pid: int,
    ) -> None:
        """Describe the process.

        Args:
            action: Action that started it.
            name: Label of the process, as in the output.
            cmd: Command.
            cwd: Its working directory, None for the launch's own.
            env: Its environment.
            pid: Its process id.
        """
        self.action = action
        self.execute_process_action = action
        self.process_name = name
        self.cmd = cmd
        self.cwd = cwd
        self.env = env
        self.pid = pid


class ProcessStarted(RunningProcessEvent):
    """A process runs."""

    name = "launch.events.process.ProcessStarted"


class ProcessExited(RunningProcessEvent):
    """A process has ended."""

    name = "launch.events.process.ProcessExited"

    def __init__(self, *, returncode: int, **kwargs: Any) -> None:
        """Keep the exit code, negative for a signal."""
        super().__init__(**kwargs)
        self.returncode = returncode


class ProcessIO(RunningProcessEvent):
    """A process wrote something."""

    name = "launch.events.process.ProcessIO"

    def __init__(self, *, text: bytes, fd: int, **kwargs: Any) -> None:
        """Keep what was written.

        Args:
            text: Bytes as they came, not necessarily whole lines.
            fd: 1 for stdout, 2 for stderr.
            **kwargs: Description of the process.
        """
        super().__init__(**kwargs)
        self.text = text
        self.fd = fd

    @property
    def from_stdin(self) -> bool:
        """Whether it came from stdin: never, this runner writes none."""
        return self.fd == 0

    @property
    def from_stdout(self) -> bool:
        """Whether it came from stdout."""
        return self.fd == 1

    @property
    def from_stderr(self) -> bool:
        """Whether it came from stderr."""
        return self.fd == 2


class ProcessStdout(ProcessIO):
    """A process wrote to stdout."""

    name = "launch.events.process.ProcessStdout"

    def __init__(self, *, text: bytes, **kwargs: Any) -> None:
        """Keep what was written."""
        super().__init__(text=text, fd=1, **kwargs)


class ProcessStderr(ProcessIO):
    """A process wrote to stderr."""

    name = "launch.events.process.ProcessStderr"

    def __init__(self, *, text: bytes, **kwargs: Any) -> None:
        """Keep what was written."""
        super().__init__(text=text, fd=2, **kwargs)


class ProcessTargetedEvent(Event):
    """Something is wanted of some processes."""

    name = "launch.events.process.ProcessTargetedEvent"

    def __init__(self, *, process_matcher: Callable[[ExecuteProcess], bool]) -> None:
        """Keep the matcher that says which processes are meant."""
        self.process_matcher = process_matcher


class ShutdownProcess(ProcessTargetedEvent):
    """Processes are to end: SIGINT, then SIGTERM, then SIGKILL."""

    name = "launch.events.process.ShutdownProcess"


class SignalProcess(ProcessTargetedEvent):
    """Processes are to get a signal."""

    name = "launch.events.process.SignalProcess"

    def __init__(
        self,
        *,
        signal_number: str | signal_module.Signals,
        process_matcher: Callable[[ExecuteProcess], bool],
    ) -> None:
        """Keep the signal, given as a name ('SIGINT') or a member of signal.Signals."""
        super().__init__(process_matcher=process_matcher)
        if not isinstance(signal_number, (str, signal_module.Signals)):
            raise TypeError(f"'SignalProcess' expected a signal or its name, but got {signal_number!r}")
        self.signal = signal_number

    @property
    def signal_name(self) -> str:
        """Name of the signal."""
        return self.signal if isinstance(self.signal, str) else self.signal.name


def matches_pid(pid: int) -> Callable[[ExecuteProcess], bool]:
    """Return a matcher for the process with this id."""
    return lambda action: (action.process_details or {}).get("pid") == pid


def matches_name(name: str) -> Callable[[ExecuteProcess], bool]:
    """Return a matcher for the process with this label."""
    return lambda action: (action.process_details or {}).get("name") == name


def matches_executable(executable: str) -> Callable[[ExecuteProcess], bool]:
    """Return a matcher for processes whose executable ends with this text."""
    return lambda action: action.process_details is not None and action.process_details["cmd"][0].endswith(executable)
