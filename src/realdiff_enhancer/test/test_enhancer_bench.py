"""The bench gives figures in the agreed form, and freed memory is kept for the next frame."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from enhancer_bags import child_environment

_FAULTS = """
import resource, sys, threading
import numpy as np
from realdiff_enhancer.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    raise SystemExit(3)
def frame():
    arrays = [np.ones((480, 640), np.float32) for _ in range(8)]
    del arrays
def work():
    for _ in range(20):
        frame()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(50):
        frame()
    print((resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) / 50)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_bench_prints_figures_in_the_agreed_form() -> None:
    command = [sys.executable, "-m", "realdiff_enhancer.bench", "--only", "models", "bags", "--frames", "10", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250, env=child_environment(), check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert len(figures) == 10
    assert any("beyond the model's own time" in figure["name"] and figure["unit"] == "%" for figure in figures)
    for figure in figures:
        assert set(figure) == {"name", "value", "unit", "baseline", "ratio", "command"}
        assert figure["value"] > 0 and figure["command"].startswith("ros2 run ")
        assert (figure["baseline"] is None) == (figure["ratio"] is None)


def test_freed_memory_is_kept() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FAULTS, "keep"],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        check=False,
    )
    if result.returncode == 3:
        pytest.skip("the C library isn't glibc")
    assert result.returncode == 0, result.stderr
    # Eight arrays of 300 pages each: less than one of them anew.
    assert float(result.stdout) < 300
