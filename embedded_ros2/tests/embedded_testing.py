"""Environment and processes for the tests of the embedded ROS 2."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EMBEDDED = HERE.parent
ROS2 = EMBEDDED / "bin" / "ros2"
#: The machine may be busy: how long anything may take [s].
PATIENCE_S = 60.0


def embedded_environment() -> dict[str, str]:
    """Return the variables of the embedded ROS 2, behind those of a built workspace where ./run has set them."""
    path = EMBEDDED / "environment.py"
    spec = importlib.util.spec_from_file_location("embedded_environment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    variables = dict(os.environ)
    venv = Path(sys.prefix)
    for name, value in module.variables(venv).items():
        # Within ./run the paths are there already, with the workspace's packages in front.
        if name.endswith("_PATH") and value.split(os.pathsep)[0] in variables.get(name, "").split(os.pathsep):
            continue
        variables[name] = value
    variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    variables["PATH"] = os.pathsep.join([str(ROS2.parent), str(venv / "bin"), variables["PATH"]])
    variables["PYTHONUNBUFFERED"] = "1"
    return variables


class Process:
    """A process whose output can be waited for."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path) -> None:
        self.__popen = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.__lines: list[str] = []
        self.__thread = threading.Thread(target=self.__read, daemon=True)
        self.__thread.start()

    def __read(self) -> None:
        assert self.__popen.stdout is not None
        for line in self.__popen.stdout:
            self.__lines.append(line)

    @property
    def pid(self) -> int:
        return self.__popen.pid

    @property
    def output(self) -> str:
        return "".join(self.__lines)

    def wait_for(self, text: str, count: int = 1) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.output.count(text) < count:
            if time.monotonic() > end or (self.__popen.poll() is not None and not self.__thread.is_alive()):
                raise AssertionError(f"'{text}' did not come; the output was:\n{self.output}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self.__popen.send_signal(number)

    def wait(self) -> int:
        code = self.__popen.wait(PATIENCE_S)
        self.__thread.join(5.0)
        return code

    def stop(self) -> None:
        if self.__popen.poll() is None:
            self.__popen.send_signal(signal.SIGINT)
            try:
                self.__popen.wait(10.0)
            except subprocess.TimeoutExpired:
                self.__popen.kill()
                self.__popen.wait()
