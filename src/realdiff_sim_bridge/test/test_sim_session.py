"""The running simulation behind the node, and the arm's trajectories; no ROS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.bridge.session import START_NS, Session, SessionSettings
from realdiff_sim_bridge.bridge.trajectory import (
    INVALID_GOAL,
    INVALID_JOINTS,
    JointTrajectory,
    TrajectoryError,
    Waypoint,
)
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, READY_POSITIONS
from sim_fixtures import needs_gl

from realdiff_core import topics

SMALL = SessionSettings(rate_hz=25.0, width=64, height=48)
START = np.array(READY_POSITIONS)


@pytest.fixture
def session() -> Iterator[Session]:
    result = Session(SMALL)
    yield result
    result.close()


def _stamps(messages, topic: str) -> list[int]:
    found = [message.fields for message in messages if message.topic == topic]
    return [f["header"]["stamp"]["sec"] * 10**9 + f["header"]["stamp"]["nanosec"] for f in found]


@needs_gl
def test_time_never_goes_back_over_resets(session: Session) -> None:
    stamps = []
    for reset in (None, 3, 3):
        if reset is not None:
            session.reset(reset)
        for _ in range(10):
            messages = session.advance()
            clock = messages[0]
            assert clock.topic == topics.CLOCK
            stamps.append(clock.fields["clock"]["sec"] * 10**9 + clock.fields["clock"]["nanosec"])
            assert set(_stamps(messages, topics.COLOR_IMAGE)) <= {stamps[-1]}
    assert stamps[0] == START_NS
    assert np.all(np.diff(stamps) > 0)
    assert session.episode == 2


@needs_gl
def test_camera_keeps_its_rate(session: Session) -> None:
    frames = [stamp for _ in range(40) for stamp in _stamps(session.advance(), topics.DEPTH_IMAGE)]
    assert len(frames) > 10
    assert set(np.diff(frames)) == {40_000_000}


@needs_gl
def test_nothing_is_rendered_for_nobody() -> None:
    wanted = {topics.DEPTH_IMAGE}
    session = Session(SMALL, wanted.__contains__)
    sent = {message.topic for _ in range(3) for message in session.advance()}
    assert topics.DEPTH_IMAGE in sent
    assert not sent & {topics.COLOR_IMAGE, topics.ALIGNED_DEPTH_IMAGE}
    assert {topics.COLOR_INFO, topics.ALIGNED_DEPTH_INFO} <= sent
    session.close()


@needs_gl
def test_unknown_task_changes_nothing(session: Session) -> None:
    before = session.time_ns, session.episode, session.task.name
    with pytest.raises(ConfigError, match="unknown task"):
        session.reset(1, "juggle")
    assert (session.time_ns, session.episode, session.task.name) == before
    assert "seed 4" in session.reset(4, "can_to_plate")


@needs_gl
def test_trajectory_is_followed_and_replaced(session: Session) -> None:
    start = session.trajectory_start
    goal = start + 0.3
    session.follow(JointTrajectory(ARM_JOINTS, [Waypoint(0.5, goal, [0.0] * 7)], start))
    for _ in range(10):
        session.advance()
    assert session.busy
    middle = session.trajectory_start
    session.follow(JointTrajectory(ARM_JOINTS, [Waypoint(0.3, start, [0.0] * 7)], middle))
    assert np.all((middle > start) & (middle < goal))
    while session.busy:
        session.advance()
    for _ in range(10):
        session.advance()
    assert np.allclose(session.state().robot.arm_positions, start, atol=5e-3)


@needs_gl
def test_gripper_width_is_checked(session: Session) -> None:
    for width in (-0.01, 0.09, float("nan")):
        with pytest.raises(ConfigError, match="width"):
            session.grip(width)
    session.grip(0.02)
    for _ in range(60):
        session.advance()
    assert session.state().robot.gripper_width == pytest.approx(0.02, abs=2e-3)


@needs_gl
def test_expert_plays_on_and_refuses_other_commands() -> None:
    settings = SessionSettings(rate_hz=1.0, width=32, height=24, behaviour="expert", seed=20)
    session = Session(settings, lambda topic: False)
    with pytest.raises(ConfigError, match="expert"):
        session.grip(0.02)
    succeeded = False
    for _ in range(1200):
        messages = session.advance()
        succeeded |= any(m.topic == topics.TASK_STATUS and m.fields["success"] for m in messages)
        if session.next_episode():
            break
    assert succeeded
    assert (session.seed, session.episode) == (21, 1)
    assert any(message.topic == topics.COMMANDED_ACTION for message in session.advance())
    session.close()


def _points(*times: float) -> list[Waypoint]:
    return [Waypoint(time, START + 0.1 * k, [0.0] * 7) for k, time in enumerate(times, start=1)]


def test_trajectory_goes_through_its_points_in_any_order_of_joints() -> None:
    order = list(reversed(ARM_JOINTS))
    points = [Waypoint(0.5, (START + 0.1)[::-1], [0.2] * 7), Waypoint(1.0, (START + 0.3)[::-1], [0.0] * 7)]
    trajectory = JointTrajectory(order, points, START)
    assert trajectory.duration_s == 1.0
    for time, expected in ((-1.0, START), (0.0, START), (0.5, START + 0.1), (1.0, START + 0.3), (9.0, START + 0.3)):
        assert np.allclose(trajectory.sample(time), expected)
    # The spline has the velocities that were asked for.
    assert np.allclose((trajectory.sample(0.501) - trajectory.sample(0.499)) / 0.002, 0.2, atol=1e-3)


def test_positions_only_are_joined_by_straight_lines() -> None:
    trajectory = JointTrajectory(ARM_JOINTS, [Waypoint(1.0, START + 1.0)], START)
    assert np.allclose(trajectory.sample(0.25), START + 0.25)


@pytest.mark.parametrize(
    ("joints", "points", "code"),
    [
        (ARM_JOINTS[:6], _points(1.0), INVALID_JOINTS),
        ((*ARM_JOINTS[:6], "wrist"), _points(1.0), INVALID_JOINTS),
        (ARM_JOINTS, [], INVALID_GOAL),
        (ARM_JOINTS, _points(1.0, 1.0), INVALID_GOAL),
        (ARM_JOINTS, _points(-1.0), INVALID_GOAL),
        (ARM_JOINTS, [Waypoint(1.0, [0.0] * 6)], INVALID_GOAL),
        (ARM_JOINTS, [Waypoint(1.0, [float("nan")] * 7)], INVALID_GOAL),
        (ARM_JOINTS, [Waypoint(1.0, START, [float("inf")] * 7)], INVALID_GOAL),
    ],
)
def test_wrong_trajectories_are_refused(joints, points, code: int) -> None:
    with pytest.raises(TrajectoryError) as caught:
        JointTrajectory(joints, points, START)
    assert caught.value.code == code
