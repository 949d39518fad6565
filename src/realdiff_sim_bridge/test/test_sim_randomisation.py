"""Randomisation: same seed, same bits; scaled models equal compiled ones; the camera is where it is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from realdiff_core.config import find_config
from realdiff_core.errors import ConfigError, RealdiffError
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.randomisation import LEVELS, draw_distractors, draw_variation
from realdiff_sim_bridge.resets import draw_start
from realdiff_sim_bridge.tasks import available_tasks, load_task
from sim_fixtures import can_to_plate, needs_gl

from realdiff_sim_bridge import tasks

SIZE = {"width": 160, "height": 120}


def _simulator(name: str, level: str):
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    task = load_task(name)
    return MujocoSimulator(task, camera_rig(task, **SIZE), quality="fast", randomisation=level)


@pytest.fixture(scope="module")
def simulator() -> Iterator[object]:
    result = _simulator("can_to_plate", "all")
    yield result
    result.close()


def _snapshot(simulator, *, pictures: bool = True) -> list[np.ndarray]:
    state = simulator.state()
    parts = [state.robot.positions, state.tcp.position, simulator.rig.base_colour.matrix]
    parts += [pose.matrix for pose in state.objects.values()]
    return parts + ([simulator.render("colour"), simulator.render("depth")] if pictures else [])


def _equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


@needs_gl
def test_same_seed_gives_the_same_bits_whatever_went_before(simulator) -> None:
    simulator.reset(41)
    first = _snapshot(simulator)
    for seed in (42, 43):
        simulator.reset(seed)
        assert not _equal(first, _snapshot(simulator))
    simulator.advance_to(300_000_000)
    simulator.reset(41)
    assert _equal(first, _snapshot(simulator))
    fresh = _simulator("can_to_plate", "all")
    fresh.reset(41)  # renders for the first time only now
    assert _equal(first, _snapshot(fresh))
    fresh.close()


@needs_gl
@pytest.mark.parametrize("name", available_tasks())
def test_objects_rest_on_the_table_in_every_draw(name: str) -> None:
    simulator = _simulator(name, "all")
    for seed in range(300, 306):
        simulator.reset(seed)
        state = simulator.state()
        for item_name, pose in state.objects.items():
            item = state.items[item_name]
            assert pose.position[2] == pytest.approx(item.rest_height, abs=1e-3), (item_name, seed)
            assert pose.rotation[2, 2] > (0.95 if item.kind == "banana" else 0.999)  # the fruit leans a little
            assert state.object_speeds[item_name] < 0.02
    simulator.close()


@needs_gl
@pytest.mark.parametrize("seed", [50, 51, 52])
def test_depth_shows_the_real_size_where_the_moved_camera_says(simulator, seed: int) -> None:
    """The can's lid, through the rig after the reset: a nominal rig or size would be off by many millimetres."""
    simulator.reset(seed)
    state, rig = simulator.state(), simulator.rig
    nominal = camera_rig(simulator.task, **SIZE)
    can, item = state.objects["can"], state.items["can"]
    lid = can.position + np.array([0.0, 0.0, item.top * (1 - 2 * 0.0025 / simulator.task.objects["can"].height)])
    depth = simulator.render("depth")
    in_camera = rig.base_depth.inverse().rotation @ (lid - rig.base_depth.position)
    u, v = np.round(rig.depth.project(in_camera)).astype(int)
    found = rig.base_depth.rotation @ rig.depth.back_project(depth)[v, u] + rig.base_depth.position
    assert abs(found[2] - lid[2]) < 5e-4
    wrong = nominal.base_depth.rotation @ rig.depth.back_project(depth)[v, u] + nominal.base_depth.position
    assert np.linalg.norm(wrong - found) > 2e-3


@needs_gl
def test_camera_stays_in_its_range(simulator) -> None:
    ranges, nominal = simulator.task.randomisation.looks.camera, camera_rig(simulator.task, **SIZE)
    shifts, angles = [], []
    for seed in range(40):
        rig = nominal.moved(draw_variation(simulator.task, seed, "all").looks.camera)
        change = nominal.base_colour.inverse() @ rig.base_colour
        shifts.append(change.position)
        angles.append(np.degrees(2 * change.quaternion[:3]))
        assert np.allclose(
            (rig.base_colour.inverse() @ rig.base_depth).matrix, rig.colour_from_depth.matrix, atol=1e-12
        )
    for values, limit in ((shifts, ranges.position), (angles, ranges.rotation)):
        assert np.max(np.abs(values)) <= limit * 1.0001
        assert np.all(np.max(np.abs(values), axis=0) > 0.7 * limit), "the whole range is used on every axis"


@needs_gl
@pytest.mark.parametrize("name", ["stack_cube", "place_banana"])
def test_scaled_model_equals_a_compiled_one(name: str) -> None:
    """Sizes and masses set in the model against MuJoCo's own compilation of the varied task."""
    from realdiff_sim_bridge.scene.build import build_scene
    from realdiff_sim_bridge.scene.robot import SMALL_DETAIL

    simulator = _simulator(name, "physics")
    simulator.reset(77)
    state = simulator.state()
    varied = simulator.task.model_copy(update={"objects": state.items})
    model, expected = simulator.model, build_scene(varied, simulator.rig, detail=SMALL_DETAIL)
    for item in varied.objects:
        body = model.body(item).id
        for field in ("body_mass", "body_inertia", "body_ipos", "body_invweight0", "body_subtreemass"):
            have, want = getattr(model, field)[body], getattr(expected, field)[body]
            assert np.allclose(have, want, rtol=2e-4, atol=1e-9), field
        for field in ("dof_invweight0", "dof_M0"):
            dofs = slice(model.body_dofadr[body], model.body_dofadr[body] + 6)
            assert np.allclose(getattr(model, field)[dofs], getattr(expected, field)[dofs], rtol=2e-4), field
        for geom in np.flatnonzero(model.geom_bodyid == body):
            for field in ("geom_size", "geom_pos", "geom_rbound", "geom_aabb"):
                assert np.allclose(getattr(model, field)[geom], getattr(expected, field)[geom], atol=2e-6), field
    assert np.allclose(model.mesh_vert, expected.mesh_vert, atol=2e-6)
    assert np.allclose(model.bvh_aabb, expected.bvh_aabb, atol=2e-5)
    simulator.close()


@needs_gl
def test_levels_vary_what_they_say(simulator) -> None:
    task = simulator.task
    variations = {level: draw_variation(task, 9, level) for level in LEVELS}
    for level in ("physics", "all"):
        assert variations[level].objects == variations["all"].objects
        assert all(factors.size != 1.0 and factors.mass != 1.0 for factors in variations[level].objects.values())
    for level in ("none", "looks"):
        assert all(factors.size == 1.0 for factors in variations[level].objects.values())
    assert variations["none"].looks is None
    assert variations["physics"].looks is None
    for part in ("colours", "table", "walls", "floor", "lights", "ambient"):
        assert getattr(variations["looks"].looks, part) == getattr(variations["all"].looks, part)


@needs_gl
def test_randomise_changes_the_looks_of_a_state_and_nothing_else(simulator) -> None:
    simulator.reset(60)
    simulator.randomise(60, "looks")
    state, picture = _snapshot(simulator, pictures=False)[3:], simulator.render("colour")
    simulator.randomise(61, "looks")
    assert _equal(state, _snapshot(simulator, pictures=False)[3:])
    assert np.mean(picture != simulator.render("colour")) > 0.5
    simulator.randomise(60, "looks")
    assert np.array_equal(picture, simulator.render("colour"))


@needs_gl
def test_looks_need_a_simulator_made_for_them() -> None:
    simulator = _simulator("pick_cube", "none")
    with pytest.raises(SimulationError, match="nothing in reserve"):
        simulator.randomise(1, "all")
    with pytest.raises(SimulationError, match="unknown level"):
        simulator.randomise(1, "some")
    simulator.close()


@needs_gl
def test_distractors_stand_beside_the_objects(simulator) -> None:
    task = simulator.task
    counts = []
    for seed in range(30):
        varied = draw_variation(task, seed, "all").applied(task)
        start = draw_start(varied, seed)
        distractors = draw_distractors(varied, seed, start.objects)
        counts.append(len(distractors))
        for distractor in distractors:
            radius = np.hypot(distractor.half[0], distractor.half[1])
            for name, item in varied.objects.items():
                gap = np.linalg.norm(np.array(distractor.position[:2]) - start.objects[name].position[:2])
                assert gap >= radius + item.footprint + task.randomisation.looks.distractors.clearance
    assert set(counts) == {0, 1, 2, 3}
    seed = counts.index(3)
    simulator.reset(seed)
    for k in range(3):
        body = simulator.data.body(f"distractor_{k}")
        geom = simulator.model.geom(f"distractor_{k}")
        half = geom.size[2] if k % 2 == 0 else geom.size[1]
        assert body.xpos[2] == pytest.approx(half, abs=1e-3)
        assert geom.rgba[3] == 1.0


@needs_gl
def test_an_exploding_scene_is_an_error_and_the_caller_lives_on(simulator, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    simulator.reset(3)
    before = _snapshot(simulator)
    simulator.data.qvel[:] = 1e9
    with pytest.raises(SimulationError, match="unstable") as caught:
        simulator.advance_to(100_000_000)
    assert "can_to_plate" in str(caught.value)
    simulator.reset(3)
    assert _equal(before, _snapshot(simulator))
    assert list(tmp_path.iterdir()) == [], "MuJoCo's log file has no place in the working directory"


@needs_gl
def test_a_scene_that_mujoco_refuses_is_an_error() -> None:
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    task = can_to_plate()
    ghost = task.model_copy(
        update={"objects": {**task.objects, "can": task.objects["can"].model_copy(update={"mass": 1e-30})}}
    )
    with pytest.raises(SimulationError, match="can't be built"):
        MujocoSimulator(ghost, camera_rig(ghost, **SIZE))


def _task_file(tmp_path: Path, randomisation: object) -> Path:
    content = yaml.safe_load(find_config("tasks/pick_cube.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, "randomisation": randomisation}))
    return path


def test_a_task_changes_single_values(tmp_path: Path) -> None:
    shared = load_task("pick_cube").randomisation
    mine = load_task(_task_file(tmp_path, {"physics": {"mass": [0.9, 1.1]}})).randomisation
    assert mine.physics.mass == (0.9, 1.1)
    assert mine.physics.size == shared.physics.size
    assert mine.looks == shared.looks


@pytest.mark.parametrize(
    ("randomisation", "word"),
    [
        ({"physics": {"mass": [1.2, 0.8]}}, "exceeds"),
        ({"physics": {"size": [0.0, 1.1]}}, "greater than 0"),
        ({"physics": {"size": [1.0, 1.8]}}, "too wide for the hand"),
        ({"physics": {"weight": [1.0, 1.8]}}, "weight"),
        ({"looks": {"table": {"textures": ["velvet"]}}}, "velvet"),
        ({"looks": {"table": {"textures": []}}}, "at least 1"),
        ({"looks": {"lights": {"number": [0, 2]}}}, "number of lights"),
        ({"looks": {"lights": {"elevation": [-5, 40]}}}, "10° to 90°"),
        ({"looks": {"distractors": {"number": [0, 99]}}}, "number of distractors"),
        ({"looks": {"camera": {"position": 3.0}}}, "less than or equal to 0.2"),
        ({"looks": {"walls": {"brightness": [0.5, 1.5]}}}, "between 0 and 1"),
    ],
)
def test_wrong_ranges_are_named(tmp_path: Path, randomisation: object, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(_task_file(tmp_path, randomisation))
    assert word in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_wrong_shared_file_is_named(tmp_path: Path, monkeypatch) -> None:
    content = yaml.safe_load(find_config("simulation.yaml").read_text())
    content["clearance"] = -1
    (tmp_path / "simulation.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("REALDIFF_CONFIG_DIR", str(tmp_path))
    with pytest.raises(RealdiffError, match=r"simulation\.yaml") as caught:
        tasks.load_task("pick_cube")
    assert "clearance" in str(caught.value)
