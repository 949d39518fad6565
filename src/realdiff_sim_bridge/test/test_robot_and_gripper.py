"""Reflex, recovery and the hand, without ROS and without a simulator."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.contract import HARDWARE_COMPONENT
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.adapters.base import RobotState
from realdiff_sim_bridge.bridge.external_force import NONE, ExternalForce
from realdiff_sim_bridge.bridge.gripper_controller import GripperController, Motion, grasped, moved_to
from realdiff_sim_bridge.bridge.limits import UPPER, VELOCITY
from realdiff_sim_bridge.bridge.robot import HardwareState, ReflexLimits, Robot, RobotMode, RobotRefusedError
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH, READY_POSITIONS


def _state(joint: int = 0, *, position: float | None = None, velocity: float = 0.0) -> RobotState:
    positions, velocities = np.array([*READY_POSITIONS, 0.04, 0.04]), np.zeros(9)
    velocities[joint] = velocity
    if position is not None:
        positions[joint] = position
    return RobotState(positions, velocities, np.zeros(9))


def _force(newtons: float) -> ExternalForce:
    return ExternalForce(np.array([0.0, 0.0, newtons]), np.zeros(3), np.full(7, newtons / 10))


@pytest.mark.parametrize(
    ("robot_state", "external", "error"),
    [
        (_state(), _force(61.0), "cartesian_reflex"),
        (_state(), ExternalForce(np.zeros(3), np.zeros(3), np.full(7, -41.0)), "joint_reflex"),
        (_state(1, position=UPPER[1] + 0.01), NONE, "joint_position_limits_violation"),
        (_state(4, velocity=-VELOCITY[4] - 0.1), NONE, "joint_velocity_violation"),
    ],
)
def test_each_violation_is_a_reflex_of_its_kind(robot_state, external, error) -> None:
    robot = Robot(ReflexLimits())
    assert robot.watch(_state(), _force(50.0)) == ""
    assert robot.mode(0) is RobotMode.MOVE
    assert "reflex" in robot.watch(robot_state, external)
    assert robot.mode(0) is RobotMode.REFLEX
    assert robot.errors == {error}
    assert (robot.hardware, robot.controller_active) == (HardwareState.UNCONFIGURED, False)
    assert robot.watch(robot_state, external) == ""  # it is one reflex


def test_thresholds_of_zero_are_off() -> None:
    assert Robot(ReflexLimits(0.0, 0.0)).watch(_state(), _force(1e4)) == ""


def test_recovery_works_in_its_order_only() -> None:
    robot = Robot(ReflexLimits())
    robot.watch(_state(), _force(100.0))
    with pytest.raises(RobotRefusedError, match="hardware component isn't active"):
        robot.set_controller(active=True)
    with pytest.raises(RobotRefusedError, match="has an error"):
        robot.set_hardware(HARDWARE_COMPONENT, HardwareState.ACTIVE)
    robot.recover(now_ns=0)
    assert robot.mode(1) is RobotMode.AUTOMATIC_ERROR_RECOVERY
    assert robot.mode(10**9) is RobotMode.IDLE
    with pytest.raises(RobotRefusedError, match="isn't active"):
        robot.set_controller(active=True)
    with pytest.raises(RobotRefusedError, match="no such"):
        robot.set_hardware("left_arm", HardwareState.ACTIVE)
    robot.set_hardware(HARDWARE_COMPONENT, HardwareState.ACTIVE)
    assert robot.mode(10**9) is RobotMode.IDLE
    robot.set_controller(active=True)
    assert robot.mode(10**9) is RobotMode.MOVE
    assert robot.last_errors == {"cartesian_reflex"}


def test_deactivating_the_hardware_takes_the_controller_along() -> None:
    robot = Robot(ReflexLimits())
    robot.set_hardware(HARDWARE_COMPONENT, HardwareState.INACTIVE)
    assert not robot.controller_active


def _run(gripper: GripperController, *, stop_at: float = 0.0, periods: int = 400) -> list[float]:
    """Fingers that follow their command and are stopped by an object of a width."""
    widths, width = [], max(gripper.command, stop_at)
    for _ in range(periods):
        command = max(gripper.update(width, 0.0 if not widths else abs(width - widths[-1]) / 0.04), 0.0)
        widths.append(width)
        width = max(command, stop_at)
    return widths


def _motion(stages: tuple[float, ...], accept, speed: float = 0.1) -> tuple[Motion, list[str]]:
    ended: list[str] = []
    return Motion(stages, speed, accept, ended.append), ended


def test_a_move_goes_there_at_its_speed() -> None:
    gripper = GripperController(MAX_GRIPPER_WIDTH)
    motion, ended = _motion((0.03,), moved_to(0.03), speed=0.05)
    gripper.start(motion)
    widths = np.array(_run(gripper))
    assert ended == [""]
    assert widths[-1] == pytest.approx(0.03)
    assert np.abs(np.diff(widths)).max() == pytest.approx(0.05 * 0.02)


def test_a_grasp_holds_what_it_meets_and_says_when_it_meets_nothing() -> None:
    for object_width, expected in ((0.05, True), (0.0, False), (0.07, False)):
        gripper = GripperController(MAX_GRIPPER_WIDTH)
        motion, ended = _motion((0.0,), grasped(0.05, 0.005, 0.005))
        gripper.start(motion)
        _run(gripper, stop_at=object_width)
        assert len(ended) == 1
        assert (ended[0] == "") == expected, ended
        assert gripper.command == 0.0  # it goes on closing


def test_a_held_object_is_released_at_once() -> None:
    gripper = GripperController(MAX_GRIPPER_WIDTH)
    gripper.start(_motion((0.0,), grasped(0.05, 0.005, 0.005))[0])
    _run(gripper, stop_at=0.05)
    motion, ended = _motion((MAX_GRIPPER_WIDTH,), moved_to(MAX_GRIPPER_WIDTH), speed=0.05)
    gripper.start(motion)
    widths = _run(gripper, stop_at=0.05)
    assert ended == [""]
    assert widths[2] > 0.05


def test_an_object_that_sticks_to_the_fingers_at_first_is_released() -> None:
    for stuck_s, expected in ((0.6, ""), (2.0, "stopped at 0.0500 m")):
        gripper = GripperController(0.05)
        motion, ended = _motion((MAX_GRIPPER_WIDTH,), moved_to(MAX_GRIPPER_WIDTH))
        gripper.start(motion)
        for period in range(400):
            gripper.update(0.05 if period * 0.02 < stuck_s else gripper.command, 0.0)
        assert ended == [expected]


def test_homing_closes_and_opens() -> None:
    gripper = GripperController(0.04)
    motion, ended = _motion((0.0, MAX_GRIPPER_WIDTH), moved_to(MAX_GRIPPER_WIDTH))
    gripper.start(motion)
    widths = _run(gripper)
    assert ended == [""]
    assert min(widths) == pytest.approx(0.0, abs=1e-9)
    assert widths[-1] == pytest.approx(MAX_GRIPPER_WIDTH)


def test_stopping_and_replacing_end_a_motion() -> None:
    gripper = GripperController(MAX_GRIPPER_WIDTH)
    assert not gripper.stop(0.08)
    (first, first_ended), (second, second_ended) = (_motion((0.0,), moved_to(0.0)) for _ in range(2))
    gripper.start(first)
    gripper.start(second)
    assert first_ended == ["replaced by a new command"]
    assert gripper.stop(0.06)
    assert second_ended == ["stopped"]
    assert gripper.command == 0.06


@pytest.mark.parametrize(
    ("width", "speed"), [(-0.01, 0.1), (0.09, 0.1), (float("nan"), 0.1), (0.05, 0.0), (0.05, float("nan"))]
)
def test_impossible_motions_are_refused_and_change_nothing(width: float, speed: float) -> None:
    gripper = GripperController(0.05)
    with pytest.raises(ConfigError, match="out of range"):
        gripper.start(_motion((width,), moved_to(0.05), speed)[0])
    assert not gripper.busy
    assert gripper.command == 0.05
