"""A small checkout with the real ./run and stand-ins for what takes minutes: pip, venv, colcon, apt-get.

The stand-ins write what they were called with into a file and do what the real ones do to the file system.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.executable).resolve()
TOOLS = ("bash", "env", "dirname", "id", "cat", "mkdir", "cp", "sleep", "touch", "rm", "ln", "true", "uname")

FAKE_PYTHON = """\
#!{bash}
case "$*" in
  *"-m venv"*)
    echo "venv $*" >> {calls}
    for folder; do :; done
    {mkdir} -p "$folder/bin" "$folder/lib/python3.{minor}/site-packages"
    {cp} "$0" "$folder/bin/python"
    echo "#!$folder/bin/python" > "$folder/bin/pip"
    ;;
  *"-m pip install"*)
    echo "pip $*" >> {calls}
    if [ -e {control}/pip ]; then . {control}/pip; fi
    ;;
  *colcon_core.command*)
    echo "colcon $*" >> {calls}
    if [ -e {control}/colcon ]; then . {control}/colcon; fi
    exec {python} {control}/fake_colcon.py "$@"
    ;;
  *"import numpy, sysconfig"*) echo /include/python; echo /include/numpy ;;
  *) exec {python} "$@" ;;
esac
"""

FAKE_COLCON = """\
import pathlib, sys
arguments = sys.argv[1:]
start = arguments.index("--packages-select") + 1
names = arguments[start:arguments.index("--cmake-args")]
failing = pathlib.Path(__file__).with_name("colcon_fails")
failing = failing.read_text().split() if failing.exists() else []
status = 0
for name in names:
    print(f"Starting >>> {name}", flush=True)
    if name in failing:
        print("x.cpp:1:1: error: this does not compile")
        print(f"Failed   <<< {name} [0.1s, exited with code 1]")
        status = 1
        continue
    share = pathlib.Path("install", name, "share", name)
    share.mkdir(parents=True, exist_ok=True)
    (share / "package.xml").touch()
    build = pathlib.Path("build", name)
    build.mkdir(parents=True, exist_ok=True)
    (build / "colcon_build.rc").touch()
    print(f"Finished <<< {name} [0.1s]", flush=True)
sys.exit(status)
"""


class Checkout:
    """A checkout in a folder, and a machine that has only what is put into `self.bin`."""

    def __init__(self, folder: Path, python: Path = PYTHON) -> None:
        self.folder = folder
        self.python = python
        self.machine = folder.parent / f"{folder.name}-machine"
        self.bin = self.machine / "bin"
        self.bin.mkdir(parents=True)
        for name in TOOLS:
            self.link(name)
        for name in ("g++", "make", "cmake"):
            self.program(name, "exit 0")
        (self.machine / "lib").mkdir()
        for name in ("libEGL.so.1", "libGL.so.1"):
            (self.machine / "lib" / name).touch()
        self.calls_file = self.machine / "calls"
        self.fake_python("python3")
        (self.machine / "fake_colcon.py").write_text(FAKE_COLCON)
        self._fill()

    def _fill(self) -> None:
        self.folder.mkdir()
        shutil.copy2(ROOT / "run", self.folder / "run")
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "scripts", self.folder / "scripts", ignore=ignore)
        embedded = self.folder / "embedded_ros2"
        embedded.mkdir()
        for name in ("environment.py", "shared_memory.py", "fastdds_shm.xml"):
            shutil.copy2(ROOT / "embedded_ros2" / name, embedded / name)
        shutil.copytree(ROOT / "embedded_ros2" / "cmake", embedded / "cmake")
        (embedded / "bin").mkdir()
        self.write("requirements/ros.txt", "rclpy-wheel==1\n")
        for name in ("pip", "colcon", "rosdep", "base", "test", "assets", "fci", "ray"):
            self.write(f"requirements/{name}.txt", f"{name}-library==1\n")
        self.write("colcon.meta", "names: {}\n")
        self.write("launch/first.launch.py", "")
        self.write("config/one.yaml", "a: 1\n")
        for name in ("src/demo_msgs", "embedded_ros2/interfaces/tf2_msgs"):
            self.write(f"{name}/package.xml", "<package/>")
            self.write(f"{name}/CMakeLists.txt", "project(x)\n")
            self.write(f"{name}/msg/Thing.msg", "int32 x\n")
        self.write("src/bringup/package.xml", "<package/>")
        self.write("src/bringup/CMakeLists.txt", "install(DIRECTORY ../../launch ../../config DESTINATION share)\n")
        self.write("src/demo_py/package.xml", "<package/>")
        self.write("src/demo_py/setup.py", "")
        self.write("src/demo_py/demo_py/__init__.py", "")

    def write(self, name: str, text: str) -> None:
        """Writes a file of the checkout."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def link(self, name: str) -> None:
        """Gives the machine a real program."""
        real = shutil.which(name)
        assert real, name
        (self.bin / name).symlink_to(real)

    def program(self, name: str, script: str) -> None:
        """Gives the machine a program of its own."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)

    def fake_python(self, name: str) -> None:
        """Gives the machine a Python whose venv, pip and colcon are stand-ins."""
        tools = {tool: shutil.which(tool) for tool in ("bash", "mkdir", "cp")}
        text = FAKE_PYTHON.format(
            calls=self.calls_file, control=self.machine, python=self.python, minor=sys.version_info.minor, **tools
        )
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def during(self, program: str, script: str) -> None:
        """Sets what the stand-in of pip or colcon does besides: lines of bash; "" for nothing."""
        (self.machine / program).write_text(script + "\n")

    def environment(self, **variables: str) -> dict[str, str]:
        """The whole environment of a call: nothing of the test's own."""
        return {
            "PATH": str(self.bin),
            "HOME": str(self.machine),
            "LD_LIBRARY_PATH": str(self.machine / "lib"),
            **variables,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Starts ./run in a process group of its own."""
        return subprocess.Popen(
            [str(self.folder / "run"), *arguments],
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, user: int | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Calls ./run and waits for it; as another user where one is given."""
        return subprocess.run(
            [str(self.folder / "run"), *arguments],
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            user=user,
        )

    def calls(self, program: str | None = None) -> list[str]:
        """The calls of the stand-ins so far, of one or of all."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        return [line for line in lines if program is None or line.split()[0] == program]

    def forget_calls(self) -> None:
        """Starts counting anew."""
        self.calls_file.unlink(missing_ok=True)

    def built(self) -> list[list[str]]:
        """The packages of each colcon call."""
        result = []
        for line in self.calls("colcon"):
            words = line.split()
            result.append(words[words.index("--packages-select") + 1 : words.index("--cmake-args")])
        return result

    def wait_for_call(self, program: str) -> None:
        """Waits until a stand-in was called."""
        end = time.monotonic() + 30
        while not self.calls(program):
            assert time.monotonic() < end, f"{program} was not called"
            time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str]:
    """Sends a signal to all processes of ./run, as a terminal does; returns exit status and stderr."""
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def dedent(text: str) -> str:
    """Removes the indentation of a script in a test."""
    return textwrap.dedent(text).strip()
