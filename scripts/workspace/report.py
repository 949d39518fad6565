"""What the set-up says: progress on stderr (stdout belongs to the command that is run) and problems with a remedy."""

from __future__ import annotations

import os
import sys
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
    """One step of the set-up with a line of progress: rewritten in place on a terminal, at most every 15 s elsewhere.

    Use as a context manager; leaving it normally prints how long the step took.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = self._start

    def __enter__(self) -> Step:
        """Announces the step."""
        if self._terminal:
            self.update("")
        else:
            print(f"run: {self.title} …", file=sys.stderr, flush=True)
        return self

    def update(self, what: str) -> None:
        """Shows what the step is doing now."""
        now = time.monotonic()
        if self._terminal:
            width = max(20, _terminal_width() - 1)
            line = f"run: {self.title} {now - self._start:4.0f} s  {what}"[:width]
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif now - self._last >= 15:
            self._last = now
            print(f"run: {self.title} {now - self._start:4.0f} s  {what}", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        """Tells how it ended and how long it took."""
        end = "\r\x1b[K" if self._terminal else ""
        result = "done" if kind is None else "stopped"
        print(f"{end}run: {self.title}: {result} ({time.monotonic() - self._start:.0f} s)", file=sys.stderr, flush=True)


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80


def note(text: str) -> None:
    """Prints one line about the set-up."""
    print(f"run: {text}", file=sys.stderr, flush=True)
