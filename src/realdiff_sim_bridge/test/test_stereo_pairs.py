"""Random scenes, pair folders and packed pairs (renders off-screen; skipped where no GL library is)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realdiff_core.camera import CameraModel
from realdiff_core.errors import OutputError
from realdiff_sim_bridge.stereo.materials import lathe, random_vessel
from realdiff_sim_bridge.stereo.pairs import CAMERAS, pack_pairs, round_to_disparity, simulate_pairs
from realdiff_sim_bridge.stereo.settings import load_ranges
from realdiff_sim_bridge.stereo.statistics import edge_distance, statistics_of

BASELINE, OFFSET = 0.05, 0.029


def _require_gl() -> None:
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:  # every GL back end fails in its own way
        pytest.skip(f"no off-screen GL here: {error}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _require_gl()
    path = tmp_path_factory.mktemp("stereo") / "pairs"
    assert simulate_pairs(path, 3, load_ranges("train"), seed=5) == 3
    return path


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def test_layout(folder: Path) -> None:
    for number in range(3):
        clean, noisy = _read(folder / "clean" / f"{number:06d}.png"), _read(folder / "noisy" / f"{number:06d}.png")
        assert clean.dtype == noisy.dtype == np.uint16
        assert clean.shape == noisy.shape == (480, 640)
        both = (clean > 0) & (noisy > 0)
        assert 0.3 < both.mean() < 1.0
        assert np.median(np.abs(clean[both] / 10.0 - noisy[both])) < 30  # mm
        assert _read(folder / "colour" / f"{number:06d}.jpg").shape == (480, 640, 3)
    assert np.loadtxt(folder / "K.txt") == pytest.approx(CAMERAS["640x480"].K)


def test_an_interrupted_run_goes_on_with_the_same_bytes(folder: Path) -> None:
    path = folder / "noisy" / "000001.png"
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*.*g"))}
    path.unlink()
    (folder / "noisy" / "000001.png.partial").write_bytes(b"torn")
    assert simulate_pairs(folder, 3, load_ranges("train"), seed=5) == 1
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*.*g"))} == before
    assert simulate_pairs(folder, 3, load_ranges("train"), seed=5) == 0


def test_other_arguments_on_the_same_folder_are_refused(folder: Path) -> None:
    with pytest.raises(OutputError, match="seed"):
        simulate_pairs(folder, 3, load_ranges("train"), seed=6)


def test_pack(folder: Path, tmp_path: Path) -> None:
    pack_pairs(folder, tmp_path / "exact.npz", clean_step_px=0)
    with np.load(tmp_path / "exact.npz") as pack:
        assert pack["clean_01mm"].shape == pack["noisy_mm"].shape == (3, 480, 640)
        assert np.array_equal(pack["clean_01mm"][2], _read(folder / "clean" / "000002.png"))
        assert np.array_equal(pack["noisy_mm"][0], _read(folder / "noisy" / "000000.png"))
        assert pack["grey"].shape == (3, 240, 320)
        assert pack["grey"].dtype == np.uint8
        assert list(pack["frames"]) == [0, 1, 2]
        assert list(pack["windows"]) == [0, 0, 0]  # one scene
        assert float(pack["baseline_m"]) == BASELINE
    pack_pairs(folder, tmp_path / "part.npz", part=1, parts=2)
    with np.load(tmp_path / "part.npz") as pack:
        assert list(pack["frames"]) == [1]
    with pytest.raises(OutputError, match="no pairs"):
        pack_pairs(tmp_path / "nothing", tmp_path / "x.npz")


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_rounding_stays_under_its_step(values: list[int]) -> None:
    clean = np.array(values, np.uint16)
    rounded = round_to_disparity(clean, 19.2, 0.02)
    known = clean > 0
    assert np.array_equal(rounded[~known], clean[~known])
    usable = clean >= 2800  # the camera's near limit
    error = np.abs(19.2 / (rounded[usable] / 1e4) - 19.2 / (clean[usable] / 1e4))
    assert (error <= 0.0101).all()


def _assert_rectified(camera: CameraModel, left: np.ndarray, right: np.ndarray) -> None:
    """Left depth, moved by the baseline and projected, meets the right depth (independent of the sensor model)."""
    assert left.shape == (480, 640)
    u = np.broadcast_to(np.arange(640)[None, :], left.shape) - camera.fx * BASELINE / left
    seen = cv2.remap(right, u.astype(np.float32), np.mgrid[0:480, 0:640][0].astype(np.float32), cv2.INTER_LINEAR)
    calm = (u > 2) & (edge_distance(left) > 10)
    assert calm.mean() > 0.2
    assert np.median(np.abs(seen - left)[calm]) < 0.0005
    assert np.percentile(np.abs(seen - left)[calm], 90) < 0.003


def test_left_and_right_views_agree_with_the_baseline() -> None:
    _require_gl()
    from realdiff_sim_bridge.stereo.scene_views import SceneRenderer
    from realdiff_sim_bridge.stereo.scenes import RandomScene

    camera = CAMERAS["640x480"]
    rng = np.random.default_rng(3)
    scene = RandomScene(rng, camera)
    with SceneRenderer(camera, BASELINE, OFFSET).open(scene) as view:
        position, rotation = scene.random_pose(rng)
        rendered = view.render(position, rotation)
    _assert_rectified(camera, rendered.left.depth, rendered.right.depth)
    assert rendered.left.albedo.min() >= 0 and rendered.left.albedo.max() <= 1
    assert rendered.left.albedo.std() > 0.02


def test_lathed_vessels_are_closed_rings_of_outward_faces() -> None:
    vertices, faces, coordinates = lathe(np.array([[0.03, 0.0], [0.03, 0.1]]), sides=24)
    assert len(vertices) == len(coordinates) == 25 * 2
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    outward = np.einsum("ij,ij->i", np.cross(b - a, c - a)[:, :2], a[:, :2] + b[:, :2] + c[:, :2])
    assert (outward > 0).all()
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(2 * np.pi * 0.03 * 0.1, rel=0.02)
    for seed in range(20):
        profile = random_vessel(np.random.default_rng(seed))
        assert (profile[:, 0] > 0).all()


def test_statistics_recover_a_known_residual() -> None:
    """White noise of known σ in disparity: σ comes back, correlation is zero, holes are counted where they are."""
    rng = np.random.default_rng(0)
    clean = np.full((480, 640), 1.0, np.float32)
    clean[:, 300:] = 1.5
    disparity = 19.2 / clean + 0.1 * rng.standard_normal(clean.shape)
    noisy = (19.2 / disparity).astype(np.float32)
    noisy[:, 298:302] = np.nan
    summary = statistics_of([(clean, noisy)], dataclasses.replace(CAMERAS["640x480"], baseline_m=BASELINE))
    assert summary["sigma_px"]["1-1.25"] == pytest.approx(0.1, rel=0.05)
    assert summary["sigma_mm"]["1-1.25"] == pytest.approx(0.1 / 19.2 * 1000, rel=0.05)  # z² σ / (f B)
    assert abs(summary["correlation_x"]["4"]) < 0.03
    assert summary["holes"]["0-1"] > 0.9
    assert summary["holes"][">40"] == 0


def test_the_robots_cell_as_a_scene() -> None:
    _require_gl()
    from realdiff_sim_bridge.stereo.robot_scene import RobotScene
    from realdiff_sim_bridge.stereo.scene_views import SceneRenderer

    camera = CAMERAS["640x480"]
    rng = np.random.default_rng(0)
    scene = RobotScene(rng, camera)
    gloss, infrared, follow, transmission = scene.surface_tables
    assert len(gloss) == len(infrared) == len(follow) == len(transmission) == scene.model.ngeom
    robot = [g for g in range(scene.model.ngeom) if scene.model.body(scene.model.geom_bodyid[g]).name.startswith("fr3")]
    assert len(set(gloss[robot])) == 1  # one lacquer over the whole arm
    with SceneRenderer(camera, BASELINE, OFFSET).open(scene) as view:
        rendered = view.render(*scene.random_pose(rng))
    depth = rendered.left.depth
    assert np.isfinite(depth).mean() > 0.9
    assert 0.3 < np.nanmedian(depth) < 4.0
    _assert_rectified(camera, depth, rendered.right.depth)
