"""System packages: finds out by looking at files what is missing, installs it through apt where that is allowed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workspace.interpreter import Interpreter
from workspace.process import run_logged, tail
from workspace.report import SetupError, Step, note


@dataclass(frozen=True)
class Missing:
    """Something that the system lacks.

    Args:
        what: In words, for messages.
        packages: The Debian and Ubuntu packages that bring it.
    """

    what: str
    packages: tuple[str, ...]


def _library_folders(env: Mapping[str, str]) -> list[Path]:
    machine = platform.machine()
    fixed = [f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib", f"/lib/{machine}-linux-gnu"]
    return [Path(entry) for entry in (*env.get("LD_LIBRARY_PATH", "").split(os.pathsep), *fixed) if entry]


def has_library(name: str, env: Mapping[str, str]) -> bool:
    """Tells whether a shared library ("libEGL.so.1") lies in one of the places where the loader looks."""
    return any((folder / name).exists() for folder in _library_folders(env))


def rendering_backend(env: Mapping[str, str]) -> str | None:
    """Returns the MuJoCo rendering backend that works without a display ("egl", "osmesa"), or None."""
    # libegl1 alone comes without a software driver; libgl1 brings it.
    if has_library("libEGL.so.1", env) and has_library("libGL.so.1", env):
        return "egl"
    if has_library("libOSMesa.so.8", env) or has_library("libOSMesa.so.6", env):
        return "osmesa"
    return None


def missing_rendering(env: Mapping[str, str]) -> list[Missing]:
    """Returns what off-screen rendering lacks: the simulator can't draw without it, all else works."""
    if rendering_backend(env) is None:
        return [Missing("off-screen OpenGL (libEGL) for the simulator's cameras", ("libegl1", "libgl1", "libopengl0"))]
    return []


def missing_for_build(interpreter: Interpreter, env: Mapping[str, str], *, new_venv: bool) -> list[Missing]:
    """Returns what the virtual environment (if a new one is to be made) and the colcon build lack."""
    missing = []
    path = env.get("PATH")
    if not any(shutil.which(name, path=path) for name in (env.get("CXX") or "c++", "g++", "clang++")):
        missing.append(Missing("a C++ compiler", ("build-essential",)))
    elif not (shutil.which("make", path=path) or shutil.which("gmake", path=path)):
        missing.append(Missing("make", ("build-essential",)))
    if not shutil.which("cmake", path=path):
        missing.append(Missing("cmake", ("cmake",)))
    version = interpreter.version
    prefix = "python3" if interpreter.path.name == "python3" else f"python{version}"
    if new_venv and not interpreter.has_venv:
        missing.append(Missing(f"Python {version}'s venv module", (f"{prefix}-venv",)))
    if not interpreter.has_headers:
        missing.append(Missing(f"Python {version}'s headers", (f"{prefix}-dev",)))
    return missing


def install_command(missing: list[Missing]) -> str:
    """Returns the one command that a user types to install all that is missing."""
    return "sudo apt-get install -y " + " ".join(_packages(missing))


def _packages(missing: list[Missing]) -> list[str]:
    return sorted({package for entry in missing for package in entry.packages})


def install(missing: list[Missing], *, log: Path, env: Mapping[str, str]) -> None:
    """Installs what is missing through apt.

    Raises:
        SetupError: Not root, no apt, or apt failed; names all that is missing and the command that installs it.
    """
    if not missing:
        return
    words = ", ".join(entry.what for entry in missing)
    apt = shutil.which("apt-get", path=env.get("PATH"))
    if apt is None:
        raise SetupError(
            f"missing on this system: {words}.",
            f"install it with your package manager (Debian and Ubuntu: {install_command(missing)})",
        )
    if os.geteuid() != 0:
        raise SetupError(f"missing on this system, and only root can install it: {words}.", install_command(missing))
    quiet = {**env, "DEBIAN_FRONTEND": "noninteractive"}
    packages = _packages(missing)
    with Step(f"system packages ({', '.join(packages)})") as step:
        update = run_logged([apt, "update"], log=log.with_suffix(".update.log"), on_line=step.update, env=quiet)
        command = [apt, "install", "-y", "--no-install-recommends", *packages]
        status = run_logged(command, log=log, on_line=step.update, env=quiet)
    if status:
        reason = "the package lists could not be fetched (no network?)" if update else "apt-get failed"
        raise SetupError(f"{words} could not be installed: {reason}.", install_command(missing), tail(log))


def install_rendering(missing: list[Missing], *, stamp: Path, log: Path, env: Mapping[str, str]) -> None:
    """Installs off-screen rendering if that is possible; says what is missing if not, and goes on.

    apt is tried once per checkout (`stamp`), since all but the simulator's cameras works without.
    """
    if not missing:
        return
    if os.geteuid() == 0 and not stamp.exists():
        try:
            install(missing, log=log, env=env)
            return
        except SetupError:
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    note(f"missing: {', '.join(entry.what for entry in missing)}. Install it with: {install_command(missing)}")
