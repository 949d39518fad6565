"""A running process of a launch: its pipes, its lines, its signals."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pty
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..events.process import ProcessStderr, ProcessStdout
from ..logging import get_output_loggers

if TYPE_CHECKING:
    from ..launch_context import LaunchContext
    from .execute_process import ExecuteProcess

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_launch() -> None:
    """Have the kernel end this process when the launch is killed: no orphans even then."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _descendants(pid: int) -> Iterator[int]:
    """Yield the processes below a process, the deepest first."""
    try:
        text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return
    for child in text.split():
        yield from _descendants(int(child))
        yield int(child)


class Child:
    """The process of an ExecuteProcess action, through all its starts."""

    def __init__(self, action: ExecuteProcess, output: Any) -> None:
        """Prepare the loggers.

        Args:
            action: The action.
            output: Output configuration.
        """
        assert action.final_name is not None
        self.__action = action
        self.__loggers = dict(zip(("stdout", "stderr"), get_output_loggers(action.final_name, output), strict=True))
        self.__process: asyncio.subprocess.Process | None = None
        self.__readers: list[asyncio.Task[None]] = []
        #: Everything written so far, where the action asks for it.
        self.cached = {"stdout": "", "stderr": ""}

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.__process is not None and self.__process.returncode is None

    async def start(
        self, context: LaunchContext, cmd: list[str], cwd: str | None, env: dict[str, str], tty: bool
    ) -> int:
        """Start it.

        Args:
            context: Where output events go.
            cmd: Command.
            cwd: Working directory.
            env: Environment.
            tty: Give it a terminal.

        Returns:
            Its process id.

        Raises:
            OSError: If it can't be started.
        """
        options: dict[str, Any] = {"cwd": cwd, "env": env, "preexec_fn": _die_with_launch}
        ends: list[tuple[int, int]] = [pty.openpty(), pty.openpty()] if tty else []
        if tty:
            options.update(stdout=ends[0][1], stderr=ends[1][1], stdin=ends[0][1])
        else:
            pipe = asyncio.subprocess.PIPE
            options.update(stdout=pipe, stderr=pipe, stdin=pipe)
        try:
            if self.__action.shell:
                self.__process = await asyncio.create_subprocess_shell(" ".join(cmd), **options)
            else:
                self.__process = await asyncio.create_subprocess_exec(*cmd, **options)
        finally:
            for _, inner in ends:
                os.close(inner)
        if tty:
            streams = [await self.__terminal(outer) for outer, _ in ends]
        else:
            assert self.__process.stdout is not None and self.__process.stderr is not None
            streams = [self.__process.stdout, self.__process.stderr]
        self.__readers = [
            asyncio.ensure_future(self.__read(context, stream, source))
            for stream, source in zip(streams, ("stdout", "stderr"), strict=True)
        ]
        return self.__process.pid

    @staticmethod
    async def __terminal(descriptor: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
        return reader

    async def __read(self, context: LaunchContext, stream: asyncio.StreamReader, source: str) -> None:
        event_class = ProcessStdout if source == "stdout" else ProcessStderr
        rest = b""
        while True:
            try:
                data = await stream.read(65536)
            except OSError:
                # A terminal ends with EIO when the process closes it.
                data = b""
            if not data:
                break
            details = self.__action.process_details
            if details is not None and "pid" in details:
                event = event_class(text=data, **details)
                if context.would_handle_event(event):
                    context.emit_event_sync(event)
            if self.__action.cached_output:
                self.cached[source] += data.decode(errors="replace")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.__write(line, source)
        if rest:
            self.__write(rest, source)

    def __write(self, line: bytes, source: str) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.__loggers[source].info(self.__action.output_format.format(line=text, this=self.__action))

    async def wait(self) -> int:
        """Wait for its end and for the last of its output; return the exit code."""
        assert self.__process is not None
        code = await self.__process.wait()
        # A grandchild that it left behind may hold the pipes open: don't wait for that one.
        _, late = await asyncio.wait(self.__readers, timeout=1.0)
        for reader in late:
            reader.cancel()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal; SIGKILL goes to what it has started as well, which could not be told otherwise."""
        assert self.__process is not None
        below = list(_descendants(self.__process.pid)) if number == signal.SIGKILL else []
        for pid in below:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        try:
            self.__process.send_signal(number)
        except ProcessLookupError:
            return
