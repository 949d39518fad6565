"""Static checks, as `./run lint` calls them: ruff over everything, mypy over the libraries. Arguments go to ruff."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Runs both checks; returns 1 if either complains."""
    libraries = sorted(str(path.parent) for path in (ROOT / "src").glob("realdiff_*/realdiff_*/__init__.py"))
    checks = {
        "ruff": ["-m", "ruff", "check", *sys.argv[1:], "."],
        "mypy": ["-m", "mypy", "--config-file", "mypy.ini", *libraries, "scripts/workspace"],
    }
    results = {}
    for name, arguments in checks.items():
        print(f"== {name}", flush=True)
        results[name] = subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode
    return int(any(results.values()))


if __name__ == "__main__":
    sys.exit(main())
