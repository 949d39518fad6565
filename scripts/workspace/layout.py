"""Where things lie in a checkout, the stamps that tell what is up to date, and the lock of the set-up."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspace.report import note


@dataclass(frozen=True)
class Layout:
    """Paths of one checkout.

    Args:
        root: The repository root (absolute).
        sourced: Whether an installed, sourced ROS 2 is used instead of the embedded one.
    """

    root: Path
    sourced: bool

    @property
    def venv(self) -> Path:
        """The virtual environment; another one beside a sourced ROS 2, whose Python and libraries differ."""
        return self.root / (".venv-ros" if self.sourced else ".venv")

    @property
    def python(self) -> Path:
        """The interpreter of the virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def install(self) -> Path:
        """What colcon installs."""
        return self.root / "install"

    @property
    def build(self) -> Path:
        """What colcon builds."""
        return self.root / "build"

    @property
    def state(self) -> Path:
        """Stamps, lock and logs of the set-up."""
        return self.build / ".run"

    @property
    def requirements(self) -> Path:
        """The pinned requirements: the one place for versions."""
        return self.root / "requirements"

    @property
    def embedded(self) -> Path:
        """What makes a bare machine a ROS 2 machine."""
        return self.root / "embedded_ros2"


def digest(parts: Iterable[str | bytes]) -> str:
    """Returns one hash over all parts, in order, each delimited."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def read_stamp(path: Path) -> dict[str, Any]:
    """Reads a stamp; one that is missing or damaged (a full disk, a power cut) counts as empty."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_stamp(path: Path, value: dict[str, Any]) -> None:
    """Writes a stamp in one step, so that an interruption leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of the set-up; a second `./run` waits for the first. The system frees it when its holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another ./run is setting up here; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
