"""Keys of a terminal, one at a time."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType

_ARROWS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}


class Keyboard:
    """Calls a function for each key while it is open; the terminal is put back at the end."""

    def __init__(self, on_key: Callable[[str], None]) -> None:
        """Keep the function; it gets a character, or 'up', 'down', 'right', 'left'."""
        self.__on_key = on_key
        self.__leave = threading.Event()
        self.__descriptor = sys.stdin.fileno()
        self.__thread = threading.Thread(target=self.__read, name="keyboard", daemon=True)

    def __enter__(self) -> Keyboard:
        """Take the terminal."""
        self.__settings = termios.tcgetattr(self.__descriptor)
        # cbreak and not raw: Ctrl-C stays a signal.
        tty.setcbreak(self.__descriptor)
        self.__thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the terminal back."""
        self.__leave.set()
        self.__thread.join(timeout=1.0)
        termios.tcsetattr(self.__descriptor, termios.TCSADRAIN, self.__settings)

    def __read(self) -> None:
        while not self.__leave.is_set():
            if not select.select([self.__descriptor], [], [], 0.1)[0]:
                continue
            data = os.read(self.__descriptor, 8)
            if not data:
                return
            if data[:2] == b"\x1b[":
                self.__on_key(_ARROWS.get(data[2:3], ""))
            else:
                self.__on_key(data[:1].decode(errors="replace"))
