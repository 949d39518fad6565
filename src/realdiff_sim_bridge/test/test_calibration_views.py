"""Folders of views, first guesses and the file a calibration leaves; what is wrong in them is named."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from calibration_fixtures import CAMERA, aligner, case, write_folder
from realdiff_core.config import camera_profile
from realdiff_core.errors import ConfigError, ImageError, RealdiffError
from realdiff_sim_bridge.calibration.guess import Marker, guess_from_look_at, guess_from_marker
from realdiff_sim_bridge.calibration.synthetic import pose_error
from realdiff_sim_bridge.calibration.transform import camera_transform, load_transform, write_transform
from realdiff_sim_bridge.calibration.views import View, ViewSet, load_views
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import Pose, look_at
from sim_fixtures import needs_gl

pytestmark = needs_gl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "views", case(views=8))


def _edit(folder: Path, key: str, value: object) -> None:
    content = yaml.safe_load((folder / "views.yaml").read_text())
    content["views"][3][key] = value
    (folder / "views.yaml").write_text(yaml.safe_dump(content))


def test_views_come_back_from_yaml_and_json(folder: Path) -> None:
    given = case(views=8).views
    loaded = load_views(folder)
    assert (loaded.camera.fx, loaded.camera.cx, loaded.camera.width) == (CAMERA.fx, CAMERA.cx, 320)
    for view, original in zip(loaded.views, given.views, strict=True):
        assert np.array_equal(view.mask, original.mask)
        assert np.array_equal(view.picture, original.picture)
        assert np.allclose(view.joints, original.joints)
    text = json.dumps(yaml.safe_load((folder / "views.yaml").read_text()))
    (folder / "views.yaml").unlink()
    (folder / "views.json").write_text(text)
    assert len(load_views(folder).views) == 8
    assert len(load_views(folder / "views.json").without(["mask_002"]).views) == 7
    with pytest.raises(ConfigError, match="no view 'nine'"):
        loaded.without(["nine"])


def test_grey_pixels_of_a_mask_are_unknown(folder: Path) -> None:
    mask = cv2.imread(str(folder / "mask_000.png"), cv2.IMREAD_GRAYSCALE)
    mask[:40] = 128
    cv2.imwrite(str(folder / "mask_000.png"), mask)
    view = load_views(folder).views[0]
    assert not view.known[:40].any()
    assert view.known[40:].all()
    assert not view.mask[:40].any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("joints", [0.0] * 8 + [float("nan")], "finite"),
        ("joints", [0.0] * 7, "joints"),
        ("joint", [0.0] * 9, "joint"),
        ("mask", "nothing.png", "file is missing"),
        ("picture", "nothing.png", "file is missing"),
    ],
)
def test_wrong_entries_are_named(folder: Path, key: str, value: object, message: str) -> None:
    _edit(folder, key, value)
    with pytest.raises(RealdiffError, match=message) as caught:
        load_views(folder)
    assert "views" in str(caught.value.where)


def test_wrong_masks_are_named(folder: Path) -> None:
    path = folder / "mask_004.png"
    for image, message in (
        (np.zeros((240, 320), np.uint8), "shows no robot"),
        (np.zeros((480, 640), np.uint8), "differ in size"),
        (np.tile(np.arange(0, 240, dtype=np.uint8)[:, None], (1, 320)), "this is no mask"),
    ):
        cv2.imwrite(str(path), image)
        with pytest.raises(ImageError, match=message) as caught:
            load_views(folder)
        assert str(path) in str(caught.value)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="can't be read"):
        load_views(folder)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder of views is missing"):
        load_views(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no views file"):
        load_views(tmp_path)


def test_look_at_refuses_what_is_no_camera() -> None:
    assert np.allclose(guess_from_look_at([1, 0, 1], [0, 0, 0]).position, [1, 0, 1])
    for position, target in (([1, 0, 1], [1, 0, 1]), ([0, 0, 1], [0, 0, 0]), ([float("nan"), 0, 0], [0, 0, 0])):
        with pytest.raises(ConfigError):
            guess_from_look_at(position, target)


def test_the_transform_comes_back_and_its_link_leads_to_the_optical_frame(tmp_path: Path) -> None:
    profile = camera_profile("d435")
    pose = look_at((1.1, 0.4, 0.7), (0.3, 0.0, 0.3))
    write_transform(tmp_path / "camera_tf.yaml", camera_transform(pose, CAMERA, profile))
    content = load_transform(tmp_path / "camera_tf.yaml")
    assert content.optical.child == "camera_color_optical_frame"
    assert np.allclose(content.optical.pose.matrix, pose.matrix, atol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["camera_tf.yaml"]
    # Down the driver's own frames from camera_link one arrives where the optical frame was measured.
    shift = Pose(np.array(profile.colour_from_depth_m), np.array([0.0, 0.0, 0.0, 1.0]))
    frames = {
        child: (parent, pose)
        for parent, child, pose in CameraRig(profile, CAMERA, CAMERA, pose, shift).static_transforms()
    }
    assert content.link is not None
    chain, frame = Pose.identity(), "camera_color_optical_frame"
    while frame != "camera_link":
        frame, step = frames[frame]
        chain = step @ chain
    assert np.allclose((content.link.pose @ chain).matrix, pose.matrix, atol=1e-9)
    assert "--child-frame-id camera_link" in content.link.publisher_command()


def test_a_transform_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "camera_tf.yaml"
    vector, turn = "{x: 0, y: 0, z: 0}", "{x: 0, y: 0, z: 0, w: 2}"
    path.write_text(f"optical: {{parent: base, child: c, translation: {vector}, rotation: {turn}}}")
    with pytest.raises(ConfigError, match="unit quaternion"):
        load_transform(path)
    with pytest.raises(ConfigError, match="missing"):
        load_transform(tmp_path / "nothing.yaml")


def _with_marker(marker: Marker, pose: Pose, joints: np.ndarray) -> View:
    """A grey picture in which the marker hangs where it would be seen."""
    renderer = aligner().renderer
    frame = (
        Pose.identity() if marker.frame == "base" else renderer.link_poses(renderer.articulate(joints))[marker.frame]
    )
    world = marker.corners() @ frame.rotation.T + frame.position
    seen = CAMERA.project((world - pose.position) @ pose.rotation)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    tile = np.full((140, 140), 255, np.uint8)
    tile[20:120, 20:120] = cv2.aruco.generateImageMarker(dictionary, marker.number, 100)
    source = np.array([[19.5, 19.5], [119.5, 19.5], [119.5, 119.5], [19.5, 119.5]], np.float32)
    warp = cv2.getPerspectiveTransform(source, seen.astype(np.float32))
    picture = cv2.warpPerspective(tile, warp, (320, 240), borderValue=130, flags=cv2.INTER_AREA)
    mask = np.zeros((240, 320), dtype=bool)
    return View("v", joints, mask, ~mask, np.repeat(picture[..., None], 3, axis=2))


def test_marker_on_the_table_gives_the_pose() -> None:
    pose = look_at((0.9, 0.3, 0.6), (0.35, 0.0, 0.1))
    marker = Marker(7, 0.15, "base", Pose(np.array([0.45, 0.05, 0.0]), np.array([0.0, 0.0, 0.6, 0.8])))
    joints = case(views=8).views.views[0].joints
    views = ViewSet(CAMERA, (_with_marker(marker, pose, joints), case(views=8).views.views[0]))
    found, count = guess_from_marker(views, aligner().renderer, marker)
    distance, angle = pose_error(found, pose)
    assert count == 1
    assert distance < 0.05
    assert np.degrees(angle) < 5
    with pytest.raises(RealdiffError, match="in no picture"):
        guess_from_marker(views, aligner().renderer, Marker(8, 0.15, "base", marker.pose))
    with pytest.raises(ConfigError, match="dictionary"):
        guess_from_marker(views, aligner().renderer, Marker(7, 0.15, "base", marker.pose, "DICT_9X9"))
    with pytest.raises(ConfigError, match="frame"):
        guess_from_marker(views, aligner().renderer, Marker(7, 0.15, "elbow", marker.pose))


def test_marker_on_the_moving_hand_gives_the_pose_and_is_checked() -> None:
    pose = look_at((1.0, 0.2, 0.5), (0.4, 0.0, 0.4))
    facing = Pose.from_rotation([0.0, 0.0, 0.05], np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    marker = Marker(3, 0.1, "fr3_hand", facing)
    seen = []
    for view in case(views=8).views.views:
        made = _with_marker(marker, pose, view.joints)
        seen.append(made)
    views = ViewSet(CAMERA, tuple(seen))
    found, count = guess_from_marker(views, aligner().renderer, marker)
    distance, angle = pose_error(found, pose)
    assert count >= 2
    assert distance < 0.03
    assert np.degrees(angle) < 3
    elsewhere = Marker(3, 0.1, "fr3_hand", Pose(np.array([0.3, 0.2, 0.0]), facing.quaternion))
    with pytest.raises(RealdiffError, match="isn't where"):
        guess_from_marker(views, aligner().renderer, elsewhere)
