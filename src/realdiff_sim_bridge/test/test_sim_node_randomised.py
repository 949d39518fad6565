"""The bridge with randomised looks, over DDS: after a reset the camera's frames are those of the rendered view."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from bridge_graph import Client, running_bridge, start_bridge
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.config import find_config
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import image_to_numpy
from realdiff_sim_bridge.geometry import Pose
from sim_fixtures import needs_gl

from realdiff_core import topics

pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]

STREAMS = ((topics.DEPTH_IMAGE, topics.DEPTH_FRAME), (topics.ALIGNED_DEPTH_IMAGE, topics.COLOR_FRAME))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    task = yaml.safe_load(find_config("tasks/can_to_plate.yaml").read_text())
    task["randomisation"] = {"looks": {"camera": {"position": 0.03, "rotation": 3.0}}}  # whatever the default is
    path = tmp_path_factory.mktemp("task") / "can_to_plate.yaml"
    path.write_text(yaml.safe_dump(task))
    parameters = (f"task:={path}", "randomisation:=all", "rate:=5.0", "width:=320", "height:=240", "seed:=3")
    with running_bridge(*parameters, "encoding:=32FC1") as client:
        yield client


def _reset(graph: Client, seed: int) -> dict[str, Pose]:
    """Resets the scene and waits for a picture of it; returns the camera's frames in "base" as /tf_static has them."""
    from realdiff_msgs.srv import Reset

    latched = len(graph.received[topics.TF_STATIC])
    assert graph.call(Reset, "/sim_bridge/reset", seed=seed).success
    graph.until(lambda: len(graph.received[topics.TF_STATIC]) > latched)
    graph.until(lambda: graph.received[topics.TASK_STATUS][-1].seed == seed)
    for name, _ in STREAMS:
        pictures = len(graph.received[name])
        graph.until(lambda name=name, pictures=pictures: len(graph.received[name]) >= pictures + 2)
    known = {"base": Pose.identity()}
    waiting = list(graph.received[topics.TF_STATIC][-1].transforms)
    while any(transform.header.frame_id in known for transform in waiting):
        transform = next(transform for transform in waiting if transform.header.frame_id in known)
        waiting.remove(transform)
        shift, turn = transform.transform.translation, transform.transform.rotation
        pose = Pose(np.array([shift.x, shift.y, shift.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
        known[transform.child_frame_id] = known[transform.header.frame_id] @ pose
    return known


def _points(graph: Client, name: str, base_camera: Pose) -> NDArray[np.float64]:
    """The latest depth image as points in "base", float64[N, 3] [m]."""
    depth = depth_to_metres(image_to_numpy(graph.received[name][-1]), "32FC1")
    camera = CameraModel.from_camera_info(graph.received[topics.camera_info_topic(name)][-1])
    points = camera.back_project(depth)[np.isfinite(depth)]
    return points @ base_camera.rotation.T + base_camera.position


def _table_error(points: NDArray[np.float64]) -> float:
    """How far from z = 0 the table is seen [m]."""
    table = points[(np.abs(points[:, 2]) < 0.03) & (points[:, 0] > 0.3) & (points[:, 0] < 0.6)]
    assert len(table) > 1000
    return float(np.median(np.abs(table[:, 2])))


def _can_error(graph: Client, points: NDArray[np.float64]) -> float:
    """How far the can's side is seen from where its published pose puts it [m]."""
    poses = graph.received[topics.OBJECT_POSES][-1]
    centre = next(pose.position for pose, name in zip(poses.poses, poses.names, strict=True) if name == "can")
    offsets = np.linalg.norm(points[:, :2] - [centre.x, centre.y], axis=1)
    side = (offsets < 0.045) & (np.abs(points[:, 2] - centre.z) < 0.6 * centre.z)  # nothing else stands so near
    assert side.sum() > 30
    radius = 0.030 * centre.z / 0.050  # sizes are randomised, all of an object by one factor
    return float(np.median(np.abs(offsets[side] - radius)))


def test_after_each_reset_the_frames_are_those_of_the_picture(graph: Client) -> None:
    before: dict[str, Pose] = {}
    for seed in (11, 12, 13):
        frames = _reset(graph, seed)
        for name, frame in STREAMS:
            points = _points(graph, name, frames[frame])
            table, side = _table_error(points), _can_error(graph, points)
            # Pixels of the aligned image are rounded ones of the depth imager's: half a pixel is 1.5 mm here.
            limit = 0.0005 if name == topics.DEPTH_IMAGE else 0.003
            assert table < limit, (name, seed)
            assert side < limit + 0.001, (name, seed)  # the side is a polygon
            if before:
                stale = _table_error(_points(graph, name, before[frame]))
                assert stale > 3.0 * table, "the camera has moved, so the former frames must not fit"
        before = frames


def test_extrinsics_intrinsics_and_provenance_follow(graph: Client) -> None:
    from realdiff_core.contract import contract

    frames = _reset(graph, 21)
    extrinsics = graph.received[topics.EXTRINSICS][-1]
    colour_from_depth = frames[topics.COLOR_FRAME].inverse() @ frames[topics.DEPTH_FRAME]
    rotation = np.array(extrinsics.rotation).reshape(3, 3, order="F")
    np.testing.assert_allclose(rotation, colour_from_depth.rotation, atol=1e-6)
    np.testing.assert_allclose(extrinsics.translation, colour_from_depth.position, atol=1e-6)
    assert contract().topic(topics.TF_STATIC).durability == "transient_local"
    provenance = graph.received[topics.PROVENANCE][-1]
    assert provenance.seed == 21
    assert '"randomisation":"all"' in provenance.details_json.replace(" ", "")


def test_the_same_seed_shows_the_same_picture(graph: Client) -> None:
    def first_picture(seed: int) -> bytes:
        """The picture taken at the moment of the reset; later ones differ as soon as something moves."""
        from realdiff_msgs.srv import Reset

        statuses, pictures = graph.received[topics.TASK_STATUS], graph.received[topics.COLOR_IMAGE]
        before, seen = len(statuses), len(pictures)
        assert graph.call(Reset, "/sim_bridge/reset", seed=seed).success

        def first() -> list[bytes]:
            starts = [s.header.stamp for s in statuses[before:] if s.seed == seed and s.elapsed_s == 0.0]
            return [bytes(p.data) for p in pictures[seen:] if p.header.stamp in starts]

        graph.until(lambda: bool(first()))
        return first()[0]

    pictures = [first_picture(seed) for seed in (31, 32, 31)]
    assert pictures[0] == pictures[2]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["randomisation:=some"], "none or physics or looks or all"),
        (["randomisation:=looks", "simulator:=replay", "bag:=nowhere"], "a recording can't be varied"),
    ],
)
def test_what_cannot_be_varied_is_refused(parameters: list[str], message: str, tmp_path: Path) -> None:
    process = start_bridge(*parameters)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
