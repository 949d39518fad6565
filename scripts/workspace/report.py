"""What the set-up says: progress on stderr (stdout belongs to the command that is run) and problems with a remedy."""

from __future__ import annotations

import os
import sys
import threading
import time


class SetupError(Exception):
    """Something is missing and can't be installed from here.

    Args:
        what: What is missing and why that stops the set-up.
        fix: The one command (or step) that mends it.
        detail: Lines of a log that tell more.
    """

    exit_code = 3

    def __init__(self, what: str, fix: str, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.detail = detail

    def __str__(self) -> str:
        """Returns the message as it is printed."""
        text = f"run: {self.what}\n  next: {self.fix}"
        if self.detail:
            text += "\n" + "\n".join(f"  | {line}" for line in self.detail.splitlines())
        return text


class Step:
    """One step of the set-up with a line of progress, rewritten every second on a terminal, new every 15 s elsewhere.

    Use as a context manager; leaving it prints how long the step took.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._what = ""
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Step:
        """Announces the step."""
        print(f"run: {self.title} …", end="" if self._terminal else "\n", file=sys.stderr, flush=True)
        self._clock.start()
        return self

    def update(self, what: str) -> None:
        """Sets what the step is doing now; shown with the next line of progress."""
        self._what = what

    def _tick(self) -> None:
        while not self._ended.wait(1 if self._terminal else 15):
            line = f"run: {self.title} {time.monotonic() - self._start:4.0f} s  {self._what}"
            if self._terminal:
                print(f"\r\x1b[K{line[: max(20, _terminal_width() - 1)]}", end="", file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        """Tells how it ended and how long it took."""
        self._ended.set()
        self._clock.join()
        start = "\r\x1b[K" if self._terminal else ""
        result = "done" if kind is None else "stopped"
        took = time.monotonic() - self._start
        print(f"{start}run: {self.title}: {result} ({took:.0f} s)", file=sys.stderr, flush=True)


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80


def note(text: str) -> None:
    """Prints one line about the set-up."""
    print(f"run: {text}", file=sys.stderr, flush=True)
