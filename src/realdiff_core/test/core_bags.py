"""Small bags for the tests of realdiff_core."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.bag import BagReader, BagWriter, RawMessage
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics

SOURCE = Path(__file__).resolve().parents[1]
STORAGES = ("mcap", "sqlite3")
ENCODINGS = ("16UC1", "32FC1")
PERIOD_NS = 33_333_333
START_NS = 1_700_000_000_000_000_000
PROVENANCE = BagProvenance(
    depth={topics.DEPTH_IMAGE: DepthKind.CLEAN_SIM}, source="simulation", task="can_to_plate", seed=7
)


def depth_image(index: int, encoding: str, height: int = 12, width: int = 16) -> np.ndarray:
    """A depth image as published: a ramp that moves, with holes."""
    millimetres = np.roll(np.linspace(400, 3000, height * width).astype(np.uint16).reshape(height, width), index, 1)
    millimetres[0, : index % width] = 0
    return millimetres if encoding == "16UC1" else depth_to_metres(millimetres, "16UC1")


def write_depth_bag(
    path: Path,
    storage: str = "mcap",
    encoding: str = "16UC1",
    frames: int = 5,
    size: tuple[int, int] = (12, 16),
    **options: object,
) -> Path:
    """Write depth images, their camera_info, TF and joint states."""
    height, width = size
    camera = CameraModel.from_fov(width, height, 87, topics.DEPTH_FRAME)
    with BagWriter(path, storage, **options) as writer:
        writer.add_topic(topics.TF_STATIC, "tf2_msgs/msg/TFMessage", "latched")
        writer.add_topic(topics.DEPTH_INFO, CAMERA_INFO)
        writer.add_topic(topics.DEPTH_IMAGE, IMAGE, "sensor")
        writer.add_topic(topics.JOINT_STATES, "sensor_msgs/msg/JointState")
        writer.set_provenance(PROVENANCE)
        transform = make(
            "geometry_msgs/msg/TransformStamped",
            header=make_header(START_NS, topics.BASE_FRAME),
            child_frame_id=topics.DEPTH_FRAME,
        )
        writer.write_message(topics.TF_STATIC, START_NS, make("tf2_msgs/msg/TFMessage", transforms=[transform]))
        for index in range(frames):
            stamp = START_NS + index * PERIOD_NS
            header = make_header(stamp, topics.DEPTH_FRAME)
            fields = numpy_to_image_fields(depth_image(index, encoding, height, width), encoding)
            info = make(CAMERA_INFO, header=header, **camera.to_camera_info_fields())
            state = make("sensor_msgs/msg/JointState", header=header, name=["fr3_joint1"], position=[0.1 * index])
            # All at one stamp: their order must survive.
            writer.write_message(topics.DEPTH_INFO, stamp, info)
            writer.write_message(topics.DEPTH_IMAGE, stamp, make(IMAGE, header=header, **fields))
            writer.write_message(topics.JOINT_STATES, stamp, state)
    return path


def read_all(path: Path) -> list[RawMessage]:
    """All messages of a bag."""
    with BagReader(path) as reader:
        return list(reader.messages())


def shared_data(*parts: str) -> Path:
    """Real data outside the repository; skips the test where it is absent."""
    root = Path(os.environ.get("REALDIFF_SHARED_DATA") or SOURCE.parents[1].parent / "shared" / "data")
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data is not here: {path} (set REALDIFF_SHARED_DATA)")
    return path


def subprocess_environment() -> dict[str, str]:
    """Environment in which a child process finds realdiff_core as this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])}
