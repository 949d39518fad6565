"""The libfranka route, against franky-sim's server, which real libfranka clients connect to."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.processes import start_bound
from realdiff_policy.robot.fci_process import start_index
from realdiff_policy.safety import motion_limits, robot_config

SERVER = Path(sys.executable).with_name("franky-sim")


def test_a_new_path_is_taken_up_where_the_arm_is() -> None:
    path = np.zeros((100, 7))
    path[:, 0] = np.linspace(0.0, 0.1, 100)
    assert start_index(path, 40, path[40]) == 40
    assert start_index(path, 60, path[40]) == 40  # a robot that is behind the clock
    assert start_index(path, 10_000, path[-1]) == 99
    assert start_index(path, 40, path[40] + 0.5) is None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if importlib.util.find_spec("pylibfranka") is None or not SERVER.is_file():
        pytest.skip("pylibfranka or franky-sim isn't installed")
    address = "127.0.0.1"
    command = [str(SERVER), "--hostname", address, "--simulator", "mujoco"]
    process = start_bound(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            if "Press Ctrl+C" in line:
                break
        if process.poll() is not None:
            pytest.skip("franky-sim's server doesn't start here")
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.mark.graph
@pytest.mark.alone
def test_arm_and_hand_through_libfranka(server: str) -> None:
    rclpy = pytest.importorskip("rclpy")
    from franka_msgs.action import Grasp, Move
    from franka_msgs.msg import FrankaRobotState
    from rclpy.action import ActionClient
    from realdiff_core.contract import ROBOT_STATE
    from realdiff_policy.robot.client import Client
    from realdiff_policy.robot.home import follow, measured_joints, straight

    command = [sys.executable, "-m", "realdiff_policy.commands.fci_driver", "--ros-args", "-p", f"robot_ip:={server}"]
    driver = start_bound(command)
    rclpy.init()
    client = Client("test_fci")
    try:
        start = measured_joints(client, timeout_s=60.0)
        goal = start + np.array([0.1, -0.05, 0.05, 0.05, 0.1, -0.05, 0.1])
        follow(client, straight(start, goal, motion_limits(robot_config("fr3"))), "fr3_arm_controller")
        reached = measured_joints(client)
        assert np.max(np.abs(reached - goal)) < 0.02

        states: list[FrankaRobotState] = []
        client.node.create_subscription(FrankaRobotState, ROBOT_STATE, states.append, 10)
        client.wait_for(lambda: states, 10.0, "robot state")
        assert states[-1].robot_mode in (FrankaRobotState.ROBOT_MODE_IDLE, FrankaRobotState.ROBOT_MODE_MOVE)

        for kind, verb, request in (
            (Move, "move", Move.Goal(width=0.05, speed=0.1)),
            (Grasp, "grasp", Grasp.Goal(width=0.0, speed=0.1, force=20.0)),
        ):
            if kind is Grasp:
                request.epsilon.inner = request.epsilon.outer = 0.08
            action = ActionClient(client.node, kind, f"/franka_gripper/{verb}")
            client.wait_for(action.server_is_ready, 10.0, verb)
            sent = action.send_goal_async(request)
            client.wait_for(sent.done, 10.0, verb)
            ended = sent.result().get_result_async()
            client.wait_for(ended.done, 20.0, verb)
            assert ended.result().result.success, ended.result().result.error
    finally:
        client.close()
        rclpy.try_shutdown()
        driver.terminate()
        assert driver.wait(timeout=20) == 0


@pytest.mark.graph
def test_an_absent_robot_is_told_at_once() -> None:
    if importlib.util.find_spec("pylibfranka") is None:
        pytest.skip("pylibfranka isn't installed")
    pytest.importorskip("rclpy")
    pytest.importorskip("franka_msgs.action")
    command = [sys.executable, "-m", "realdiff_policy.commands.fci_driver", "--ros-args", "-p", "robot_ip:=127.0.0.77"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no connection to the robot's arm" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 45
