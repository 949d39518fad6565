"""The scene: rendered depth against ray casting, intrinsics and frames against known geometry, meshes, determinism."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import RealdiffError
from realdiff_sim_bridge.cameras import camera_rig, resized
from realdiff_sim_bridge.errors import RenderingError
from realdiff_sim_bridge.geometry import Pose, look_at
from realdiff_sim_bridge.scene import meshes
from realdiff_sim_bridge.scene.robot import assets_directory
from realdiff_sim_bridge.streams import robot_messages, static_transforms
from sim_fixtures import can_to_plate, needs_gl

from realdiff_core import topics
from realdiff_sim_bridge import rendering

LID_DEPTH = 0.0025


@pytest.fixture(scope="module")
def simulator() -> Iterator[object]:
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    task = can_to_plate()
    result = MujocoSimulator(task, camera_rig(task, width=320, height=240), quality="fast")
    yield result
    result.close()


def _tf(simulator) -> dict[str, tuple[str, Pose]]:
    """Reads the TF tree from the messages, as a client would: child → (parent, pose)."""
    messages = [static_transforms(simulator.rig), robot_messages(simulator.state())[-1]]
    tree = {}
    for message in messages:
        for entry in message.fields["transforms"]:
            translation, rotation = entry["transform"]["translation"], entry["transform"]["rotation"]
            pose = Pose(np.array([translation[k] for k in "xyz"]), np.array([rotation[k] for k in "xyzw"]))
            assert np.isclose(np.linalg.norm(pose.quaternion), 1.0)
            assert entry["child_frame_id"] not in tree, "a frame has two parents"
            tree[entry["child_frame_id"]] = (entry["header"]["frame_id"], pose)
    return tree


def _in_base(tree: dict[str, tuple[str, Pose]], frame: str) -> Pose:
    pose = Pose.identity()
    while frame != "base":
        frame, step = tree[frame]
        pose = step @ pose
    return pose


@needs_gl
@pytest.mark.parametrize("seed", [0, 5])
def test_depth_equals_ray_casting(simulator, seed: int) -> None:
    import mujoco

    simulator.reset(seed)
    depth = simulator.render("depth")
    camera, pose = simulator.rig.depth, simulator.rig.base_depth
    visible = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
    rng = np.random.default_rng(seed)
    compared = 0
    for u, v in zip(rng.integers(1, camera.width - 1, 500), rng.integers(1, camera.height - 1, 500), strict=True):
        patch = depth[v - 1 : v + 2, u - 1 : u + 2]
        if not np.all(np.isfinite(patch)) or np.ptp(patch) > 0.1:
            continue  # on a silhouette either surface is right
        ray = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1.0])
        direction = pose.rotation @ ray
        distance = mujoco.mj_ray(
            simulator.model, simulator.data, pose.position, direction, visible, 1, -1, np.zeros(1, np.int32)
        )
        assert abs(distance - depth[v, u]) < 1e-3, f"pixel ({u}, {v})"
        compared += 1
    assert compared > 400


@needs_gl
@pytest.mark.parametrize("seed", range(4))
def test_can_is_where_tf_and_intrinsics_say(simulator, seed: int) -> None:
    """The can's lid, found through TF and camera_info alone, in the depth and in the aligned depth image."""
    simulator.reset(seed)
    tree = _tf(simulator)
    can = simulator.state().objects["can"]
    lid = can.position + can.rotation @ np.array([0.0, 0.0, 0.05 - LID_DEPTH])
    depth = simulator.render("depth")
    # An aligned pixel carries the depth of a neighbouring ray: the slanted lid is off by up to a pixel's height.
    for image, camera, frame, height_error in (
        (depth, simulator.rig.depth, topics.DEPTH_FRAME, 3e-4),
        (simulator.rig.align(depth), simulator.rig.colour, topics.COLOR_FRAME, 5e-3),
    ):
        base_camera = _in_base(tree, frame)
        expected = base_camera.inverse().rotation @ (lid - base_camera.position)
        u, v = np.round(camera.project(expected)).astype(int)
        found = camera.back_project(image)[v, u]
        assert np.linalg.norm(found - expected) < 1.5 * expected[2] / simulator.rig.depth.fx
        assert abs((base_camera.rotation @ found + base_camera.position)[2] - lid[2]) < height_error


@needs_gl
def test_colour_shows_the_can_at_its_projection(simulator) -> None:
    simulator.reset(1)
    can = simulator.state().objects["can"]
    camera, base_camera = simulator.rig.colour, simulator.rig.base_colour
    colour = simulator.render("colour").astype(int)
    red = (colour[..., 0] > 80) & (colour[..., 0] > 2.5 * colour[..., 1]) & (colour[..., 0] > 2.5 * colour[..., 2])
    v, u = np.nonzero(red)
    expected = camera.project(base_camera.inverse().rotation @ (can.position - base_camera.position))
    assert red.sum() > 50
    assert np.linalg.norm([u.mean(), v.mean()] - expected) < 4.0


@needs_gl
def test_tf_tree_is_that_of_the_drivers(simulator) -> None:
    tree = _tf(simulator)
    expected = {f"fr3_link{i}" for i in range(9)} | {"fr3_hand", "fr3_hand_tcp", "fr3_leftfinger", "fr3_rightfinger"}
    expected |= {"camera_link", "camera_depth_frame", "camera_color_frame", topics.COLOR_FRAME, topics.DEPTH_FRAME}
    assert set(tree) == expected
    state = simulator.state()
    for frame in ("fr3_link3", "fr3_hand", "fr3_leftfinger"):
        assert np.allclose(_in_base(tree, frame).matrix, state.links[frame].matrix, atol=1e-9)
    tcp = _in_base(tree, "fr3_hand_tcp")
    assert np.allclose(tcp.matrix, state.tcp.matrix, atol=1e-9)
    # REP-103 and the D435: z forward into the scene, depth 15 mm to the right of colour.
    depth, colour = _in_base(tree, topics.DEPTH_FRAME), _in_base(tree, topics.COLOR_FRAME)
    assert np.allclose((colour.inverse() @ depth).position, [0.015, 0.0, 0.0], atol=1e-9)
    assert np.allclose(depth.position, _in_base(tree, "camera_link").position, atol=1e-9)
    assert depth.rotation[:, 2] @ (np.array([0.4, 0.0, 0.1]) - depth.position) > 0.8
    assert depth.rotation[2, 1] < -0.5, "the image's y axis must point down"


@needs_gl
def test_forward_kinematics_agree_with_the_urdf_chain(simulator) -> None:
    """The TCP at known joints, against the FR3's published Denavit–Hartenberg parameters."""
    simulator.reset(3)
    q = simulator.state().robot.arm_positions
    craig = [(0, 0, 0.333), (0, -np.pi / 2, 0), (0, np.pi / 2, 0.316), (0.0825, np.pi / 2, 0)]
    craig += [(-0.0825, -np.pi / 2, 0.384), (0, np.pi / 2, 0), (0.088, np.pi / 2, 0)]
    matrix = np.eye(4)
    for (a, alpha, d), theta in zip(craig, q, strict=True):
        ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
        matrix = matrix @ np.array(
            [[ct, -st, 0, a], [st * ca, ct * ca, -sa, -d * sa], [st * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]]
        )
    yaw = -np.pi / 4
    flange = np.array(
        [[np.cos(yaw), -np.sin(yaw), 0, 0], [np.sin(yaw), np.cos(yaw), 0, 0], [0, 0, 1, 0.107 + 0.1034], [0, 0, 0, 1]]
    )
    assert np.allclose(simulator.state().tcp.matrix, matrix @ flange, atol=1e-4)


@needs_gl
def test_whole_hand_is_in_view_at_the_ready_pose(simulator) -> None:
    simulator.reset(0)
    state = simulator.state()
    for camera, base_camera in (
        (simulator.rig.colour, simulator.rig.base_colour),
        (simulator.rig.depth, simulator.rig.base_depth),
    ):
        for offset in ([0, 0.11, 0], [0, -0.11, 0], [0, 0, -0.03], [0, 0, 0.12]):
            point = state.links["fr3_hand"].rotation @ np.array(offset) + state.links["fr3_hand"].position
            u, v = camera.project(base_camera.inverse().rotation @ (point - base_camera.position))
            assert 0 <= u < camera.width
            assert 0 <= v < camera.height


@needs_gl
def test_same_seed_gives_the_same_pictures(simulator) -> None:
    simulator.reset(7)
    first = [simulator.render("colour"), simulator.render("depth")]
    simulator.reset(8)
    other = simulator.render("depth")
    simulator.reset(7)
    again = [simulator.render("colour"), simulator.render("depth")]
    assert all(np.array_equal(a, b, equal_nan=a.dtype == np.float32) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(other, again[1], equal_nan=True)


@needs_gl
def test_commands_are_followed_without_lag(simulator) -> None:
    from realdiff_sim_bridge.adapters import Command
    from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS

    simulator.reset(0)
    start = simulator.state().robot.arm_positions
    for k in range(1, 51):
        target = start + 0.2 * (1 - np.cos(np.pi * k / 50)) / 2
        simulator.apply(Command(target, 0.03))
        simulator.advance_to(k * CONTROL_PERIOD_NS)
        assert np.max(np.abs(simulator.state().robot.arm_positions - target)) < 5e-3
    assert abs(simulator.state().robot.gripper_width - 0.03) < 2e-3


@needs_gl
def test_nan_command_is_refused(simulator) -> None:
    from realdiff_sim_bridge.adapters import Command

    simulator.reset(0)
    with pytest.raises(RealdiffError, match="NaN"):
        simulator.apply(Command(np.full(7, np.nan), 0.04))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (320, 240), (424, 240), (848, 480), (90, 60)])
def test_resized_camera_keeps_square_pixels_and_centre(width: int, height: int) -> None:
    rig = camera_rig(can_to_plate())
    camera = resized(rig.depth, width, height)
    assert camera.fx == pytest.approx(camera.fy)
    assert (camera.cx, camera.cy) == pytest.approx(((width - 1) / 2, (height - 1) / 2))
    assert camera.hfov_deg <= rig.depth.hfov_deg + 1e-9
    assert camera.baseline_m == rig.depth.baseline_m


def test_look_at_refuses_impossible_views() -> None:
    with pytest.raises(ValueError, match="no camera orientation"):
        look_at((0, 0, 1), (0, 0, 0))


def test_decimated_mesh_is_cached_and_survives_a_damaged_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = assets_directory() / "meshes" / "hand_3_vis.obj"
    whole, whole_triangles = meshes.decimated_mesh(path, 1.0)
    small, small_triangles = meshes.decimated_mesh(path, 0.2)
    assert len(small_triangles) < 0.3 * len(whole_triangles)
    assert np.allclose(small.min(axis=0), whole.min(axis=0), atol=1e-3)
    assert np.allclose(small.max(axis=0), whole.max(axis=0), atol=1e-3)
    files = sorted((tmp_path / "realdiff" / "meshes").iterdir())
    assert len(files) == 2
    for file in files:
        file.write_bytes(b"damaged")
    again, _ = meshes.decimated_mesh(path, 0.2)
    assert np.array_equal(again, small)


def test_lathe_is_closed_and_faces_outwards() -> None:
    profile = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (0.0, 2.0)])
    vertices, triangles = meshes.lathe(profile, segments=256)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(2 * np.pi, rel=1e-3)


def test_no_gl_names_the_package(monkeypatch) -> None:
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RealdiffError) as caught:
        rendering.select_gl()
    assert "apt-get install -y libegl1" in str(caught.value)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(RealdiffError) as caught:
        rendering.select_gl()
    assert "libosmesa6" in str(caught.value)


@needs_gl
def test_opengl_that_does_not_start_is_an_error_that_says_what_to_install(simulator, monkeypatch) -> None:
    import mujoco

    def broken(width: int, height: int) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(mujoco, "GLContext", broken)
    monkeypatch.setattr(simulator, "_renderers", {})
    with pytest.raises(RenderingError, match="doesn't start") as caught:
        simulator.render("colour")
    assert "no display" in str(caught.value)
    assert "libegl1" in str(caught.value)
    simulator.reset(0)  # physics goes on without pictures
    simulator.advance_to(20_000_000)


def test_chamfered_box_and_sweep_are_closed_and_face_outwards() -> None:
    line = np.stack([np.linspace(-0.1, 0.1, 41), np.zeros(41), np.zeros(41)], axis=-1)
    tube = meshes.sweep(line, np.full(41, 0.02), segments=180, ridges=0)
    box = meshes.chamfered_box((0.02, 0.03, 0.04), 0.002)
    # Each of the twelve edges loses a prism; a corner, where three meet, loses a little less than three.
    edges = 4 * (0.04 + 0.06 + 0.08) * 0.002**2 / 2
    for (vertices, triangles, *_), volume, tolerance in (
        (tube, np.pi * (0.02 * 0.94) ** 2 * 0.2, 1e-3),
        (box, 0.04 * 0.06 * 0.08 - edges, 1e-3),
    ):
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(volume, rel=tolerance)
        edge = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        forward = {tuple(pair) for pair in edge.tolist()}
        assert forward == {(b, a) for a, b in forward}, "every edge has two triangles of opposite direction"
