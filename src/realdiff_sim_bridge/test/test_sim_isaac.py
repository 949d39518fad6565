"""The Isaac Sim adapter against a strict double of its API, and the USD scene with the real pxr."""

from __future__ import annotations

import sys

import isaac_double
import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.adapters import Command, create, isaac_app
from realdiff_sim_bridge.adapters.isaac_adapter import IsaacSimulator
from realdiff_sim_bridge.adapters.isaac_stage import author_scene
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.errors import RenderingError, SimulationError
from realdiff_sim_bridge.randomisation import draw_variation
from realdiff_sim_bridge.resets import draw_start
from realdiff_sim_bridge.scene.build import build_scene
from realdiff_sim_bridge.scene.robot import ARM_JOINTS
from realdiff_sim_bridge.tasks import load_task

pxr = pytest.importorskip("pxr", reason="usd-core isn't installed")
TASK = load_task("can_to_plate")
RIG = camera_rig(TASK, width=64, height=48)


@pytest.fixture(autouse=True)
def _isaac(monkeypatch: pytest.MonkeyPatch) -> None:
    isaac_double.install(monkeypatch)
    monkeypatch.setattr(isaac_app, "_app", None)
    monkeypatch.delenv(isaac_app.ROBOT_VARIABLE, raising=False)


def _simulator(**changes: object) -> IsaacSimulator:
    simulator = create("isaac", TASK, RIG, **changes)  # type: ignore[arg-type]
    assert isinstance(simulator, IsaacSimulator)
    return simulator


def test_without_isaac_sim_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isaacsim", None)
    with pytest.raises(SimulationError, match="isn't installed") as caught:
        create("isaac", TASK, RIG)
    assert "docs/guides/isaac.md" in str(caught.value)


def test_reset_puts_robot_and_objects_where_the_seed_says() -> None:
    simulator = _simulator()
    for seed in (3, 4):
        simulator.reset(seed)
        start = draw_start(TASK, seed)
        state = simulator.state()
        assert state.time_ns == 0
        assert np.allclose(state.robot.arm_positions, start.joint_positions, atol=1e-6)
        assert state.robot.gripper_width == pytest.approx(0.08)
        for name, pose in start.objects.items():
            assert np.allclose(state.objects[name].position, pose.position, atol=1e-6)
            assert np.allclose(state.objects[name].rotation, pose.rotation, atol=1e-5)
    calls = isaac_double.CALLS
    assert calls[0] == "SimulationApp"
    assert calls.count("SimulationApp") == 1
    assert calls[1] == "reference omniverse://assets/Isaac/Robots/FrankaRobotics/FrankaFR3/fr3.usd"


def test_commands_are_interpolated_and_reach_the_right_joints() -> None:
    simulator = _simulator()
    world = isaac_double.World.current
    start = simulator.state().robot.arm_positions.copy()
    goal = start + np.arange(7) * 0.002
    steps = world.steps
    simulator.apply(Command(goal, 0.05))
    simulator.advance_to(10_000_000)
    assert world.steps - steps == 5  # 2 ms each
    assert np.allclose(simulator.state().robot.arm_positions, start + 0.4 * (goal - start), atol=1e-6)
    simulator.advance_to(20_000_000)
    simulator.advance_to(24_000_000)
    assert np.allclose(simulator.state().robot.arm_positions, goal, atol=1e-6)
    assert simulator.state().robot.gripper_width == pytest.approx(0.08 - 0.1 * 0.024, abs=1e-6)  # 0.1 m/s
    assert simulator.time_ns == 24_000_000
    with pytest.raises(SimulationError, match="NaN"):
        simulator.apply(Command(np.full(7, np.nan), 0.0))


def test_drives_are_set_for_the_joints_in_isaac_sims_order() -> None:
    simulator = _simulator()
    robot = isaac_double.World.current.scene.objects["fr3"]
    assert isinstance(robot, isaac_double.SingleArticulation)
    model = build_scene(TASK, RIG)
    expected = {name: model.actuator_gainprm[model.actuator(name).id, 0] for name in ARM_JOINTS}
    assert dict(zip(robot.names, robot.controller.kps, strict=True)) == expected | dict.fromkeys(
        ("fr3_finger_joint1", "fr3_finger_joint2"), 1500.0
    )
    assert robot.controller.efforts is not None
    assert robot.controller.efforts[7] == 30.0
    assert not robot.gravity
    assert simulator.state().links["fr3_link0"].position.tolist() == [0.0, 0.0, 0.0]


def test_pictures_have_the_cameras_intrinsics_and_pose() -> None:
    simulator = _simulator()
    colour, depth = simulator.render("colour"), simulator.render("depth")
    assert colour.shape == (48, 64, 3)
    assert colour.dtype == np.uint8
    assert depth.dtype == np.float32
    assert np.isnan(depth[0]).all()
    assert (depth[1:] == 1.25).all()
    camera = isaac_double.CAMERAS["depth_camera"]
    assert camera.annotators == ["distance_to_image_plane"]
    cx, cy, fx, fy, _ = camera.settings["pinhole"]
    assert (cx, cy) == (32.0, 24.0)  # from the picture's corner
    assert (fx, fy) == (RIG.depth.fx, RIG.depth.fy)
    assert camera.settings["focal"] / camera.settings["aperture"] == pytest.approx(RIG.depth.fx / 64)
    position, orientation, axes = camera.settings["pose"]
    assert axes == "ros"
    assert np.allclose(position, RIG.base_depth.position)
    assert np.allclose(orientation, RIG.base_depth.quaternion_wxyz)
    world = isaac_double.World.current
    before = world.renders
    simulator.render("depth")
    assert world.renders - before == 3  # the renderer's latency
    steps = world.steps
    simulator.render("colour")
    assert world.steps == steps  # time stands still


def test_no_picture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = _simulator()
    monkeypatch.setattr(isaac_double.Camera, "first_picture", 10**6)
    with pytest.raises(RenderingError, match="gives no picture"):
        simulator.render("colour")


def test_physics_is_varied_as_drawn() -> None:
    from pxr import UsdPhysics

    simulator = _simulator(randomisation="physics")
    simulator.reset(11)
    drawn = draw_variation(TASK, 11, "physics")
    world = isaac_double.World.current
    model = build_scene(TASK, RIG)
    for name, factors in drawn.objects.items():
        body = world.scene.objects[name]
        assert isinstance(body, isaac_double.SingleRigidPrim)
        assert body.scale.tolist() == pytest.approx([factors.size] * 3)
        assert body.mass == pytest.approx(TASK.objects[name].mass * factors.mass)
        material = UsdPhysics.MaterialAPI(world.stage.GetPrimAtPath(f"/World/physics_materials/{name}"))
        geoms = np.flatnonzero((model.geom_bodyid == model.body(name).id) & (model.geom_contype > 0))
        nominal = model.geom_friction[geoms, 0].max()
        assert material.GetStaticFrictionAttr().Get() == pytest.approx(nominal * factors.friction)
    assert simulator.state().items == drawn.applied(TASK).objects
    resets, poses = world.resets, simulator.state().objects
    simulator.randomise(12)
    assert world.resets == resets + 1  # PhysX reads sizes when it starts
    assert np.allclose(simulator.state().objects["can"].position[:2], poses["can"].position[:2], atol=1e-6)


@pytest.mark.parametrize("level", ["looks", "all"])
def test_looks_are_refused(level: str) -> None:
    with pytest.raises(ConfigError, match="looks can't be varied"):
        _simulator(randomisation=level)


def test_an_asset_without_the_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(isaac_app.ROBOT_VARIABLE, "/assets/panda.usd")
    isaac_double.SingleArticulation.names = [name.replace("fr3", "panda") for name in isaac_double.DOFS]
    with pytest.raises(SimulationError, match="isn't an FR3") as caught:
        _simulator()
    assert "panda_joint1" in str(caught.value)
    assert "reference /assets/panda.usd" in isaac_double.CALLS


def test_unreachable_assets_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["isaacsim.storage.native"].__dict__, "get_assets_root_path", lambda: None)
    with pytest.raises(SimulationError, match="assets can't be reached"):
        _simulator()


def test_close_frees_cameras_and_world() -> None:
    simulator = _simulator()
    simulator.render("colour")
    simulator.close()
    assert not isaac_double.CAMERAS["colour_camera"].ready
    assert isaac_double.CALLS[-2:] == ["stop", "clear_instance"]


@pytest.mark.parametrize("name", ["can_to_plate", "pick_cube", "place_banana", "stack_cube"])
def test_stage_has_the_shapes_of_the_mujoco_scene(name: str) -> None:
    """Every shape's world box, computed by USD, equals the one of MuJoCo's geometry."""
    from pxr import Usd, UsdGeom, UsdPhysics

    task = load_task(name)
    model = build_scene(task, camera_rig(task, width=64, height=48))
    stage = Usd.Stage.CreateInMemory()
    paths = author_scene(stage, model)
    assert set(paths) == set(task.objects)
    cache = UsdGeom.BBoxCache(Usd.TimeCode.Default(), ["default"], useExtentsHint=False, ignoreVisibility=True)
    for item, path in paths.items():
        prim = stage.GetPrimAtPath(path)
        assert UsdPhysics.MassAPI(prim).GetMassAttr().Get() == pytest.approx(task.objects[item].mass, rel=1e-5)
        children = [child for child in prim.GetChildren() if child.IsA(UsdGeom.Gprim)]
        geoms = np.flatnonzero(model.geom_bodyid == model.body(item).id)
        assert len(children) == len(geoms)
        assert any(child.HasAPI(UsdPhysics.CollisionAPI) for child in children)
        for child, geom in zip(children, geoms, strict=True):
            box = cache.ComputeRelativeBound(child, prim).ComputeAlignedRange()
            low, high = _box(model, int(geom))
            assert np.allclose(box.GetMin(), low, atol=2e-3), child.GetPath()
            assert np.allclose(box.GetMax(), high, atol=2e-3), child.GetPath()
            collides = bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
            assert child.HasAPI(UsdPhysics.CollisionAPI) == collides
        top = cache.ComputeRelativeBound(prim, prim).ComputeAlignedRange().GetMax()[2]
        assert top == pytest.approx(task.objects[item].top, abs=5e-3)  # boxes of tilted shapes are larger
    room = cache.ComputeWorldBound(stage.GetPrimAtPath("/World/room")).ComputeAlignedRange()
    assert room.GetMin()[2] < -0.7
    assert not stage.GetPrimAtPath("/World/objects/fr3_hand")


def _box(model: object, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Box of a geom in its body's frame, as USD computes it: the corners of its own box, moved."""
    import mujoco

    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]  # type: ignore[attr-defined]
    angles = np.linspace(0, 2 * np.pi, 720)
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]  # type: ignore[attr-defined]
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]  # type: ignore[attr-defined]
        points = model.mesh_vert[start : start + count].astype(float)  # type: ignore[attr-defined]
    elif kind == mujoco.mjtGeom.mjGEOM_BOX:
        points = np.array(np.meshgrid(*[(-s, s) for s in size])).reshape(3, -1).T
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        points = np.concatenate([ring * size[0] + [0, 0, s * size[1]] for s in (-1, 1)])
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        tilt = np.linspace(-np.pi / 2, np.pi / 2, 91)
        ball = np.concatenate([ring * np.cos(t) + [0, 0, np.sin(t)] for t in tilt]) * size[0]
        points = np.concatenate([np.add(ball, [0, 0, s * size[1]]) for s in (-1, 1)])
    else:
        tilt = np.linspace(-np.pi / 2, np.pi / 2, 91)
        radii = size if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID else np.full(3, size[0])
        points = np.concatenate([ring * np.cos(t) + [0, 0, np.sin(t)] for t in tilt]) * radii
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])  # type: ignore[attr-defined]
    corners = np.array(np.meshgrid(*zip(points.min(axis=0), points.max(axis=0), strict=True))).reshape(3, -1).T
    moved = corners @ rotation.reshape(3, 3).T + model.geom_pos[geom]  # type: ignore[attr-defined]
    return moved.min(axis=0), moved.max(axis=0)
