"""All tests, as `./run test` without arguments calls them, in three parts; each runs also after one that has failed.

What only computes shares all cores. Whole graphs bring several processes each and mostly wait: two at a time, each in a
ROS domain of its own. What measures time or memory, or has deadlines of milliseconds, has the machine for itself.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 5
"""Exit code of pytest where a part is empty."""


@dataclass(frozen=True)
class Part:
    """Some of the tests.

    Attributes:
        name: What is printed above them.
        markers: Which ones, in pytest's -m language.
        workers: How many files at a time, at most.
    """

    name: str
    markers: str
    workers: int


PARTS = (
    # A worker may take a gigabyte: not one for each core of a large machine.
    Part("tests that share the cores", "not graph and not alone", 8),
    Part("whole graphs", "graph and not alone", 2),
    Part("tests that need the machine alone", "alone", 1),
)


def run(part: Part) -> int:
    """Runs the quick tests of a part; returns pytest's exit code."""
    workers = min(part.workers, len(os.sched_getaffinity(0)))
    command = [sys.executable, "-m", "pytest", "-m", f"not slow and {part.markers}"]
    env = dict(os.environ)
    if workers > 1:
        # A file stays together: its tests share fixtures, and graphs.
        command += ["-n", str(workers), "--dist", "loadfile"]
        # One thread a worker: two libraries that each take all cores slow each other down.
        env["OMP_NUM_THREADS"] = "1"
    code = subprocess.run(command, cwd=ROOT, env=env).returncode
    return 0 if code == NO_TESTS else code


def main() -> int:
    """Runs all parts; returns the first exit code that isn't 0."""
    codes = []
    for part in PARTS:
        start = time.monotonic()
        print(f"== {part.name}", flush=True)
        codes.append(run(part))
        print(f"== {part.name}: exit code {codes[-1]} after {time.monotonic() - start:.0f} s", flush=True)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # pytest has got it too, and has said what ran
        sys.exit(130)
