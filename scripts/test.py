"""All tests, as `./run test` without arguments calls them: first on all cores, then those that need the machine alone.

Whole graphs have deadlines in wall time and bring several processes each; a memory or time measurement means nothing
beside another test. Everything else shares the cores, file by file.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALONE = "(graph or alone)"


def main() -> int:
    """Runs both parts, the second also after a failure; returns the first exit code that isn't 0."""
    pytest = [sys.executable, "-m", "pytest"]
    # One thread a worker: two libraries that each take all cores slow each other down.
    single = {**os.environ, "OMP_NUM_THREADS": "1"}
    shared = subprocess.run(
        [*pytest, "-m", f"not slow and not {ALONE}", "-n", "auto", "--dist", "loadfile"], cwd=ROOT, env=single
    ).returncode
    alone = subprocess.run([*pytest, "-m", f"not slow and {ALONE}"], cwd=ROOT).returncode
    return shared or alone


if __name__ == "__main__":
    sys.exit(main())
