"""Messages, recovery and going home; the last two against small servers that stand for the robot."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("franka_msgs.action", reason="franka_msgs isn't built")

from realdiff_core.errors import RealdiffError  # noqa: E402
from realdiff_policy.robot import moveit_home  # noqa: E402
from realdiff_policy.robot.home import straight  # noqa: E402
from realdiff_policy.robot.messages import path_message, trajectory_message, workspace_markers  # noqa: E402
from realdiff_policy.safety import Trajectory, motion_limits, robot_config  # noqa: E402
from realdiff_policy.safety.checks import first_fault  # noqa: E402

LIMITS = motion_limits(robot_config("fr3"))
HOME = np.array(robot_config("fr3").home)
ROOT = Path(__file__).resolve().parents[3]


def test_trajectory_messages_say_what_the_gate_has_checked() -> None:
    motion = straight(HOME, HOME + 0.1, LIMITS)
    motion = Trajectory(1_234_567_890_123, motion.times_s, motion.positions, motion.velocities)
    message = trajectory_message(motion)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1234, 567_890_123)
    assert list(message.joint_names) == [f"fr3_joint{i}" for i in range(1, 8)]
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points]
    assert np.allclose(times, motion.times_s, atol=1e-9)
    assert np.array_equal([list(point.positions) for point in message.points], motion.positions)
    assert np.array_equal([list(point.velocities) for point in message.points], motion.velocities)
    assert not np.any(message.points[-1].velocities)


def test_a_trajectory_that_stays_lasts_long_enough_to_be_accepted() -> None:
    message = trajectory_message(Trajectory.rest(HOME, 5))
    assert len(message.points) == 2
    assert message.points[-1].time_from_start.nanosec == 200_000_000


def test_the_path_ends_where_the_hand_ends() -> None:
    from realdiff_policy.safety.kinematics import forward

    motion = straight(HOME, HOME + 0.1, LIMITS)
    last = path_message(motion).poses[-1].pose.position
    assert np.allclose([last.x, last.y, last.z], forward(motion.positions[-1]).tcp, atol=1e-6)


def test_the_box_has_twelve_edges() -> None:
    box, table = workspace_markers(LIMITS, 0).markers
    assert len(box.points) == 24
    corners = {(point.x, point.y, point.z) for point in box.points}
    assert len(corners) == 8
    assert table.pose.position.z < 0.0


def test_the_way_home_is_slow_and_inside_the_limits() -> None:
    random = np.random.default_rng(0)
    made = 0
    for _ in range(200):
        start = HOME + random.normal(0, 0.3, 7)
        try:
            motion = straight(start, HOME, LIMITS)
        except RealdiffError as error:
            assert "leaves the limits" in str(error)
            continue
        made += 1
        assert first_fault(LIMITS, motion.times_s, motion.positions, motion.velocities) is None
        assert np.max(np.abs(motion.velocities) / LIMITS.velocity) <= 0.26
    assert made > 100


def test_both_signatures_of_moveit() -> None:
    calls: list[tuple] = []

    class Humble:
        def execute(self, group_name, robot_trajectory, blocking=True):
            calls.append(("humble", group_name, robot_trajectory, blocking))

    class Jazzy:
        def execute(self, robot_trajectory, controllers):
            calls.append(("jazzy", robot_trajectory, controllers))

    class Built:
        """Like a compiled function: no signature, and a TypeError for the wrong arguments."""

        @property
        def execute(self):
            def execute(*args, **kwargs):
                if "controllers" in kwargs:
                    raise TypeError("incompatible function arguments")
                calls.append(("built", *args))

            execute.__signature__ = "none"
            return execute

    for moveit in (Humble(), Jazzy(), Built()):
        moveit_home.execute(moveit, "fr3_arm", "plan")
    assert calls == [("humble", "fr3_arm", "plan", True), ("jazzy", "plan", []), ("built", "fr3_arm", "plan")]


def test_moveit_runs_in_a_child_whose_crash_is_only_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if __import__("importlib.util").util.find_spec("moveit") is None:
        assert moveit_home.go_in_child() == moveit_home.NOT_INSTALLED
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    assert moveit_home.go_in_child() == -11


def test_the_controllers_file_fits_the_robots_joints() -> None:
    content = yaml.safe_load((ROOT / "config/controllers/fr3_arm_controller.yaml").read_text())
    parameters = content["/**/fr3_arm_controller"]["ros__parameters"]
    joints = [f"fr3_joint{i}" for i in range(1, 8)]
    assert parameters["joints"] == joints
    assert sorted(parameters["gains"]) == joints
    assert parameters["allow_nonzero_velocity_at_trajectory_end"] is False
    assert parameters["constraints"]["goal_time"] > 0.0
    assert all(parameters["constraints"][joint]["trajectory"] > 0.0 for joint in joints)


# -- recovery ------------------------------------------------------------------------------------------------------


class FakeRobot:
    """Error recovery and controller manager, each of which can be made to fail."""

    def __init__(self) -> None:
        from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController
        from franka_msgs.action import ErrorRecovery
        from rclpy.action import ActionServer
        from rclpy.executors import SingleThreadedExecutor

        self.steps: list[str] = []
        self.failing = ""
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("fake_robot", context=self.context)

        def recover(handle):
            self.steps.append("recover")
            handle.abort() if self.failing == "recover" else handle.succeed()
            return ErrorRecovery.Result()

        def hardware(request, response):
            self.steps.append(f"hardware {request.name} {request.target_state.label}")
            response.ok = self.failing != "hardware"
            return response

        def switch(request, response):
            self.steps.append(f"switch {' '.join(request.activate_controllers)}")
            response.ok = self.failing != "switch"
            return response

        self.server = ActionServer(self.node, ErrorRecovery, "/action_server/error_recovery", recover)
        manager = "/controller_manager"
        self.node.create_service(SetHardwareComponentState, f"{manager}/set_hardware_component_state", hardware)
        self.node.create_service(SwitchController, f"{manager}/switch_controller", switch)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()

    def spin(self) -> None:
        while not self.stopped.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture(scope="module")
def fake_robot() -> Iterator[FakeRobot]:
    robot = FakeRobot()
    yield robot
    robot.close()


@pytest.mark.graph
@pytest.mark.parametrize(
    ("failing", "count", "message"),
    [
        ("", 3, ""),
        ("recover", 1, "step 1 of 3: the robot could not clear its error"),
        ("hardware", 2, "step 2 of 3: FrankaHardwareInterface did not become active"),
        ("switch", 3, "step 3 of 3: the controllers fr3_arm_controller were not switched on"),
    ],
)
def test_recovery_is_three_steps_in_one_call(fake_robot: FakeRobot, failing: str, count: int, message: str) -> None:
    from realdiff_policy.commands.recover import run

    fake_robot.failing = failing
    fake_robot.steps.clear()
    arguments = SimpleNamespace(controller=None)
    if message:
        with pytest.raises(RealdiffError, match=message):
            run(arguments)
    else:
        assert run(arguments) == 0
    expected = ["recover", "hardware FrankaHardwareInterface active", "switch fr3_arm_controller"]
    assert fake_robot.steps == expected[:count]
