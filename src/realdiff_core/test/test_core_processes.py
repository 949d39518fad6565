"""A process that was started bound ends with its starter, even if that one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from realdiff_core.processes import start_bound

_STARTER = """
import subprocess, sys, time
from realdiff_core.processes import start_bound
start = start_bound if sys.argv[1] == "bound" else subprocess.Popen
child = start([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(("how", "survives"), [("bound", False), ("unbound", True)])
def test_a_bound_process_ends_with_its_killed_starter(how: str, survives: bool) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, how], stdout=subprocess.PIPE, text=True)
    child = int(starter.stdout.readline())
    try:
        assert _alive(child)
        starter.kill()
        starter.wait()
        deadline = time.monotonic() + 5.0
        while _alive(child) and not survives and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _alive(child) is survives
    finally:
        starter.kill()
        if survives:
            os.kill(child, signal.SIGKILL)
        starter.stdout.close()


def test_options_and_exit_codes_are_those_of_popen() -> None:
    process = start_bound(
        [sys.executable, "-c", "print('hello'); raise SystemExit(3)"], stdout=subprocess.PIPE, text=True
    )
    assert process.communicate()[0] == "hello\n"
    assert process.returncode == 3
