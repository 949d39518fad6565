"""The arm's controller without ROS: curves against SciPy, tolerances, refusals, error codes, replacement, stamps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from realdiff_sim_bridge.bridge.arm_controller import ArmController, ControllerSettings, Goal, Outcome, Tolerances
from realdiff_sim_bridge.bridge.limits import LOWER, UPPER, VELOCITY
from realdiff_sim_bridge.bridge.trajectory import (
    GOAL_TOLERANCE,
    INVALID_GOAL,
    PATH_TOLERANCE,
    SUCCESSFUL,
    BeyondRobotError,
    JointSample,
    JointTrajectory,
    TrajectoryError,
    Waypoint,
)
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, READY_POSITIONS, robot_spec
from scipy.interpolate import BPoly, CubicHermiteSpline

START = np.array(READY_POSITIONS)
REST = [0.0] * 7
PERIOD = 20_000_000
T0 = 5_000_000_000


def test_limits_are_those_of_the_model() -> None:
    model = robot_spec(visuals=False).compile()
    ranges = np.array([model.joint(name).range for name in ARM_JOINTS])
    np.testing.assert_allclose(ranges[:, 0], LOWER)
    np.testing.assert_allclose(ranges[:, 1], UPPER)


def _points(*offsets_times: tuple[float, float], rest: bool = True) -> list[Waypoint]:
    return [Waypoint(time, START + offset, REST if rest else ()) for offset, time in offsets_times]


@pytest.mark.parametrize("order", [ARM_JOINTS, tuple(reversed(ARM_JOINTS))])
def test_velocities_make_the_curve_cubic(order) -> None:
    rng = np.random.default_rng(0)
    times = np.array([0.0, 0.4, 1.0])
    positions = START + rng.uniform(-0.1, 0.1, (3, 7))
    velocities = np.vstack([rng.uniform(-0.5, 0.5, (2, 7)), np.zeros(7)])
    index = [ARM_JOINTS.index(name) for name in order]
    points = [Waypoint(t, p[index], v[index]) for t, p, v in zip(times, positions, velocities, strict=True)]
    trajectory = JointTrajectory(order, points)
    reference = CubicHermiteSpline(times, positions, velocities)
    for time in np.linspace(0, 0.999, 23):
        sample = trajectory.sample(float(time))
        np.testing.assert_allclose(sample.positions, reference(time), atol=1e-12)
        np.testing.assert_allclose(sample.velocities, reference(time, 1), atol=1e-9)
        np.testing.assert_allclose(sample.accelerations, reference(time, 2), atol=1e-8)


def test_accelerations_make_the_curve_quintic() -> None:
    rng = np.random.default_rng(1)
    times = np.array([0.0, 0.5, 1.3])
    values = np.stack(
        [START + rng.uniform(-0.1, 0.1, (3, 7)), rng.uniform(-0.3, 0.3, (3, 7)), rng.normal(0, 1, (3, 7))]
    )
    values[1, -1] = 0.0
    points = [Waypoint(t, *values[:, k]) for k, t in enumerate(times)]
    trajectory = JointTrajectory(ARM_JOINTS, points)
    reference = BPoly.from_derivatives(times, values.transpose(1, 0, 2))
    for time in np.linspace(0, 1.299, 29):
        sample = trajectory.sample(float(time))
        np.testing.assert_allclose(sample.positions, reference(time), atol=1e-10)
        np.testing.assert_allclose(sample.velocities, reference(time, 1), atol=1e-9)
        np.testing.assert_allclose(sample.accelerations, reference(time, 2), atol=1e-8)


def test_positions_only_are_joined_by_straight_lines_and_ends_hold() -> None:
    trajectory = JointTrajectory(ARM_JOINTS, _points((0.0, 0.0), (1.0, 2.0), rest=False))
    assert np.allclose(trajectory.sample(0.5).positions, START + 0.25)
    assert np.allclose(trajectory.sample(0.5).velocities, 0.5)
    assert np.allclose(trajectory.sample(9.0).positions, START + 1.0)
    assert np.allclose(trajectory.sample(9.0).velocities, 0.0)
    assert np.allclose(trajectory.sample(-1.0).positions, START)


def _beyond(joint: int, value: float) -> np.ndarray:
    positions = START.copy()
    positions[joint] = value
    return positions


@pytest.mark.parametrize(
    ("joints", "points", "error", "message"),
    [
        (ARM_JOINTS[:6], _points((0.1, 1.0)), TrajectoryError, "other joints"),
        ((*ARM_JOINTS[:6], "wrist"), _points((0.1, 1.0)), TrajectoryError, "other joints"),
        ((*ARM_JOINTS[:6], ARM_JOINTS[0]), _points((0.1, 1.0)), TrajectoryError, "other joints"),
        ((), _points((0.1, 1.0)), TrajectoryError, "other joints"),
        (ARM_JOINTS, [], TrajectoryError, "no points"),
        (ARM_JOINTS, _points((0.1, 1.0), (0.2, 1.0)), TrajectoryError, "increase"),
        (ARM_JOINTS, _points((0.1, -1.0)), TrajectoryError, "increase"),
        (ARM_JOINTS, _points((0.1, float("nan"))), TrajectoryError, "increase"),
        (ARM_JOINTS, [Waypoint(1.0, [0.0] * 6)], TrajectoryError, "number of positions"),
        (ARM_JOINTS, [Waypoint(1.0, START, [0.0] * 3)], TrajectoryError, "number of velocities"),
        (ARM_JOINTS, [Waypoint(1.0, [float("nan")] * 7)], BeyondRobotError, "NaN"),
        (ARM_JOINTS, [Waypoint(1.0, START, [float("inf")] * 7)], BeyondRobotError, "NaN"),
        (ARM_JOINTS, [Waypoint(1.0, START, REST, [float("nan")] * 7)], BeyondRobotError, "NaN"),
        (ARM_JOINTS, [Waypoint(1.0, START, [0.1] * 7)], TrajectoryError, "last point has a velocity"),
        (ARM_JOINTS, [Waypoint(1.0, _beyond(3, 0.0), REST)], BeyondRobotError, "fr3_joint4 leaves its limits"),
        (ARM_JOINTS, [Waypoint(1.0, START, [3, *REST[1:]]), *_points((0.0, 2.0))], BeyondRobotError, "joint1 leaves"),
        (ARM_JOINTS, _points((0.0, 0.0), (0.5, 0.1)), BeyondRobotError, "faster than it can"),
    ],
)  # fmt: skip
def test_wrong_trajectories_are_refused_and_change_nothing(joints, points, error, message) -> None:
    """TrajectoryError: the real controller rejects it; BeyondRobotError: it accepts and the robot stops by a reflex."""
    arm = ArmController(ControllerSettings(), START)
    with pytest.raises(error, match=message) as caught:
        arm.accept(joints, points, 0, T0)
    assert type(caught.value) is error
    assert not arm.busy


def test_some_joints_are_enough_if_allowed_and_the_others_stay() -> None:
    arm = ArmController(ControllerSettings(allow_partial_joints_goal=True), START)
    arm.accept(["fr3_joint7"], [Waypoint(0.2, [1.0], [0.0])], 0, T0)
    _run(arm, 20)
    np.testing.assert_allclose(arm.state.output, _beyond(6, 1.0))


def _run(arm: ArmController, periods: int, *, now_ns: int = T0, follow: float = 1.0) -> list[np.ndarray]:
    """Runs a controller whose arm goes where it is told (or only a share of the way); returns the outputs."""
    outputs, position = [], arm.state.measured.positions.copy()
    for k in range(periods):
        velocity = np.zeros(7) if not outputs else (arm.state.output - position) / (PERIOD * 1e-9)
        position = position + follow * (arm.state.output - position)
        moving = arm.busy and arm.state.elapsed_s < 10.0
        measured = JointSample(position, velocity if moving and follow else np.zeros(7), np.zeros(7))
        outputs.append(arm.update(now_ns + k * PERIOD, measured))
    return outputs


def _goal(**tolerances: object) -> tuple[Goal, list[Outcome]]:
    ended: list[Outcome] = []
    values = {"path": 0.0, "path_velocity": 0.0, "goal": 0.0, "goal_velocity": 0.0, **tolerances}
    time_s = float(values.pop("goal_time_s", 0.0))
    return Goal(Tolerances(*(np.full(7, float(value)) for value in values.values()), time_s), ended.append), ended


def test_a_goal_succeeds_when_it_is_reached() -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal(goal=0.001)
    arm.accept(ARM_JOINTS, _points((0.1, 0.5)), 0, T0, goal)
    _run(arm, 24)
    assert ended == []
    _run(arm, 5, now_ns=T0 + 24 * PERIOD)
    assert [outcome.code for outcome in ended] == [SUCCESSFUL]
    assert not arm.busy
    np.testing.assert_allclose(arm.state.output, START + 0.1)


def test_path_tolerance_ends_the_motion_where_the_arm_is() -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal(path=0.02)
    arm.accept(ARM_JOINTS, _points((0.5, 1.0)), 0, T0, goal)
    outputs = _run(arm, 60, follow=0.0)  # the arm is stuck
    assert [outcome.code for outcome in ended] == [PATH_TOLERANCE]
    assert "fr3_joint" in ended[0].message
    np.testing.assert_allclose(outputs[-1], START, atol=1e-12)


@pytest.mark.parametrize("goal_time_s", [0.0, 0.3])
def test_goal_time_zero_waits_for_ever(goal_time_s: float) -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal(goal=0.01, goal_time_s=goal_time_s)
    arm.accept(ARM_JOINTS, _points((0.5, 0.5)), 0, T0, goal)
    _run(arm, 1000, follow=0.0)
    assert [outcome.code for outcome in ended] == ([GOAL_TOLERANCE] if goal_time_s else [])
    assert arm.busy != bool(goal_time_s)


def test_tolerance_zero_is_off() -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal()
    arm.accept(ARM_JOINTS, _points((0.5, 0.5)), 0, T0, goal)
    _run(arm, 40, follow=0.0)
    assert [outcome.code for outcome in ended] == [SUCCESSFUL]


def test_a_new_goal_replaces_the_old_without_a_jump() -> None:
    arm = ArmController(ControllerSettings(), START)
    (first, ended), (second, _) = _goal(), _goal()
    arm.accept(ARM_JOINTS, _points((1.0, 2.0)), 0, T0, first)
    before = _run(arm, 50)
    arm.accept(ARM_JOINTS, _points((0.0, 2.0)), 0, T0 + 50 * PERIOD, second)
    assert [(outcome.code, outcome.cancelled) for outcome in ended] == [(INVALID_GOAL, False)]
    after = _run(arm, 120, now_ns=T0 + 50 * PERIOD)
    path = np.array(before + after)
    speed = np.diff(path, axis=0) / 0.02
    assert np.abs(np.diff(speed, axis=0)).max() < 0.1  # a stop at once would be a step of 0.75 rad/s
    np.testing.assert_allclose(path[-1], START, atol=1e-9)


def test_a_trajectory_from_the_topic_moves_the_arm_and_keeps_the_goal() -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal()
    arm.accept(ARM_JOINTS, _points((0.3, 1.0)), 0, T0, goal)
    _run(arm, 10)
    arm.accept(ARM_JOINTS, _points((0.1, 0.5)), 0, T0 + 10 * PERIOD)
    assert ended == []
    _run(arm, 40, now_ns=T0 + 10 * PERIOD)
    assert [outcome.code for outcome in ended] == [SUCCESSFUL]
    np.testing.assert_allclose(arm.state.output, START + 0.1)


def test_stamps_start_in_the_future_join_from_the_past_and_expire() -> None:
    arm = ArmController(ControllerSettings(), START)
    line = _points((0.0, 0.0), (0.4, 1.0), rest=False)
    arm.accept(ARM_JOINTS, line, T0 + 500_000_000, T0)
    outputs = _run(arm, 26)
    np.testing.assert_allclose(outputs[20], START, atol=1e-9)  # it has not begun
    outputs = _run(arm, 60, now_ns=T0 + 500_000_000)
    np.testing.assert_allclose(outputs[-1], START + 0.4)

    arm = ArmController(ControllerSettings(), START)
    arm.accept(ARM_JOINTS, line, T0 - 500_000_000, T0)
    outputs = _run(arm, 40)
    # It joins in the middle, as fast as the joints can, and is in time from then on.
    assert np.abs(np.diff([START, *outputs], axis=0)).max() <= (VELOCITY * 0.02).max() + 1e-9
    np.testing.assert_allclose(outputs[10], START + 0.4 * (0.5 + 11 * 0.02), atol=1e-9)

    with pytest.raises(TrajectoryError, match="past") as caught:
        arm.accept(ARM_JOINTS, line, T0 - 2_000_000_000, T0)
    assert not isinstance(caught.value, BeyondRobotError)


def test_a_first_point_that_is_too_far_for_its_time_is_refused() -> None:
    arm = ArmController(ControllerSettings(), START)
    with pytest.raises(TrajectoryError, match="up to the first point"):
        arm.accept(ARM_JOINTS, _points((0.5, 0.02)), 0, T0)


def test_a_moving_end_is_allowed_on_demand_and_then_holds() -> None:
    arm = ArmController(ControllerSettings(allow_nonzero_velocity_at_trajectory_end=True), START)
    arm.accept(ARM_JOINTS, [Waypoint(0.5, START + 0.1, [0.2] * 7)], 0, T0)
    outputs = _run(arm, 40)
    np.testing.assert_allclose(outputs[-1], START + 0.1)


def test_cancelling_holds_and_an_old_goal_can_no_longer_cancel() -> None:
    arm = ArmController(ControllerSettings(), START)
    (first, _), (second, ended) = _goal(), _goal()
    for goal in (first, second):
        arm.accept(ARM_JOINTS, _points((1.0, 2.0)), 0, T0, goal)
    outputs = _run(arm, 30)
    arm.cancel(first)
    assert arm.busy
    arm.cancel(second)
    assert [(outcome.code, outcome.cancelled) for outcome in ended] == [(SUCCESSFUL, True)]
    assert np.abs(_run(arm, 3, now_ns=T0 + 30 * PERIOD)[-1] - outputs[-1]).max() < 0.05
    assert not arm.busy


def test_without_its_controller_the_arm_stays_and_refuses() -> None:
    arm = ArmController(ControllerSettings(), START)
    goal, ended = _goal()
    arm.accept(ARM_JOINTS, _points((1.0, 2.0)), 0, T0, goal)
    _run(arm, 10)
    arm.deactivate("reflex")
    assert [(outcome.code, outcome.message) for outcome in ended] == [(INVALID_GOAL, "reflex")]
    outputs = _run(arm, 3)
    assert all(np.array_equal(a, b) for a, b in itertools.pairwise(outputs))
    with pytest.raises(TrajectoryError, match="not active"):
        arm.accept(ARM_JOINTS, _points((0.1, 1.0)), 0, T0)
    arm.activate()
    arm.accept(ARM_JOINTS, _points((0.1, 1.0)), 0, T0)


def test_the_desired_state_can_be_asked_for() -> None:
    arm = ArmController(ControllerSettings(), START)
    assert "no trajectory" in arm.query(T0)[1]
    arm.accept(ARM_JOINTS, _points((0.0, 0.0), (0.4, 1.0), rest=False), 0, T0)
    _run(arm, 2)
    sample, reason = arm.query(T0 + 250_000_000)
    assert reason == ""
    np.testing.assert_allclose(sample.positions, START + 0.1)
    np.testing.assert_allclose(sample.velocities, 0.4)
    assert "after" in arm.query(T0 + 2_000_000_000)[1]
    assert "before" in arm.query(T0 - 1)[1]
