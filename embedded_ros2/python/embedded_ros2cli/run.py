"""ros2 run."""

from __future__ import annotations

import argparse
import ctypes
import shlex
import signal
import subprocess
import sys
from types import FrameType

from .pkg import executables

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Have the kernel end the executable when this command is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--prefix", help="Command in front of the executable (e.g. 'gdb -ex run --args')")
    parser.add_argument("package_name", help="Name of the ROS package")
    parser.add_argument("executable_name", help="Name of the executable")
    parser.add_argument("argv", nargs=argparse.REMAINDER, help="Pass arbitrary arguments to the executable")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int | str:
    paths = [path for path in executables(args.package_name) if path.name == args.executable_name]
    if not paths:
        return "No executable found"
    if len(paths) > 1:
        return "Multiple executables found:" + "".join(f"\n- {path}" for path in paths)
    command = [*shlex.split(args.prefix or ""), str(paths[0]), *args.argv]
    process = subprocess.Popen(command, preexec_fn=_die_with_parent)

    def forward(number: int, frame: FrameType | None) -> None:
        # Ctrl-C in a terminal reaches the process by itself; a signal from another program reaches this one only.
        if number != signal.SIGINT or not sys.stdin.isatty():
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    code = process.wait()
    if code < 0:
        print("[ros2run]:", signal.strsignal(-code))
    elif code > 0:
        print("[ros2run]: Process exited with failure", code)
    # Negative for a signal, as the real command returns it: the shell sees 256 minus the signal.
    return code
