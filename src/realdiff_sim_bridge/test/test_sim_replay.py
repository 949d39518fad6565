"""An episode bag as a simulator: recorded states and pictures by time, commands checked, nothing mislabelled."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.depth import depth_to_metres
from realdiff_core.errors import BagError, ConfigError
from realdiff_core.image import image_to_numpy
from realdiff_core.messages import to_ns
from realdiff_core.provenance import DepthKind
from realdiff_sim_bridge.adapters import Command, create
from realdiff_sim_bridge.adapters.replay_adapter import ReplaySimulator
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.recorder import Recorder, Settings
from sim_fixtures import can_to_plate, needs_gl, quick_task

from realdiff_core import topics

pytestmark = needs_gl
VARIANTS = list(itertools.product(("mcap", "sqlite3"), ("16UC1", "32FC1")))


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder, paths = tmp_path_factory.mktemp("replay"), {}
    for storage, encoding in VARIANTS:
        settings = Settings(rate_hz=10.0, width=80, height=60, encoding=encoding, quality="fast")
        recorder = Recorder(quick_task(), settings, storage)
        paths[storage, encoding] = folder / f"{storage}_{encoding}"
        assert recorder.record(paths[storage, encoding], seed=5, episode=0).success
        recorder.close()
    return paths


def _replay(bag: Path) -> ReplaySimulator:
    task = can_to_plate()
    simulator = create("replay", task, camera_rig(task), bag=bag)
    assert isinstance(simulator, ReplaySimulator)
    return simulator


def _messages(bag: Path, topic: str) -> list:
    with BagReader(bag) as reader:
        return [reader.deserialize(raw) for raw in reader.messages([topic])]


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_and_pictures_are_the_recorded_ones(bags: dict[tuple[str, str], Path], variant: tuple[str, str]) -> None:
    bag = bags[variant]
    replay = _replay(bag)
    states = _messages(bag, topics.JOINT_STATES)
    start = to_ns(states[0].header.stamp)
    colours, depths = _messages(bag, topics.COLOR_IMAGE), _messages(bag, topics.DEPTH_IMAGE)
    objects = _messages(bag, topics.OBJECT_POSES)
    assert replay.duration_ns == to_ns(states[-1].header.stamp) - start
    for time_ns in (0, 96_000_000, 100_000_000, 130_000_000, 260_000_000, 250_000_000, 10**12):
        if time_ns < replay.time_ns:
            replay.reset(7)
        replay.advance_to(time_ns)
        now = start + time_ns

        def latest(messages: list, now: int = now) -> object:
            return [message for message in messages if to_ns(message.header.stamp) <= now][-1]

        state = replay.state()
        assert np.array_equal(state.robot.positions, latest(states).position)
        assert np.array_equal(state.robot.velocities, latest(states).velocity)
        recorded = latest(objects)
        for name, pose in zip(recorded.names, recorded.poses, strict=True):
            assert state.objects[name].position.tolist() == [pose.position.x, pose.position.y, pose.position.z]
        assert np.array_equal(replay.render("colour"), image_to_numpy(latest(colours)))
        depth = latest(depths)
        expected = depth_to_metres(image_to_numpy(depth), depth.encoding)
        assert np.array_equal(replay.render("depth"), expected, equal_nan=True)
    replay.close()


def test_links_cameras_and_origin_are_the_recorded_ones(bags: dict[tuple[str, str], Path]) -> None:
    bag = bags["mcap", "16UC1"]
    replay = _replay(bag)
    state = replay.state()
    frames = {item.child_frame_id: item for item in _messages(bag, topics.TF_STATIC)[0].transforms}
    frames |= {item.child_frame_id: item for item in _messages(bag, topics.TF)[0].transforms}

    def chain(frame: str) -> Pose:
        if frame == "base":
            return Pose.identity()
        item = frames[frame]
        t, r = item.transform.translation, item.transform.rotation
        return chain(item.header.frame_id) @ Pose(np.array([t.x, t.y, t.z]), np.array([r.x, r.y, r.z, r.w]))

    for name in ("fr3_link3", "fr3_link7", "fr3_hand", "fr3_leftfinger"):
        assert np.allclose(state.links[name].matrix, chain(name).matrix, atol=1e-6), name
    assert np.allclose(state.tcp.matrix, chain("fr3_hand_tcp").matrix, atol=1e-6)
    assert (replay.rig.colour.width, replay.rig.depth.height) == (80, 60)
    assert np.allclose(replay.rig.base_colour.matrix, chain(topics.COLOR_FRAME).matrix, atol=1e-9)
    assert np.allclose(replay.rig.base_depth.matrix, chain(topics.DEPTH_FRAME).matrix, atol=1e-9)
    assert replay.rig.depth.baseline_m == 0.05
    assert replay.depth_kind == DepthKind.CLEAN_SIM
    assert (replay.name, replay.version) == ("replay", bag.name)


def test_commands_are_checked_and_change_nothing(bags: dict[tuple[str, str], Path]) -> None:
    replay = _replay(bags["mcap", "32FC1"])
    before = replay.state().robot.positions.copy()
    replay.apply(Command(before[:7].copy(), 0.08))
    assert replay.worst_deviation_rad < 0.05
    replay.apply(Command(before[:7] + 0.3, 0.0))
    assert replay.worst_deviation_rad == pytest.approx(0.3, abs=0.05)
    replay.advance_to(2_000_000)
    assert np.abs(replay.state().robot.positions - before).max() < 0.01
    beyond = before[:7].copy()
    beyond[3] = 0.5
    for command, message in (
        (Command(np.full(7, np.nan), 0.0), "NaN"),
        (Command(before[:7], float("nan")), "NaN"),
        (Command(before[:6], 0.0), "7 finite numbers"),
        (Command(beyond, 0.0), "fr3_joint4"),
        (Command(before[:7], 0.2), "gripper's range"),
    ):
        with pytest.raises(SimulationError, match=message):
            replay.apply(command)
    replay.reset(0)
    assert replay.worst_deviation_rad == 0.0
    with pytest.raises(SimulationError, match="can't be varied"):
        replay.randomise(0, "looks")
    replay.randomise(0)


def test_the_bridge_serves_a_recording_under_its_own_label(bags: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    from realdiff_sim_bridge.bridge.session import Session, SessionSettings

    plain = _without(bags["sqlite3", "16UC1"], tmp_path / "real", topics.OBJECT_POSES, provenance=False)
    for bag, kind, source in (
        (bags["mcap", "16UC1"], DepthKind.CLEAN_SIM, "simulation"),
        (plain, DepthKind.SENSOR, "imported"),
    ):
        session = Session(SessionSettings(simulator="replay", bag=str(bag), rate_hz=10.0))
        record = session.provenance()
        assert set(record.depth.values()) == {kind}
        assert (record.source, record.simulator) == (source, f"replay {bag.name}")
        sent = {message.topic: message for _ in range(12) for message in session.advance()}
        assert sent[topics.COLOR_IMAGE].fields["width"] == 80
        assert sent[topics.DEPTH_INFO].fields["k"][0] == pytest.approx(_messages(bag, topics.DEPTH_INFO)[0].k[0])
        positions = np.array([message.position for message in _messages(bag, topics.JOINT_STATES)])
        assert np.abs(positions - sent[topics.JOINT_STATES].fields["position"]).max(axis=1).min() < 1e-9
        session.close()


def _without(bag: Path, target: Path, *dropped: str, provenance: bool = True) -> Path:
    with BagReader(bag) as reader, BagWriter(target) as writer:
        for name, info in reader.topics.items():
            if name not in dropped:
                writer.copy_topic(info)
        record = reader.provenance()
        if record is not None and provenance:
            writer.set_provenance(record)
        for raw in reader.messages():
            if raw.topic not in dropped:
                writer.write(raw.topic, raw.stamp_ns, raw.data)
    return target


def test_a_recording_of_the_real_robot_has_no_object_poses(bags: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    dropped = (topics.OBJECT_POSES, topics.TASK_STATUS, topics.TF_STATIC)
    replay = _replay(_without(bags["mcap", "16UC1"], tmp_path / "real", *dropped, provenance=False))
    state = replay.state()
    assert np.isnan(state.objects["can"].position).all()
    assert np.isnan(state.object_speeds["can"])
    assert replay.depth_kind == DepthKind.SENSOR  # never taken for clean
    planned = camera_rig(can_to_plate())
    assert np.allclose(replay.rig.base_colour.matrix, planned.base_colour.matrix)


def test_what_can_not_be_replayed_is_named(bags: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    task = can_to_plate()
    rig = camera_rig(task)
    bag = bags["mcap", "16UC1"]
    with pytest.raises(ConfigError, match="no episode"):
        create("replay", task, rig)
    with pytest.raises(ConfigError, match="can't be varied"):
        create("replay", task, rig, bag=bag, randomisation="all")
    with pytest.raises(BagError):
        create("replay", task, rig, bag=tmp_path / "nothing")
    with pytest.raises(ConfigError, match="another task") as caught:
        create("replay", task.model_copy(update={"name": "pick_cube"}), rig, bag=bag)
    assert "can_to_plate" in str(caught.value)
    for number, topic in enumerate((topics.JOINT_STATES, topics.COLOR_IMAGE, topics.DEPTH_INFO)):
        with pytest.raises(BagError):
            create("replay", task, rig, bag=_without(bag, tmp_path / f"{number}", topic))
