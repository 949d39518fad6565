"""MimicGen: cutting sources, moving segments, selection, playing them, and sources that must be refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.errors import BagError, OutputError
from realdiff_core.messages import to_ns
from realdiff_sim_bridge.commands import mimicgen as command
from realdiff_sim_bridge.errors import MotionError
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.mimicgen.demonstrations import Demonstration, Segment, load_demonstrations
from realdiff_sim_bridge.mimicgen.reach import first_reachable, reachable
from realdiff_sim_bridge.mimicgen.selection import select
from realdiff_sim_bridge.mimicgen.source import MimicGenSpec
from realdiff_sim_bridge.mimicgen.transform import angle, interpolate, move, relative
from realdiff_sim_bridge.recorder import Recorder
from realdiff_sim_bridge.recording.plan import Settings
from realdiff_sim_bridge.tasks import load_task
from scipy.spatial.transform import Rotation
from sim_fixtures import can_to_plate, needs_gl

from realdiff_core import topics

TINY = Settings(rate_hz=2.0, width=32, height=24, quality="fast")
SEEDS = (500, 501, 502)


def _pose(x: float, y: float, z: float, rotation: Rotation | None = None) -> Pose:
    turn = rotation or Rotation.identity()
    return Pose(np.array([x, y, z]), np.asarray(turn.as_quat(canonical=True)))


def _yaw(degrees: float) -> Rotation:
    return Rotation.from_euler("z", degrees, degrees=True)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three demonstrations of the scripted expert."""
    folder = tmp_path_factory.mktemp("sources")
    recorder = Recorder(can_to_plate(), TINY)
    for number, seed in enumerate(SEEDS):
        assert recorder.record(folder / f"demo_{number}", seed, number).success
    recorder.close()
    return folder


@pytest.fixture(scope="module")
def demonstrations(sources: Path) -> tuple[Demonstration, ...]:
    return load_demonstrations(sources, can_to_plate())


# --- moving segments


def test_relative_transform_keeps_the_hand_where_it_was_on_the_object() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        source, new, hand = (
            _pose(*random.normal(size=3), Rotation.random(random_state=random.integers(1 << 30))) for _ in range(3)
        )
        (transform,) = relative(source, new, 360.0)
        before = np.linalg.inv(source.matrix) @ hand.matrix
        after = np.linalg.inv(new.matrix) @ (transform @ hand).matrix
        assert np.allclose(before, after, atol=1e-12)


def test_symmetries_give_equivalent_transforms() -> None:
    source, new = _pose(0.5, 0.1, 0.02, _yaw(30.0)), _pose(0.4, -0.2, 0.02, _yaw(-160.0))
    transforms = relative(source, new, 90.0)
    turns = sorted(Rotation.from_quat(t.quaternion).as_euler("zyx", degrees=True)[0] % 360.0 for t in transforms)
    assert np.allclose(turns, [80.0, 170.0, 260.0, 350.0])
    for transform in transforms:  # each takes the source's object to the new place, up to a quarter turn
        assert np.allclose((transform @ source).position, new.position)
    (round_,) = relative(source, new, 0.0)
    assert angle(round_, Pose.identity()) < 1e-9, "a can's turn about its axis means nothing"
    assert np.allclose((round_ @ source).position, new.position)


def test_round_object_that_is_tilted_is_still_followed() -> None:
    source = _pose(0.5, 0.0, 0.0, _yaw(70.0))
    tilt = Rotation.from_euler("x", 20.0, degrees=True)
    new = _pose(0.4, 0.1, 0.0, tilt * _yaw(-100.0))
    (transform,) = relative(source, new, 0.0)
    axis = Rotation.from_quat((transform @ source).quaternion).apply([0.0, 0.0, 1.0])
    assert np.allclose(axis, tilt.apply([0.0, 0.0, 1.0]))


def test_flip_turns_the_hand_about_its_own_axis() -> None:
    hand = _pose(0.4, 0.1, 0.3, Rotation.from_euler("xyz", [170, 10, 20], degrees=True))
    (flipped,) = move((hand,), Pose.identity(), True)
    assert np.allclose(flipped.position, hand.position)
    assert np.allclose(hand.rotation.T @ flipped.rotation, np.diag([-1.0, -1.0, 1.0]), atol=1e-12)


def test_interpolation_goes_straight_and_turns_evenly() -> None:
    start, end = _pose(0.0, 0.0, 0.0), _pose(0.2, 0.0, 0.1, _yaw(90.0))
    middle = interpolate(start, end, 0.25)
    assert np.allclose(middle.position, [0.05, 0.0, 0.025])
    assert np.degrees(angle(start, middle)) == pytest.approx(22.5)


# --- reach


def test_reach_agrees_with_inverse_kinematics() -> None:
    """What is called reachable is reached by the controller; far beyond the limit nothing is."""
    from realdiff_sim_bridge.control import create_controller
    from realdiff_sim_bridge.scene.robot import READY_POSITIONS

    arm = create_controller("dik")
    down = Rotation.from_euler("x", 180, degrees=True)
    outcomes = []
    for x, y, z in [(0.45, 0.0, 0.3), (0.6, 0.2, 0.1), (0.6, -0.2, 0.2), (0.75, 0.3, 0.5), (0.85, 0.0, 0.4)]:
        arm.reset(np.array(READY_POSITIONS))
        target = _pose(x, y, z, down)
        for _ in range(200):
            arm.step(target, 0.02)
        outcomes.append((reachable(target), bool(np.linalg.norm(arm.tcp.position - target.position) < 2e-3)))
    assert outcomes == [(True, True)] * 3 + [(False, False)] * 2


def test_segment_is_entered_where_it_comes_into_reach() -> None:
    down = Rotation.from_euler("x", 180, degrees=True)
    poses = tuple(_pose(x, 0.0, 0.3, down) for x in (0.95, 0.85, 0.60, 0.55, 0.5))
    open_, late, soon = np.full(5, 0.08), np.array([8, 8, 8, 8, 0]) * 0.01, np.array([8, 8, 0, 0, 0]) * 0.01
    assert first_reachable(poses, open_) == 2
    assert first_reachable(poses, late) == 2
    assert first_reachable(poses, soon) == 0, "never enter after the fingers have moved"
    assert first_reachable(poses[2:], open_[2:]) == 0


# --- selection


def _segment(name: str, reference: Pose, start: Pose) -> Segment:
    return Segment(name, "pick", np.array([0.0, 1.0]), (start, start), np.array([0.08, 0.08]), reference)


def _chosen(selection: str, segments: list[Segment], neighbours: int, draws: int = 40) -> set[str]:
    random = np.random.default_rng(0)
    down = Rotation.from_euler("x", 180, degrees=True)
    return {
        select(
            selection, segments, reference=_pose(0.5, 0.0, 0.0), symmetry_deg=360.0, hand=_pose(0.5, 0.0, 0.5, down),
            upright=_pose(0.0, 0.0, 0.0, down), neighbours=neighbours, random=random,
        )[0].source
        for _ in range(draws)
    }  # fmt: skip


def test_selection_strategies() -> None:
    down = Rotation.from_euler("x", 180, degrees=True)
    segments = [
        # Name, object, beginning of the hand; moved to the object at (0.5, 0, 0) it begins at 0.5 + (start - object).
        _segment("near_object", _pose(0.52, 0.0, 0.0), _pose(0.92, 0.0, 0.5, down)),
        _segment("turned_object", _pose(0.50, 0.0, 0.0, _yaw(50.0)), _pose(0.80, 0.0, 0.5, down)),
        _segment("far_object", _pose(0.30, 0.3, 0.0), _pose(0.31, 0.3, 0.5, down)),
        _segment("farther", _pose(0.20, 0.4, 0.0), _pose(0.25, 0.4, 0.5, down)),
    ]
    assert _chosen("random", segments, 1) == {segment.source for segment in segments}
    assert _chosen("nearest_object", segments, 1) == {"near_object"}
    assert _chosen("nearest_object", segments, 2) == {"near_object", "far_object"}
    assert _chosen("nearest_robot_distance", segments, 1) == {"far_object"}
    assert _chosen("nearest_robot_distance", segments, 2) == {"far_object", "farther"}
    assert len(_chosen("nearest_object", segments, 99)) == 4


def test_hand_turns_as_little_as_possible() -> None:
    """An object turned by 170° is gripped with the hand turned by -10°: its fingers are alike."""
    down = Rotation.from_euler("x", 180, degrees=True)
    upright = _pose(0.0, 0.0, 0.0, down)
    _, poses = select(
        "random", [_segment("only", _pose(0.5, 0.0, 0.0), _pose(0.5, 0.0, 0.2, down))],
        reference=_pose(0.5, 0.0, 0.0, _yaw(170.0)), symmetry_deg=360.0, hand=upright, upright=upright, neighbours=1,
        random=np.random.default_rng(0),
    )  # fmt: skip
    assert np.degrees(angle(poses[0], upright)) == pytest.approx(10.0)


# --- sources


@needs_gl
def test_sources_are_cut_into_subtasks(sources: Path, demonstrations: tuple[Demonstration, ...]) -> None:
    assert [item.name for item in demonstrations] == ["demo_0", "demo_1", "demo_2"]
    assert len({item.sha256 for item in demonstrations}) == 3
    for item in demonstrations:
        pick, place = item.segments
        assert (pick.subtask, place.subtask) == ("pick_can", "place_can")
        with BagReader(sources / item.name) as bag:
            actions = [bag.deserialize(raw) for raw in bag.messages([topics.COMMANDED_ACTION])]
            objects = [bag.deserialize(raw) for raw in bag.messages([topics.OBJECT_POSES])]
            statuses = [bag.deserialize(raw) for raw in bag.messages([topics.TASK_STATUS])]
        first = {}
        for status in statuses:
            first.setdefault(status.subtask, to_ns(status.header.stamp))
        assert first["place_can"] % 500_000_000 != 0, "a subtask's beginning doesn't wait for the next picture"
        assert np.allclose(np.diff(pick.times_s), 0.02)
        assert len(pick.poses) + len(place.poses) == round(first["finished"] / 20_000_000)
        assert pick.widths[0] == 0.08
        assert pick.widths[-1] < 0.06
        assert place.widths[-1] > 0.06
        assert np.allclose(pick.reference.position, [getattr(objects[0].poses[0].position, axis) for axis in "xyz"])
        wrist = actions[len(pick.poses)].end_effector_pose.position
        assert np.allclose(place.poses[0].position, [wrist.x, wrist.y, wrist.z])
        assert 0.05 < place.speed < 0.6


def _changed(source: Path, path: Path, *, leave_out: str = "", **provenance) -> Path:
    """A copy of a bag without a topic, or with another provenance."""
    with BagReader(source) as reader, BagWriter(path) as writer:
        for name, info in reader.topics.items():
            if name != leave_out:
                writer.copy_topic(info)
        for raw in reader.messages():
            if raw.topic != leave_out:
                writer.write(*raw)
        if provenance.pop("keep", True):
            writer.set_provenance(reader.provenance().model_copy(update=provenance))
    return path


@needs_gl
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leave_out": topics.OBJECT_POSES}, "lacks a topic"),
        ({"leave_out": topics.COMMANDED_ACTION}, "lacks a topic"),
        ({"leave_out": topics.TASK_STATUS}, "lacks a topic"),
        ({"task": "stack_cube"}, "shows another task"),
        ({"keep": False}, "shows another task"),
        ({"success": None}, "isn't a success"),
        ({"success": False}, "isn't a success"),
    ],
)
def test_unfit_sources_are_refused(sources: Path, tmp_path: Path, change: dict, message: str) -> None:
    _changed(sources / "demo_0", tmp_path / "given" / "demo", **change)
    with pytest.raises(BagError, match=message) as caught:
        load_demonstrations(tmp_path / "given", can_to_plate())
    assert "demo" in str(caught.value.where)


@needs_gl
def test_source_of_another_version_of_the_task_is_refused(sources: Path) -> None:
    task = can_to_plate()
    renamed = task.subtasks[1].model_copy(update={"name": "put_can"})
    with pytest.raises(BagError, match="subtasks in order") as caught:
        load_demonstrations(sources, task.model_copy(update={"subtasks": (task.subtasks[0], renamed)}))
    assert caught.value.expected == "pick_can, put_can"


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no episodes are here"):
        load_demonstrations(tmp_path, can_to_plate())
    with pytest.raises(BagError, match="folder doesn't exist"):
        load_demonstrations(tmp_path / "nowhere", can_to_plate())


# --- playing


@pytest.fixture(scope="module")
def recorder(demonstrations: tuple[Demonstration, ...]) -> Iterator[Recorder]:
    result = Recorder(can_to_plate(), TINY, source=MimicGenSpec(demonstrations))
    yield result
    result.close()


@needs_gl
def test_new_demonstrations_succeed_and_say_where_they_come_from(
    recorder: Recorder, demonstrations: tuple[Demonstration, ...], tmp_path: Path
) -> None:
    results = [recorder.record(tmp_path / f"new_{seed}", seed).success for seed in range(9000, 9006)]
    assert sum(results) >= 4
    with BagReader(tmp_path / f"new_{9000 + results.index(True)}") as bag:
        notes = bag.provenance().notes
    assert (notes["source"], notes["selection"], notes["noise"]) == ("mimicgen", "nearest_object", "0.05")
    assert json.loads(notes["sources"]) == {item.name: item.sha256 for item in demonstrations}
    assert notes["segments"].startswith("pick_can: demo_")
    assert "place_can: demo_" in notes["segments"]


def _targets(recorder: Recorder, spec: MimicGenSpec, seed: int) -> list[Pose]:
    """The hand's commanded poses in the first 100 steps, without physics."""
    source = spec.create(recorder.task)
    recorder.simulator.reset(seed)
    state = recorder.simulator.state()
    source.reset(state, seed)
    return [source.act(state).tcp for _ in range(100)]


@needs_gl
def test_noise_is_that_of_the_paper_and_spares_the_interpolation(
    recorder: Recorder, demonstrations: tuple[Demonstration, ...]
) -> None:
    """0.05 of an action space of 5 cm and 0.5 rad; none on the way to the segment's beginning."""
    calm, noisy = (MimicGenSpec(demonstrations, noise=noise) for noise in (0.0, 0.05))
    shifts, turns = [], []
    for seed in range(6):
        quiet, loud = _targets(recorder, calm, seed), _targets(recorder, noisy, seed)
        assert np.array_equal(quiet[0].position, loud[0].position)
        different = next(k for k in range(100) if not np.array_equal(quiet[k].position, loud[k].position))
        assert different >= 4, "at least five control steps of interpolation"
        shifts += [b.position - a.position for a, b in zip(quiet[different + 5 :], loud[different + 5 :], strict=True)]
        turns += [angle(a, b) for a, b in zip(quiet[different + 5 :], loud[different + 5 :], strict=True)]
    # Linear interpolation between draws takes the mean square down to 2/3 of that at the draws.
    assert np.std(shifts) == pytest.approx(0.0025 * np.sqrt(2 / 3), rel=0.25)
    assert np.sqrt(np.mean(np.square(turns))) == pytest.approx(0.025 * np.sqrt(3) * np.sqrt(2 / 3), rel=0.3)


@needs_gl
def test_without_noise_it_repeats_its_own_source(recorder: Recorder, demonstrations: tuple[Demonstration, ...]) -> None:
    """On the source's own start state the moved segment is the source segment."""
    spec = MimicGenSpec(demonstrations[:1], noise=0.0)
    source = spec.create(recorder.task)
    recorder.simulator.reset(SEEDS[0])
    state = recorder.simulator.state()
    source.reset(state, SEEDS[0])
    steps = [source.act(state) for _ in range(160)]
    expected = np.array([pose.position for pose in demonstrations[0].segments[0].poses])
    reached = np.array([step.tcp.position for step in steps])
    # The way to the beginning takes some steps; then one lies on the other.
    gaps = [np.abs(reached[k : k + 80] - expected[:80]).max() for k in range(20)]
    assert min(gaps) < 1e-3
    assert any(step.command.gripper_width < 0.06 for step in steps)


@needs_gl
def test_arm_that_cannot_follow_fails_with_a_reason(
    recorder: Recorder, demonstrations: tuple[Demonstration, ...]
) -> None:
    away = _pose(-0.6, 0.0, 0.0)
    segments = tuple(replace(segment, reference=away @ segment.reference) for segment in demonstrations[0].segments)
    source = MimicGenSpec((replace(demonstrations[0], segments=segments),)).create(recorder.task)
    recorder.simulator.reset(1)
    state = recorder.simulator.state()
    source.reset(state, 1)
    with pytest.raises(MotionError, match="can't follow") as caught:
        for _ in range(2000):
            source.act(state)
    assert "demo_0" in str(caught.value.where)


@needs_gl
def test_same_seed_gives_the_same_motion(recorder: Recorder, demonstrations: tuple[Demonstration, ...]) -> None:
    for controller in ("dik", "qp"):
        spec = MimicGenSpec(demonstrations, "random", controller)
        first, again, other = (_targets(recorder, spec, seed) for seed in (3, 3, 4))
        assert all(np.array_equal(a.position, b.position) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first[-1].position, other[-1].position)


# --- the command


@needs_gl
def test_command_records_and_resumes_only_with_the_same_sources(sources: Path, tmp_path: Path, capsys) -> None:
    small = ["--width", "32", "--height", "24", "--rate", "2", "--seed", "9000"]
    arguments = ["--task", "can_to_plate", "--episodes", "1", "-o", str(tmp_path / "data"), *small]
    assert command.main([*arguments, "--sources", str(sources)]) == 0
    assert "1 episodes in" in capsys.readouterr().out
    assert (tmp_path / "data" / "index.html").is_file()
    with pytest.raises(OutputError, match="another selection"):
        command.main([*arguments, "--sources", str(sources), "--selection", "random", "--resume"])
    with pytest.raises(OutputError, match="another sources"):
        command.main([*arguments, "--sources", str(sources / "demo_1"), "--resume"])


@needs_gl
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pick_cube", "place_banana", "can_to_plate", "stack_cube"])
def test_seventy_per_cent_succeed_from_ten_sources(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    expert = Recorder(task, TINY)
    for number in range(10):
        assert expert.record(tmp_path / "sources" / f"demo_{number}", 500 + number).success
    expert.close()
    spec = MimicGenSpec.load(tmp_path / "sources", task, "nearest_object", "dik")
    recorder = Recorder(task, TINY, source=spec)
    successes = sum(recorder.record(tmp_path / f"new_{seed}", seed).success for seed in range(9000, 9040))
    recorder.close()
    assert successes >= 28
