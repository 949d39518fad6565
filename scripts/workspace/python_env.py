"""The virtual environment: made once, kept equal to the pinned requirements."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from workspace.interpreter import SUPPORTED, Interpreter, ask, find
from workspace.layout import Layout, digest, read_stamp, write_stamp
from workspace.process import run_logged, tail
from workspace.report import SetupError, Step
from workspace.ros import python_version_of

_NO_NETWORK = re.compile(
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known|"
    r"Max retries exceeded|Connection (refused|timed out|reset)|Read timed out|Network is unreachable|ProxyError|"
    r"ConnectTimeoutError|NewConnectionError|NameResolutionError"
)
# What rosdep installs with a ROS 2, by the module that is imported: requirements/rosdep.txt names the same libraries.
_ROSDEP_MODULES = {
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "PyYAML": "yaml",
    "scipy": "scipy",
}
_COLCON_MODULES = ("colcon_core", "colcon_ros", "catkin_pkg", "em", "lark")


def site_packages(venv: Path) -> Path:
    """Returns the site-packages folder of a virtual environment."""
    return next(iter(sorted(venv.glob("lib/python3.*/site-packages"))), venv / "lib" / "python3" / "site-packages")


def _files(layout: Layout) -> list[Path]:
    names = ("base", "test") if layout.sourced else ("ros", "rosdep", "base", "test")
    return [layout.requirements / f"{name}.txt" for name in names]


def wanted(layout: Layout) -> dict[str, str]:
    """Returns the stamp of an environment that is up to date."""
    others = (layout.requirements / f"{name}.txt" for name in ("pip", "colcon", "assets", "fci", "ray"))
    texts = (path.read_bytes() for path in (*_files(layout), *others))
    return {"requirements": digest(texts), "path": str(layout.venv), "embedded": "" if layout.sourced else "path file"}


def stamp_path(layout: Layout) -> Path:
    """Returns where the stamp lies: within the environment, so that they go together."""
    return layout.venv / ".realdiff-setup.json"


def is_up_to_date(layout: Layout) -> bool:
    """Tells whether the environment is there and holds what the requirements ask for."""
    return os.access(layout.python, os.X_OK) and read_stamp(stamp_path(layout)) == wanted(layout)


def choose_interpreter(layout: Layout, env: Mapping[str, str], rclpy: Path | None) -> Interpreter:
    """Returns the Python behind an environment that can be kept, else the one to make a new environment from.

    Raises:
        SetupError: No fitting Python.
    """
    version = python_version_of(rclpy) if rclpy else None
    present = ask(layout.python, env) if os.access(layout.python, os.X_OK) else None
    if present and present.version in ((version,) if version else SUPPORTED) and _lies_where_it_was_made(layout.venv):
        return present
    return find(env, version=version)


def is_kept(layout: Layout, interpreter: Interpreter) -> bool:
    """Tells whether the interpreter is that of the environment, which then is kept."""
    return interpreter.path == layout.python


def _lies_where_it_was_made(venv: Path) -> bool:
    """Tells whether a virtual environment was not moved or copied; its scripts name the folder they were made for."""
    try:
        first = (venv / "bin" / "pip").read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return False
    # pip writes "#!/bin/sh" and an exec line where the path is too long for a "#!" line: nothing to judge by, then.
    return first == "#!/bin/sh" or str(venv) + os.sep in first


def check_platform() -> None:
    """Stops where the wheels of the embedded ROS 2 can't run.

    Raises:
        SetupError: Not Linux on x86_64.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"the embedded ROS 2 runs on Linux x86_64; this is {platform.system()} {platform.machine()}.",
            "install ROS 2 Jazzy, then: source /opt/ros/jazzy/setup.bash",
        )


def update(layout: Layout, interpreter: Interpreter, env: Mapping[str, str]) -> None:
    """Makes the environment, or brings it up to date. Can be cut off at any point and started again.

    Raises:
        SetupError: pip failed: no network, disk full, a package that doesn't exist for this Python.
    """
    pip_env = _pip_environment(env)
    if not is_kept(layout, interpreter):
        shutil.rmtree(layout.venv, ignore_errors=True)
        with Step(f"virtual environment (Python {interpreter.version})") as step:
            command = [str(interpreter.path), "-m", "venv", str(layout.venv)]
            if layout.sourced:
                command.insert(-1, "--system-site-packages")
            log = layout.state / "venv.log"
            if run_logged(command, log=log, on_line=step.update, env=pip_env):
                raise SetupError(
                    "the virtual environment could not be made.",
                    f"sudo apt-get install -y python{interpreter.version}-venv",
                    tail(log),
                )
    forget_half_installed(site_packages(layout.venv))
    arguments = [argument for path in _files(layout) for argument in ("-r", str(path))]
    if layout.sourced:
        arguments += _beside_sourced(layout, interpreter, env)
    itself = ["-r", str(layout.requirements / "pip.txt")]
    without_dependencies = ["--no-deps", "-r", str(layout.requirements / "assets.txt")]
    pip = [str(layout.python), "-m", "pip", "install", "--progress-bar=off", "--no-compile"]
    with Step("Python packages") as step:
        progress = _PipProgress(step)
        for name, rest in (("pip_itself", itself), ("pip", arguments), ("pip_assets", without_dependencies)):
            log = layout.state / f"{name}.log"
            if run_logged([*pip, *rest], log=log, on_line=progress, env=pip_env):
                raise _explain_pip(log, interpreter)
    if not layout.sourced:
        from embedded_ros2 import environment as embedded

        embedded.correct_exports(layout.venv)
        embedded.add_to_path(layout.venv)
    write_stamp(stamp_path(layout), wanted(layout))


def _pip_environment(env: Mapping[str, str]) -> dict[str, str]:
    result = {**env, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "VIRTUAL_ENV"):
        result.pop(name, None)
    return result


def forget_half_installed(folder: Path) -> list[str]:
    """Removes the metadata of packages whose installation was cut off, so that pip installs them again.

    pip writes RECORD last and takes any package with METADATA as installed.

    Returns:
        The names of the folders removed.
    """
    half = [path for path in folder.glob("*.dist-info") if not (path / "RECORD").is_file()]
    for path in half:
        shutil.rmtree(path)
    return sorted(path.name for path in half)


def _beside_sourced(layout: Layout, interpreter: Interpreter, env: Mapping[str, str]) -> list[str]:
    """Returns pip arguments for an environment beside a sourced ROS 2: its libraries stay, numpy above all.

    The message modules of a ROS 2 are compiled for the numpy of the distribution; a newer one in front breaks them.
    """
    modules = [*_ROSDEP_MODULES.values(), *_COLCON_MODULES]
    question = (
        "import importlib.util as u, json, sys\n"
        f"found = [name for name in {modules!r} if u.find_spec(name)]\n"
        "version = __import__('numpy').__version__ if 'numpy' in found else None\n"
        "print(json.dumps([found, version]))"
    )
    base = interpreter.path.resolve() if is_kept(layout, interpreter) else interpreter.path
    answer = subprocess.run([base, "-c", question], capture_output=True, text=True, env=dict(env))
    if answer.returncode:
        raise SetupError(
            "the Python of the sourced ROS 2 doesn't start.", "source /opt/ros/jazzy/setup.bash", answer.stderr
        )
    found, numpy_version = json.loads(answer.stdout)
    lines = []
    for line in (layout.requirements / "rosdep.txt").read_text(encoding="utf-8").splitlines():
        name = re.split(r"[=<>;\[ ]", line, maxsplit=1)[0]
        if name in _ROSDEP_MODULES and _ROSDEP_MODULES[name] not in found:
            lines.append(line)
    arguments = []
    if numpy_version:
        constraints = layout.state / "constraints.txt"
        constraints.parent.mkdir(parents=True, exist_ok=True)
        constraints.write_text(f"numpy=={numpy_version}\n", encoding="utf-8")
        arguments += ["-c", str(constraints)]
    if lines:
        extra = layout.state / "rosdep_missing.txt"
        extra.parent.mkdir(parents=True, exist_ok=True)
        extra.write_text("\n".join(lines) + "\n", encoding="utf-8")
        arguments += ["-r", str(extra)]
    if not set(_COLCON_MODULES) <= set(found):
        arguments += ["-r", str(layout.requirements / "colcon.txt")]
    return arguments


class _PipProgress:
    """Turns pip's lines into a count and the current package."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._collected = 0

    def __call__(self, line: str) -> None:
        if line.startswith("Collecting "):
            self._collected += 1
            self._step.update(f"{self._collected} collected: {line.split()[1]}")
        elif line.lstrip().startswith("Downloading "):
            self._step.update(line.strip().rsplit("/", 1)[-1])
        elif line.startswith("Installing collected packages"):
            self._step.update(f"installing {line.count(',') + 1} packages")


def _explain_pip(log: Path, interpreter: Interpreter) -> SetupError:
    text = log.read_text(encoding="utf-8", errors="replace")
    again = "./run setup   (goes on where it stopped)"
    if _NO_NETWORK.search(text):
        return SetupError(
            "the Python package index can't be reached (no network, or a proxy or mirror that pip is not told of).",
            f"connect, then: {again}",
            tail(log, 4),
        )
    if "No space left on device" in text:
        return SetupError("the disk is full; the environment takes about 3 GB.", f"make room, then: {again}")
    if match := re.search(r"No matching distribution found for (\S+)", text):
        doubt = " (nor any other version: is the index reachable?)" if "from versions: none" in text else ""
        return SetupError(
            f"pip finds no {match.group(1)} for Python {interpreter.version}{doubt}.",
            f"check the index that pip uses ({interpreter.path} -m pip config list), then: {again}",
            tail(log, 6),
        )
    return SetupError("pip failed.", f"see {log}, then: {again}", tail(log))
