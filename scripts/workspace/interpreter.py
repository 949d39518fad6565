"""Finds the Python that the virtual environment is made from."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workspace.report import SetupError

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
_PREFERRED = ("3.12", "3.11", "3.13", "3.10")
_QUESTION = """
import importlib.util, json, os, sys, sysconfig
header = os.path.join(sysconfig.get_path('include'), 'Python.h')
has_pip = importlib.util.find_spec('ensurepip') is not None
print(json.dumps(['%d.%d' % sys.version_info[:2], has_pip, os.path.exists(header)]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python found on this machine.

    Args:
        path: Where it was found.
        version: "3.12".
        has_venv: Whether it can make virtual environments with pip (Debian packs that apart).
        has_headers: Whether extension modules can be compiled for it (Debian packs that apart).
    """

    path: Path
    version: str
    has_venv: bool
    has_headers: bool


def ask(path: str | Path, env: Mapping[str, str]) -> Interpreter | None:
    """Asks an executable what Python it is; None where it is none or doesn't start."""
    try:
        answer = subprocess.run(
            [path, "-E", "-s", "-S", "-c", _QUESTION], capture_output=True, text=True, timeout=30, env=dict(env)
        )
        version, has_venv, has_headers = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Interpreter(Path(path), version, has_venv, has_headers)


def find(env: Mapping[str, str], *, version: str | None = None) -> Interpreter:
    """Finds a supported Python: REALDIFF_PYTHON, python3, then the other names, in the order of preference.

    Args:
        env: Environment whose PATH is searched.
        version: The only version that serves ("3.12": the one of a sourced ROS 2); any supported one if None.

    Raises:
        SetupError: There is none; tells which were seen and how to install one.
    """
    wanted = (version,) if version else SUPPORTED
    chosen = env.get("REALDIFF_PYTHON")
    names = [chosen] if chosen else ["python3", *(f"python{name}" for name in _PREFERRED)]
    seen = []
    for name in names:
        path = shutil.which(name, path=env.get("PATH"))
        found = ask(path, env) if path else None
        if found and found.version in wanted:
            return found
        if found:
            seen.append(f"{path} is {found.version}")
    wish = version or "3.12"
    raise SetupError(
        f"Python {' or '.join(wanted)} is needed" + (f"; {', '.join(seen)}." if seen else ", and none was found."),
        f"sudo apt-get install -y python{wish} python{wish}-venv python{wish}-dev   "
        "(or name another one: REALDIFF_PYTHON=/path/to/python ./run …)",
    )
