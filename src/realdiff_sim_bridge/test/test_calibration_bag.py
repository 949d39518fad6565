"""Views from a bag: moments at rest are found, the robot is cut out, what is missing is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_fixtures import CAMERA, aligner, case, mesh_robot
from realdiff_core.bag import BagWriter
from realdiff_core.depth import metres_to_depth
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_sim_bridge.calibration.from_bag import farthest, read_shots
from realdiff_sim_bridge.calibration.segmentation import make_masks
from realdiff_sim_bridge.calibration.synthetic import silhouette
from realdiff_sim_bridge.calibration.views import load_views
from realdiff_sim_bridge.commands.calibrate import main
from realdiff_sim_bridge.geometry import Pose, look_at
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS
from sim_fixtures import needs_gl

from realdiff_core import topics

pytestmark = needs_gl

POSE = look_at((1.3, 0.4, 0.75), (0.25, 0.0, 0.35))
JOINT_STATE = "sensor_msgs/msg/JointState"
PLACES = 9
STAY_NS = 1_000_000_000


def _wall_and_table() -> np.ndarray:
    """Depth of a table plane (z = 0) before a wall (x = -0.6), float32[H, W] in metres."""
    rays = np.concatenate([CAMERA.rays(), np.ones((240, 320, 1))], axis=-1) @ POSE.rotation.T
    with np.errstate(divide="ignore"):
        table = np.where(rays[..., 2] < 0, -POSE.position[2] / rays[..., 2], np.inf)
        wall = np.where(rays[..., 0] < 0, (-0.6 - POSE.position[0]) / rays[..., 0], np.inf)
    return np.minimum(table, wall).astype(np.float32)


def _frame(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour and depth of the robot in that room, with holes beside the robot as a stereo camera has them."""
    renderer = aligner().renderer
    seen = renderer.render(renderer.articulate(joints), POSE)
    mask = renderer.image_mask(seen)
    left, top = int(seen.camera.cx - CAMERA.cx), int(seen.camera.cy - CAMERA.cy)
    robot = seen.depth_m[top : top + 240, left : left + 320]
    depth = np.where(mask, robot, _wall_and_table())
    depth[np.roll(mask, -3, axis=1) & ~mask] = np.nan
    rng = np.random.default_rng(0)
    colour = np.where(mask[..., None], [215, 214, 212], [120, 96, 70]) + rng.normal(0, 4, (240, 320, 3))
    return np.clip(colour, 0, 255).astype(np.uint8), depth


def _joint_messages(bag: BagWriter, start_ns: int, end_ns: int, first: np.ndarray, last: np.ndarray) -> None:
    for stamp in range(start_ns, end_ns, 20_000_000):
        joints = first + (last - first) * (stamp - start_ns) / (end_ns - start_ns)
        head = make_header(stamp, "")
        state = make(JOINT_STATE, header=head, name=list(ARM_JOINTS), position=joints[:7])
        bag.write_message(topics.JOINT_STATES, stamp, state)
        hand = make(JOINT_STATE, header=head, name=list(FINGER_JOINTS), position=joints[7:])
        bag.write_message(topics.GRIPPER_JOINT_STATES, stamp, hand)


def write_bag(path: Path, storage: str, encoding: str, *, rest: bool = True, depth: bool = True) -> list[np.ndarray]:
    """A robot that goes to places, stays a second at each, and moves for half a second; pictures all along."""
    places = [view.joints for view in case(0, PLACES).views.views]
    with BagWriter(path, storage=storage) as bag:
        bag.add_topic(topics.COLOR_IMAGE, IMAGE)
        bag.add_topic(topics.COLOR_INFO, CAMERA_INFO)
        bag.add_topic(topics.JOINT_STATES, JOINT_STATE)
        bag.add_topic(topics.GRIPPER_JOINT_STATES, JOINT_STATE)
        if depth:
            bag.add_topic(topics.ALIGNED_DEPTH_IMAGE, IMAGE)
        now = STAY_NS
        for index, joints in enumerate(places):
            following = places[(index + 1) % PLACES]
            if rest:
                _joint_messages(bag, now, now + STAY_NS, joints, joints)
            _joint_messages(bag, now + STAY_NS, now + STAY_NS * 3 // 2, joints, following)
            colour, metres = _frame(joints)
            moving, _ = _frame((joints + following) / 2)
            for stamp, picture in ((now + STAY_NS // 2, colour), (now + STAY_NS * 5 // 4, moving)):
                head = make_header(stamp, topics.COLOR_FRAME)
                bag.write_message(
                    topics.COLOR_IMAGE, stamp, make(IMAGE, header=head, **numpy_to_image_fields(picture, "rgb8"))
                )
                info = make(CAMERA_INFO, header=head, **CAMERA.to_camera_info_fields())
                bag.write_message(topics.COLOR_INFO, stamp, info)
                if depth:
                    image = numpy_to_image_fields(metres_to_depth(metres, encoding), encoding)
                    head = make_header(stamp + 3_000_000, topics.COLOR_FRAME)
                    bag.write_message(topics.ALIGNED_DEPTH_IMAGE, stamp + 3_000_000, make(IMAGE, header=head, **image))
            now += STAY_NS * 3 // 2
    return places


def _overlap(mask: np.ndarray, joints: np.ndarray) -> tuple[float, float]:
    """Intersection over union with the true silhouette where the mask says anything, and the unknown share of it."""
    truth = silhouette(mesh_robot(), joints, CAMERA, POSE)
    known = mask != 128
    robot = (mask == 255) & known
    return float((robot & truth).sum() / ((robot | truth) & known).sum()), float((truth & ~known).sum() / truth.sum())


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_views_are_cut_out_of_a_bag(tmp_path: Path, storage: str, encoding: str) -> None:
    places = write_bag(tmp_path / "bag", storage, encoding)
    guess = POSE @ Pose(np.array([0.02, -0.01, 0.02]), np.array([0.006, -0.008, 0.0, 0.99995]))
    target = guess.position + guess.rotation[:, 2]
    numbers = [*map(str, guess.position)], [*map(str, target)]
    argv = ["views", str(tmp_path / "bag"), "-o", str(tmp_path / "views"), "--margin", "15"]
    assert main([*argv, "--position", *numbers[0], "--target", *numbers[1]]) == 0
    views = load_views(tmp_path / "views")
    assert len(views.views) == PLACES
    assert views.camera.fx == pytest.approx(CAMERA.fx)
    for view, joints in zip(views.views, places, strict=True):
        assert np.allclose(view.joints, joints, atol=1e-5)
        assert view.picture is not None
        mask = cv2.imread(str(tmp_path / "views" / "masks" / f"{view.name}.png"), cv2.IMREAD_GRAYSCALE)
        overlap, unknown = _overlap(mask, joints)
        assert overlap > 0.95, view.name
        assert unknown < 0.1, view.name
    assert (tmp_path / "views" / "contact_sheet.png").is_file()


def test_without_depth_colour_tells_and_grabcut_follows_the_edges(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", "mcap", "16UC1", depth=False)
    camera, shots = read_shots(tmp_path / "bag", 16)
    assert all(shot.depth_m is None for shot in shots)
    for method in ("depth", "grabcut"):
        masks = make_masks(shots, camera, POSE, margin_px=12, method=method, renderer=aligner().renderer)  # type: ignore[arg-type]
        for mask, shot in zip(masks, shots, strict=True):
            overlap, unknown = _overlap(mask, shot.joints)
            assert overlap > 0.95
            assert unknown < (0.2 if method == "depth" else 1e-9)


def test_an_empty_scene_leaves_nothing_unknown_behind_the_base(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", "mcap", "16UC1")
    camera, shots = read_shots(tmp_path / "bag", 16)
    renderer = aligner().renderer
    masks = make_masks(shots, camera, POSE, margin_px=12, empty_depth_m=_wall_and_table(), renderer=renderer)
    for mask, shot in zip(masks, shots, strict=True):
        overlap, unknown = _overlap(mask, shot.joints)
        assert overlap > 0.95
        assert unknown < 0.02


def test_fewer_views_are_the_farthest(tmp_path: Path) -> None:
    keys = {k: np.array([value, *[0.0] * 8]) for k, value in enumerate([0.0, 0.1, 1.0, 0.5, 0.55])}
    assert farthest(keys, 3) == [0, 2, 3]
    assert sorted(farthest(keys, 9)) == [0, 1, 2, 3, 4]


def test_bags_that_lack_something_are_named(tmp_path: Path) -> None:
    write_bag(tmp_path / "moving", "mcap", "16UC1", rest=False)
    with pytest.raises(BagError, match="never stands still"):
        read_shots(tmp_path / "moving", 8)
    with BagWriter(tmp_path / "armless") as bag:
        for name, kind in ((topics.COLOR_IMAGE, IMAGE), (topics.COLOR_INFO, CAMERA_INFO)):
            bag.add_topic(name, kind)
        bag.add_topic(topics.JOINT_STATES, JOINT_STATE)
        bag.write_message(topics.COLOR_INFO, 1, make(CAMERA_INFO, **CAMERA.to_camera_info_fields()))
        bag.write_message(topics.JOINT_STATES, 1, make(JOINT_STATE, name=["panda_joint1"], position=[0.0]))
    with pytest.raises(BagError, match="joints are missing") as caught:
        read_shots(tmp_path / "armless", 8)
    assert "panda_joint1" in str(caught.value)
    with pytest.raises(BagError):
        read_shots(tmp_path / "nothing", 8)


def test_a_guess_that_looks_elsewhere_is_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", "mcap", "16UC1")
    camera, shots = read_shots(tmp_path / "bag", 16)
    away = look_at((1.3, 0.4, 0.75), (1.3, 3.0, 0.4))
    with pytest.raises(RealdiffError, match="no robot is found"):
        make_masks(shots, camera, away, margin_px=10, renderer=aligner().renderer)
