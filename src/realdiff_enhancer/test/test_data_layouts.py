"""Folders of LASA, ByteCameraDepth and ClearGrasp, on miniatures of their layouts; other cameras' profiles."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.config import camera_profile
from realdiff_core.errors import CameraError, ImageError, RealdiffError
from realdiff_enhancer.data.layouts import is_clear_grasp, is_lasa, lasa_frames, read_twins
from realdiff_enhancer.data.sequence import SequenceOptions, read_sequence
from realdiff_enhancer.data.sources import PairSource, check_profile
from scipy.spatial.transform import Rotation

DATA = Path(os.environ.get("REALDIFF_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
OPTIONS = SequenceOptions(baseline_m=0.05)
SHAPE = (24, 32)


def lasa(root: Path, frames: int = 5) -> list[np.ndarray]:
    """A video 42 with a pose at 10 Hz; returns T_world_camera of every frame."""
    folder = root / "42" / "42_frames"
    (folder / "lowres_depth").mkdir(parents=True)
    (folder / "lowres_wide_intrinsics").mkdir()
    lines, poses = [], []
    for index in range(frames):
        stamp = 9.95 + 0.1 * index  # sorting as text would put 10.05 first
        cv2.imwrite(str(folder / "lowres_depth" / f"42_{stamp:.3f}.png"), np.full(SHAPE, 900 + index, np.uint16))
        (folder / "lowres_wide_intrinsics" / f"42_{stamp + 0.001 * (index % 2):.3f}.pincam").write_text(
            "32 24 30.0 31.0 15.5 11.5\n"
        )
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = Rotation.from_euler("y", 3 * index, degrees=True).as_matrix()
        camera_to_world[:3, 3] = (0.1 * index, 0.2, -0.1)
        poses.append(camera_to_world)
        inverse = np.linalg.inv(camera_to_world)
        vector = Rotation.from_matrix(inverse[:3, :3]).as_rotvec()
        if index != 3:  # a frame without a pose is left out
            lines.append(" ".join(f"{v:.9f}" for v in (stamp + 0.002, *vector, *inverse[:3, 3])))
    (folder / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    return poses


def test_lasa_gives_posed_frames_in_temporal_order(tmp_path: Path) -> None:
    poses = lasa(tmp_path)
    assert is_lasa(tmp_path / "42") and not is_lasa(tmp_path)
    sequence = read_sequence(tmp_path / "42", OPTIONS)
    assert sequence.numbers == [0, 100, 200, 400]
    assert [float(depth[0, 0]) for depth in sequence.depths_m] == pytest.approx([0.9, 0.901, 0.902, 0.904])
    np.testing.assert_allclose(sequence.K, [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
    assert sequence.poses is not None
    for pose, index in zip(sequence.poses, (0, 1, 2, 4), strict=True):
        np.testing.assert_allclose(pose, poses[index], atol=1e-7)


def test_lasa_says_what_is_missing(tmp_path: Path) -> None:
    lasa(tmp_path)
    folder = tmp_path / "42" / "42_frames"
    (folder / "lowres_wide_intrinsics" / "42_9.950.pincam").unlink()
    with pytest.raises(CameraError, match="no intrinsics"):
        lasa_frames(tmp_path / "42")
    (folder / "lowres_wide.traj").write_text("0.0 1 2 3\n")
    with pytest.raises(RealdiffError, match="7 columns"):
        lasa_frames(tmp_path / "42")
    (folder / "lowres_wide.traj").unlink()
    with pytest.raises(RealdiffError, match="trajectory is missing"):
        lasa_frames(tmp_path / "42")


def byte_camera(root: Path, sessions: int = 1) -> Path:
    for session in range(sessions):
        for number, camera in enumerate(("realsense_455", "zed2i_quality")):
            folder = root / "recorded_data" / f"20250601_120{session}" / f"camera_{camera}"
            folder.mkdir(parents=True)
            for index in range(3):
                image = np.full(SHAPE, 700 + 100 * number + index, np.uint16)
                cv2.imwrite(str(folder / f"depth_{index:03d}.png"), image)
                cv2.imwrite(str(folder / f"color_{index:03d}.png"), np.zeros((*SHAPE, 3), np.uint8))
                np.save(folder / f"raw_depth_{index:03d}.npy", image.astype(np.float32))
    return root


def test_byte_camera_depth_reads_the_named_camera(tmp_path: Path) -> None:
    root = byte_camera(tmp_path)
    options = SequenceOptions(baseline_m=0.05, focal=(30, 30, 16, 12), sensor="realsense_455")
    for source in (root, root / "recorded_data", root / "recorded_data" / "20250601_1200"):
        sequence = read_sequence(source, options)
        assert [round(1000 * float(depth[0, 0])) for depth in sequence.depths_m] == [700, 701, 702]
    other = read_sequence(root, SequenceOptions(baseline_m=0.05, focal=(30, 30, 16, 12), sensor="camera_zed2i_quality"))
    assert round(1000 * float(other.depths_m[0][0, 0])) == 800
    with pytest.raises(RealdiffError, match="--sensor"):
        read_sequence(root, OPTIONS)
    with pytest.raises(RealdiffError, match="no such camera"):
        read_sequence(root, SequenceOptions(baseline_m=0.05, sensor="kinect"))
    with pytest.raises(RealdiffError, match="intrinsics are missing"):
        read_sequence(root, SequenceOptions(baseline_m=0.05, sensor="realsense_455"))


def test_byte_camera_depth_wants_one_session(tmp_path: Path) -> None:
    with pytest.raises(RealdiffError, match="several sessions"):
        read_sequence(byte_camera(tmp_path, sessions=2), OPTIONS)


def _write_exr(path: Path, depth: np.ndarray) -> None:
    openexr = pytest.importorskip("OpenEXR")
    channels = {"RGB": np.repeat(depth[..., None], 3, axis=2).astype(np.float16)}
    with openexr.File({"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}, channels) as file:
        file.write(str(path))


def clear_grasp(root: Path) -> Path:
    """A table of 1 m with a box of 0.75 m; the transparent box is a hole with a wrong depth at its centre."""
    root.mkdir()
    (root / "camera_intrinsics.yaml").write_text("fx: 300.0\nfy: 300.0\ncx: 160.0\ncy: 120.0\nxres: 320\nyres: 240\n")
    depth = np.full((240, 320), 1.0)
    depth[80:160, 100:200] = 0.75
    _write_exr(root / "000000007-opaque-depth-img.exr", depth)
    wrong = depth.copy()
    wrong[80:160, 100:200] = 0
    wrong[110:130, 140:160] = 1.0
    _write_exr(root / "000000007-transparent-depth-img.exr", wrong)
    mask = np.zeros(depth.shape, np.uint8)
    mask[80:160, 100:200] = 255
    cv2.imwrite(str(root / "000000007-mask.png"), mask)
    return root


def test_clear_grasp_pairs_the_twin_with_the_failure(tmp_path: Path) -> None:
    folder = clear_grasp(tmp_path / "d435")
    assert is_clear_grasp(folder)
    source = PairSource.open(folder, OPTIONS, camera_profile("d435"), static=False)
    assert (source.method, source.frames) == ("twins", 1)
    (pair,) = source.pairs()
    assert pair.failures == () and pair.number == 7
    inside = (slice(90, 150), slice(110, 190))
    np.testing.assert_allclose(pair.clean_m[inside], 0.75, atol=2e-3)
    assert np.isnan(pair.noisy_m[inside]).mean() > 0.9 and pair.noisy_m[120, 150] == 1.0
    (folder / "000000007-opaque-depth-img.exr").unlink()
    with pytest.raises(RealdiffError, match="lacks its twin"):
        read_twins(folder)


def test_profile_of_another_camera_is_refused() -> None:
    profile = camera_profile("d435")
    check_profile([np.full(SHAPE, 0.5)], profile, "bag")
    with pytest.raises(CameraError, match="another camera"):
        check_profile([np.full(SHAPE, 0.12)], profile, "bag")
    with pytest.raises(CameraError, match="no measurement"):
        check_profile([np.full(SHAPE, np.nan)], profile, "bag")


@pytest.mark.skipif(not (DATA / "cleargrasp_d435").is_dir(), reason="no real frames: set REALDIFF_SHARED_DATA")
def test_real_twin_captures_show_the_failures_of_transparent_objects() -> None:
    pytest.importorskip("OpenEXR")
    source = PairSource.open(DATA / "cleargrasp_d435", OPTIONS, camera_profile("d435"), static=False)
    for twin, pair in zip(source.twins, source.pairs(), strict=True):
        known = np.isfinite(pair.clean_m)
        inside, outside = twin.transparent & known, ~twin.transparent & known
        holes = [float(np.isnan(pair.noisy_m)[region].mean()) for region in (inside, outside)]
        assert holes[0] > 0.2 and holes[0] > 3 * holes[1]


def test_unreadable_frames_and_single_frames_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    (folder / "depth").mkdir(parents=True)
    np.savetxt(folder / "K.txt", [[30, 0, 16], [0, 30, 12], [0, 0, 1]])
    good = folder / "depth" / "000.png"
    cv2.imwrite(str(good), np.full(SHAPE, 900, np.uint16))
    with pytest.raises(RealdiffError, match="too few"):
        list(PairSource.open(folder, OPTIONS, camera_profile("d435"), static=True).pairs())
    (folder / "depth" / "001.png").write_bytes(good.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"001\.png"):
        read_sequence(folder, OPTIONS)
    cv2.imwrite(str(folder / "depth" / "001.png"), np.full((12, 12), 900, np.uint16))
    with pytest.raises(ImageError, match="differ in size"):
        read_sequence(folder, OPTIONS)


def test_frames_without_overlap_are_named_as_such(tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="no Open3D: pip install -r requirements/fusion.txt")
    folder = tmp_path / "rooms"
    (folder / "depth").mkdir(parents=True)
    np.savetxt(folder / "K.txt", [[120, 0, 80], [0, 120, 60], [0, 0, 1]])
    rng = np.random.default_rng(0)
    for index in range(5):  # five unrelated walls at 0.5 to 2.5 m, 5 m apart by their poses
        wall = np.full((120, 160), 500 + 500 * index, np.uint16) + rng.integers(0, 3, (120, 160)).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{index:03d}.png"), wall)
        pose = np.eye(4)
        pose[0, 3] = 5.0 * index
        (folder / "poses").mkdir(exist_ok=True)
        np.savetxt(folder / "poses" / f"{index:03d}.txt", pose)
    source = PairSource.open(folder, OPTIONS, camera_profile("d435"), static=False)
    reasons: dict[str, int] = {}
    for pair in source.pairs():
        assert pair.failures
        for failure in pair.failures:
            reasons[failure.split()[0]] = reasons.get(failure.split()[0], 0) + 1
    assert "don't overlap" in str(source.nothing_accepted(reasons))
    assert "no frame passed the gate" in str(source.nothing_accepted({"sigma_px": 5}))
