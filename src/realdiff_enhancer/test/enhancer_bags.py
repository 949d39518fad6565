"""Small episode bags, a profile and a command runner for the tests of the enhancer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from realdiff_core.bag import BagReader, BagWriter, RawMessage
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import image_to_numpy, numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics

SOURCE = Path(__file__).resolve().parents[1]
STORAGES = ("mcap", "sqlite3")
ENCODINGS = ("16UC1", "32FC1")
START_NS = 1_000_000_000
PERIOD_NS = 33_333_333
SIZE = (48, 64)
DEPTH_TOPICS = (topics.ALIGNED_DEPTH_IMAGE, topics.DEPTH_IMAGE)


def scene(index: int, encoding: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A table with a box that moves, a strip too near, one beyond the range, one without depth; as published."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    millimetres = (1200 - 400 * y / height).astype(np.uint16)
    left = width // 4 + index % (width // 4)
    millimetres[(abs(y - height // 2) < height // 6) & (x >= left) & (x < left + width // 4)] = 600
    millimetres[: height // 10] = 6000
    millimetres[-(height // 10) :] = 0
    millimetres[:, : width // 16] = 150
    return millimetres if encoding == "16UC1" else depth_to_metres(millimetres, "16UC1")


def provenance(kind: DepthKind = DepthKind.CLEAN_SIM) -> BagProvenance:
    """A simulated episode's record."""
    return BagProvenance(
        depth=dict.fromkeys(DEPTH_TOPICS, kind),
        source="simulation",
        task="can_to_plate",
        seed=3,
        notes={"light": "dim"},
    )


def write_episode(
    path: Path,
    storage: str = "mcap",
    encoding: str = "16UC1",
    frames: int = 10,
    size: tuple[int, int] = SIZE,
    record: BagProvenance | None = None,
    without: tuple[str, ...] = (),
    edit: Any = None,
    **options: Any,
) -> Path:
    """Write an episode with two depth streams, colour, TF, joint states and provenance.

    Args:
        path: Bag to make.
        storage: Its storage.
        encoding: Encoding of the depth.
        frames: Images of each stream.
        size: Height and width.
        record: Provenance; by default clean simulated depth.
        without: Topics to leave out.
        edit: Called with topic, index and message before an image is written; may change it.
        **options: Of BagWriter.
    """
    record = provenance() if record is None else record
    height, width = size
    types = {
        topics.PROVENANCE: ("realdiff_msgs/msg/Provenance", "latched"),
        topics.TF_STATIC: ("tf2_msgs/msg/TFMessage", "latched"),
        topics.JOINT_STATES: ("sensor_msgs/msg/JointState", "default"),
        topics.COLOR_IMAGE: (IMAGE, "default"),
        topics.COLOR_INFO: (CAMERA_INFO, "default"),
        topics.DEPTH_IMAGE: (IMAGE, "sensor"),
        topics.DEPTH_INFO: (CAMERA_INFO, "sensor"),
        topics.ALIGNED_DEPTH_IMAGE: (IMAGE, "default"),
        topics.ALIGNED_DEPTH_INFO: (CAMERA_INFO, "default"),
    }
    frames_of = {topics.DEPTH_IMAGE: topics.DEPTH_FRAME}
    rng = np.random.default_rng(1)
    with BagWriter(path, storage, **options) as writer:
        for topic, (msgtype, qos) in types.items():
            if topic not in without:
                writer.add_topic(topic, msgtype, qos)

        def write(topic: str, stamp: int, message: Any) -> None:
            if topic not in without:
                writer.write_message(topic, stamp, message)

        writer.set_custom_data("operator", "nobody")
        if record.depth:
            writer.set_provenance(record)
        latched = make(
            "realdiff_msgs/msg/Provenance",
            header=make_header(START_NS, topics.DEPTH_FRAME),
            topics=list(record.depth),
            kinds=[kind.msg_value for kind in record.depth.values()],
            seed=3,
            details_json=record.to_json(),
        )
        write(topics.PROVENANCE, START_NS, latched)
        write(topics.TF_STATIC, START_NS, make("tf2_msgs/msg/TFMessage"))
        for index in range(frames):
            stamp = START_NS + index * PERIOD_NS
            write(
                topics.JOINT_STATES,
                stamp,
                make("sensor_msgs/msg/JointState", header=make_header(stamp, ""), name=["a"], position=[0.1 * index]),
            )
            for topic in (topics.COLOR_IMAGE, topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE):
                header = make_header(stamp, frames_of.get(topic, topics.COLOR_FRAME))
                camera = CameraModel.from_fov(width, height, 55, header.frame_id)
                info = make(CAMERA_INFO, header=header, **camera.to_camera_info_fields())
                if topic == topics.COLOR_IMAGE:
                    fields = numpy_to_image_fields(rng.integers(0, 255, (*size, 3), np.uint8), "rgb8")
                else:
                    fields = numpy_to_image_fields(scene(index, encoding, size), encoding)
                image = make(IMAGE, header=header, **fields)
                image.data = image.data.copy()  # writable for `edit`
                if edit is not None:
                    edit(topic, index, image)
                write(topics.camera_info_topic(topic), stamp, info)
                write(topic, stamp, image)
    return path


def read_all(path: Path) -> list[RawMessage]:
    """All messages of a bag."""
    with BagReader(path) as reader:
        return list(reader.messages())


def depth_images(path: Path, topic: str = topics.DEPTH_IMAGE) -> np.ndarray:
    """All images of a topic, [N,H,W], as published."""
    with BagReader(path) as reader:
        return np.stack([image_to_numpy(reader.deserialize(raw)) for raw in reader.messages([topic])])


def run_enhance(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "realdiff_enhancer.commands.enhance", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**child_environment(), **(environment or {})},
    )


def child_environment() -> dict[str, str]:
    """Environment in which a child process finds the packages as this one does."""
    paths = [str(SOURCE), str(SOURCE.parent / "realdiff_core"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def ray_cluster() -> Iterator[str]:
    """Address of a local Ray cluster of two cores, for a fixture; skips where Ray is not installed."""
    ray = pytest.importorskip("ray", reason="no Ray: pip install -r requirements/ray.txt")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()
