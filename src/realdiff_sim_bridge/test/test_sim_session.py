"""The running simulation behind the node; no ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from realdiff_core.contract import HARDWARE_COMPONENT, ROBOT_STATE
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import DepthKind
from realdiff_sim_bridge.bridge.external_force import ExternalForce
from realdiff_sim_bridge.bridge.gripper_controller import Motion, moved_to
from realdiff_sim_bridge.bridge.robot import HardwareState, RobotMode
from realdiff_sim_bridge.bridge.robot_state import STATE_TOPICS
from realdiff_sim_bridge.bridge.session import START_NS, Session, SessionSettings
from realdiff_sim_bridge.bridge.trajectory import TrajectoryError, Waypoint
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.kinematics import ArmKinematics
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, READY_POSITIONS
from realdiff_sim_bridge.streams import extrinsics
from sim_fixtures import can_to_plate, needs_gl

from realdiff_core import topics

REST = [0.0] * 7
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
    start = session.commanded.joint_positions
    goal = start + 0.3
    session.arm.accept(ARM_JOINTS, [Waypoint(0.5, goal, REST)], 0, session.time_ns)
    for _ in range(10):
        session.advance()
    middle = session.commanded.joint_positions
    assert np.all((middle > start) & (middle < goal))
    session.arm.accept(ARM_JOINTS, [Waypoint(0.3, start, REST)], 0, session.time_ns)
    for _ in range(60):
        session.advance()
    assert not session.arm.busy
    assert np.allclose(session.state().robot.arm_positions, start, atol=5e-3)


@needs_gl
def test_the_hand_moves_and_reports_as_the_driver(session: Session) -> None:
    ended: list[str] = []
    session.gripper.start(Motion((0.02,), 0.1, moved_to(0.02), ended.append))
    stamps, last = [], None
    for _ in range(120):
        for message in session.advance():
            if message.topic == topics.GRIPPER_JOINT_STATES:
                stamps += _stamps([message], topics.GRIPPER_JOINT_STATES)
                last = message.fields
    assert ended == [""]
    assert session.state().robot.gripper_width == pytest.approx(0.02, abs=2e-3)
    assert last is not None
    assert last["position"][0] == last["position"][1] == pytest.approx(0.01, abs=1e-3)
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e9
    assert rate == pytest.approx(15.0, rel=0.05)


def _press_on_table(session: Session) -> None:
    """Sends the hand straight down, through the table."""
    kinematics = ArmKinematics()
    tcp = session.state().tcp
    joints = session.state().robot.arm_positions
    kinematics.reset(joints)
    points = []
    for k in range(1, 51):
        position = tcp.position - [0.0, 0.0, (tcp.position[2] + 0.03) * k / 50]
        for _ in range(5):
            joints = kinematics.step(Pose(position, tcp.quaternion), 0.05)
        points.append(Waypoint(0.08 * k, joints))
    session.arm.accept(ARM_JOINTS, points, 0, session.time_ns)


@needs_gl
def test_pressing_on_the_table_is_a_reflex_and_the_way_out_has_three_steps() -> None:
    events: list[str] = []
    session = Session(SMALL, lambda topic: topic in STATE_TOPICS, events.append)
    _press_on_table(session)
    modes, forces = [], []
    for _ in range(700):
        for message in session.advance():
            if message.topic == ROBOT_STATE:
                modes.append(message.fields["robot_mode"])
                forces.append(message.fields["o_f_ext_hat_k"]["wrench"]["force"]["z"])
        if modes and modes[-1] == RobotMode.REFLEX:
            break
    assert set(modes) == {RobotMode.MOVE, RobotMode.REFLEX}
    assert len(events) == 1
    assert "external force" in events[0]
    assert forces[-1] > session.settings.reflex.force  # the table pushes up
    assert abs(forces[0]) < 1.0
    held = session.state().robot.arm_positions
    for _ in range(25):
        session.advance()
    assert np.allclose(session.state().robot.arm_positions, held, atol=0.02)
    with pytest.raises(TrajectoryError, match="not active"):
        session.arm.accept(ARM_JOINTS, [Waypoint(1.0, READY_POSITIONS, REST)], 0, session.time_ns)
    session.robot.recover(session.time_ns)
    session.robot.set_hardware(HARDWARE_COMPONENT, HardwareState.ACTIVE)
    session.robot.set_controller(active=True)
    session.switch_arm_controller()
    session.arm.accept(ARM_JOINTS, [Waypoint(1.0, READY_POSITIONS, REST)], 0, session.time_ns)
    for _ in range(80):
        session.advance()
    assert len(events) == 1
    assert np.allclose(session.state().robot.arm_positions, READY_POSITIONS, atol=0.01)
    session.close()


@needs_gl
def test_a_reset_ends_the_reflex(session: Session) -> None:
    session.robot.watch(session.state().robot, ExternalForce(np.full(3, 1e3), np.zeros(3), np.zeros(7)))
    session.switch_arm_controller()
    assert not session.arm.active
    session.reset(5)
    assert session.arm.active
    session.arm.accept(ARM_JOINTS, [Waypoint(1.0, READY_POSITIONS, REST)], 0, session.time_ns)


@needs_gl
def test_an_exploding_scene_says_so_and_a_reset_mends_it(session: Session) -> None:
    scene = session._simulator
    scene.data.qvel[:] = 1e6
    with pytest.raises(SimulationError, match="unstable"):
        for _ in range(10):
            session.advance()
    session.reset(2)
    for _ in range(10):
        session.advance()
    assert np.allclose(session.state().robot.arm_positions, READY_POSITIONS, atol=0.2)


@needs_gl
def test_the_robots_state_agrees_with_the_scene() -> None:
    session = Session(SMALL, lambda topic: topic in STATE_TOPICS)
    session.arm.accept(ARM_JOINTS, [Waypoint(1.0, START + 0.2, REST)], 0, session.time_ns)
    for _ in range(30):
        messages = {message.topic: message.fields for message in session.advance()}
        state = messages.get(ROBOT_STATE, {})
    truth = session.state()
    position = state["o_t_ee"]["pose"]["position"]
    assert [position[axis] for axis in "xyz"] == pytest.approx(truth.tcp.position)
    np.testing.assert_array_equal(state["measured_joint_state"]["position"], truth.robot.arm_positions)
    desired = state["o_t_ee_d"]["pose"]["position"]
    moving = np.linalg.norm([state["o_dp_ee_d"]["twist"]["linear"][axis] for axis in "xyz"])
    assert np.linalg.norm([desired[axis] - position[axis] for axis in "xyz"]) < 0.02
    assert 0.02 < moving < 1.0
    session.close()


@needs_gl
def test_clouds_and_rgbd_are_made_of_the_same_frame() -> None:
    session = Session(replace(SMALL, points=True, rgbd=True))
    messages = {message.topic: message.fields for message in session.advance()}
    cloud, depth = messages[topics.POINTS], messages[topics.DEPTH_IMAGE]
    pixels = np.frombuffer(depth["data"], np.uint16)
    records = np.frombuffer(cloud["data"], np.dtype([("xyz", np.float32, 3), ("rgb", np.uint32)]))
    assert len(records) == cloud["width"] == np.count_nonzero(pixels)
    np.testing.assert_allclose(records["xyz"][:, 2], pixels[pixels > 0] * 1e-3, atol=6e-4)
    colours = np.frombuffer(messages[topics.COLOR_IMAGE]["data"], np.uint8).reshape(-1, 3).astype(np.uint32)
    known = set((colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]).tolist()) | {0}
    assert set(records["rgb"].tolist()) <= known
    combined = messages[topics.RGBD]
    assert combined["rgb"]["data"] == messages[topics.COLOR_IMAGE]["data"]
    assert combined["depth"]["data"] == messages[topics.ALIGNED_DEPTH_IMAGE]["data"]
    session.close()


def test_extrinsics_take_depth_points_to_colour() -> None:
    rig = camera_rig(can_to_plate())
    fields = extrinsics(rig).fields
    rotation = np.array(fields["rotation"]).reshape(3, 3, order="F")
    point = np.array([0.1, -0.2, 0.9])
    expected = (rig.colour_from_depth.matrix @ [*point, 1.0])[:3]
    np.testing.assert_allclose(rotation @ point + fields["translation"], expected)


@needs_gl
def test_the_stereo_sensor_is_labelled_and_differs() -> None:
    settings = replace(SMALL, width=424, height=240, rate_hz=50.0)
    session = Session(settings, lambda topic: topic == topics.DEPTH_IMAGE)
    depths = {}
    for name, kind in (("clean", DepthKind.CLEAN_SIM), ("stereo", DepthKind.STEREO_SIM)):
        session.set_sensor(name)
        assert set(session.provenance().depth.values()) == {kind}
        latched = next(message for message in session.latched() if message.topic == topics.PROVENANCE)
        assert set(latched.fields["kinds"]) == {kind.msg_value}
        images = [m for _ in range(2) for m in session.advance() if m.topic == topics.DEPTH_IMAGE]
        depths[name] = np.frombuffer(images[0].fields["data"], np.uint16).astype(float)
    holes = {name: np.mean(depth == 0) for name, depth in depths.items()}
    assert holes["stereo"] > holes["clean"]
    both = (depths["stereo"] > 0) & (depths["clean"] > 0)
    error = np.abs(depths["stereo"] - depths["clean"])[both]
    assert 0.0 < np.median(error) < 40.0  # [mm], at half the resolution
    session.close()


@needs_gl
def test_expert_plays_on_and_refuses_other_commands() -> None:
    settings = SessionSettings(rate_hz=1.0, width=32, height=24, behaviour="expert", seed=20)
    session = Session(settings, lambda topic: False)
    with pytest.raises(ConfigError, match="expert"):
        session.refuse_expert("a gripper command")
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
