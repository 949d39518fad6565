"""The route to an FR3 without ROS control: a libfranka client drives the simulated robot server over the network."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from realdiff_core.processes import start_bound

pylibfranka = pytest.importorskip(
    "pylibfranka", reason="pylibfranka isn't installed: pip install -r requirements/fci.txt (no wheels for Python 3.13)"
)
if find_spec("franky_sim") is None or find_spec("pinocchio") is None:
    pytest.skip("franky-sim or pin isn't installed: pip install -r requirements/fci.txt", allow_module_level=True)

pytestmark = pytest.mark.alone
FCI_PORT = 1337


def _address() -> str:
    """127.0.0.1, or another loopback address if a robot server listens there already."""
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        with socket.socket() as probe:
            if probe.connect_ex((address, FCI_PORT)) != 0:
                return address
    pytest.skip(f"port {FCI_PORT} is taken on every loopback address that was tried")


@pytest.fixture(scope="module")
def robot_address() -> Iterator[str]:
    """The address of a running server. It is a process of its own: the client's calls would keep it from answering."""
    address = _address()
    command = [sys.executable, "-u", "-m", "franky_sim.run_server", "-s", "mujoco", "--hostname", address]
    process = start_bound(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout:
            lines.append(line)
            if "Press Ctrl+C" in line:
                ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        deadline = time.monotonic() + 60
        while not ready.wait(0.1):
            assert process.poll() is None, "".join(lines)
            assert time.monotonic() < deadline, "the server doesn't start\n" + "".join(lines)
        yield address
    finally:
        process.kill()
        process.wait()


def test_a_joint_motion_at_1_khz(robot_address: str) -> None:
    robot = pylibfranka.Robot(robot_address, pylibfranka.RealtimeConfig.kIgnore)
    before = robot.read_once()
    assert before.robot_mode == pylibfranka.RobotMode.Idle
    start = np.array(before.q)
    robot.set_collision_behavior([20.0] * 7, [20.0] * 7, [20.0] * 6, [20.0] * 6)
    control = robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)
    elapsed, periods, peak = 0.0, 0, 0.0
    while elapsed < 1.2:
        state, period = control.readOnce()
        elapsed += period.to_sec()
        periods += 1
        peak = max(peak, float(np.abs(state.dq).max()))
        share = 0.5 * (1.0 - np.cos(np.pi * min(elapsed, 1.0)))
        command = pylibfranka.JointPositions((start + 0.1 * share).tolist())
        command.motion_finished = elapsed >= 1.2
        control.writeOnce(command)
    after = robot.read_once()
    np.testing.assert_allclose(np.array(after.q) - start, 0.1, atol=0.01)
    assert periods > 1000  # one a millisecond of the robot's time
    assert 0.1 < peak < 0.5  # the cosine's is 0.157 rad/s
    # The last row of the pose is that of a homogeneous matrix, column by column.
    assert list(np.array(after.O_T_EE).reshape(4, 4, order="F")[3]) == [0.0, 0.0, 0.0, 1.0]


def test_the_gripper(robot_address: str) -> None:
    gripper = pylibfranka.Gripper(robot_address)
    assert gripper.homing()
    assert gripper.move(0.03, 0.1)
    assert gripper.read_once().width == pytest.approx(0.03, abs=3e-3)
