"""Processes that end with the one that started them, however that one ends (on Linux; ordinary ones elsewhere)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

__all__ = ["end_with", "start_bound"]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with(parent: int) -> None:
    """Has the kernel kill this process as soon as the thread that started it ends, so also when its process is killed.

    Args:
        parent: Process id of the parent; if that one has ended already, this process ends here.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def start_bound(command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen:
    """Starts a process that is killed when the calling thread ends: nothing is left running by a test that is killed.

    Args:
        command: Program and arguments.
        **options: As for `subprocess.Popen`.
    """
    return subprocess.Popen(command, preexec_fn=partial(end_with, os.getpid()), **options)
