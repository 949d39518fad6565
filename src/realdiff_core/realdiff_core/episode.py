"""Episodes: what a bag must hold to be one, and how to find depth and cameras in any bag."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realdiff_core import topics
from realdiff_core.bag import BagReader, RawMessage
from realdiff_core.camera import CameraModel
from realdiff_core.depth import is_depth_encoding
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_core.messages import CAMERA_INFO, IMAGE, to_ns
from realdiff_core.provenance import DepthKind
from realdiff_core.stamps import StampGuard

# Every episode, simulated or recorded on hardware.
REQUIRED_TOPICS: dict[str, str] = {
    topics.COLOR_IMAGE: IMAGE,
    topics.COLOR_INFO: CAMERA_INFO,
    topics.DEPTH_IMAGE: IMAGE,
    topics.DEPTH_INFO: CAMERA_INFO,
    topics.ALIGNED_DEPTH_IMAGE: IMAGE,
    topics.ALIGNED_DEPTH_INFO: CAMERA_INFO,
    topics.JOINT_STATES: "sensor_msgs/msg/JointState",
    topics.GRIPPER_JOINT_STATES: "sensor_msgs/msg/JointState",
    topics.COMMANDED_ACTION: "realdiff_msgs/msg/CommandedAction",
    topics.TF: "tf2_msgs/msg/TFMessage",
    topics.TF_STATIC: "tf2_msgs/msg/TFMessage",
    topics.PROVENANCE: "realdiff_msgs/msg/Provenance",
}
# Only a simulator knows these.
SIMULATION_TOPICS: dict[str, str] = {
    topics.OBJECT_POSES: "realdiff_msgs/msg/ObjectPoses",
    topics.TASK_STATUS: "realdiff_msgs/msg/TaskStatus",
}


def image_topics(reader: BagReader) -> list[str]:
    """Return the names of all topics with raw images, sorted."""
    return sorted(name for name, info in reader.topics.items() if info.msgtype == IMAGE)


def depth_topics(reader: BagReader) -> list[str]:
    """Return the names of the topics whose first image has a depth encoding, sorted.

    Raises:
        BagError: The bag is damaged.
    """
    return [name for name in image_topics(reader) if is_depth_encoding(_first_encoding(reader, name))]


def _first_encoding(reader: BagReader, topic: str) -> str:
    first = reader.first(topic)
    return str(reader.deserialize(first).encoding) if first else ""


def require_depth_topic(reader: BagReader, topic: str) -> str:
    """Return the encoding of a depth topic.

    Raises:
        BagError: The topic is absent or empty, or doesn't carry raw depth images.
    """
    info = reader.require_topic(topic)
    encoding = _first_encoding(reader, topic) if info.msgtype == IMAGE else ""
    if is_depth_encoding(encoding):
        return encoding
    raise BagError(
        "topic doesn't carry depth images",
        where=f"{reader.path}, topic {topic}",
        expected=f"{IMAGE} with encoding 16UC1 or 32FC1",
        got=f"{info.msgtype} with {f'encoding {encoding}' if encoding else f'{info.count} messages'}",
        next_step=f"choose one of: {', '.join(depth_topics(reader)) or '(the bag has no depth topic)'}",
    )


def read_camera(reader: BagReader, image_topic: str, baseline_m: float | None = None) -> CameraModel:
    """Return the camera of an image topic, from the first message of its camera_info topic.

    Args:
        reader: An open bag.
        image_topic: Image topic.
        baseline_m: Stereo baseline [m], which camera_info doesn't carry.

    Raises:
        BagError: The camera_info topic is missing, empty or of another type.
        CameraError: The intrinsics make no sense.
    """
    name = topics.camera_info_topic(image_topic)
    where = f"{reader.path}, topic {name}"
    info = reader.topics.get(name)
    first = reader.first(name) if info and info.msgtype == CAMERA_INFO else None
    if first is None:
        raise BagError(
            f"camera_info of {image_topic} is missing",
            where=where,
            expected=f"{CAMERA_INFO} beside the images",
            got=f"{info.count} messages of {info.msgtype}" if info else "no such topic",
            next_step=f"record {name}, too",
        )
    try:
        return CameraModel.from_camera_info(reader.deserialize(first), baseline_m)
    except RealdiffError as error:
        raise error.at(where) from None


def decode_image(reader: BagReader, raw: RawMessage) -> tuple[Any, Any]:
    """Return message and pixels of an image.

    Returns:
        The sensor_msgs/Image and its pixels, see `realdiff_core.image.image_to_numpy`.

    Raises:
        BagError: The message can't be decoded.
        ImageError: Size, step and data contradict each other, or the encoding isn't handled; names file and topic.
    """
    message = reader.deserialize(raw)
    try:
        return message, image_to_numpy(message)
    except RealdiffError as error:
        raise error.at(f"{reader.path}, topic {raw.topic}, stamp {raw.stamp_ns} ns") from None


def list_episodes(folder: str | Path) -> list[Path]:
    """Return the bags in a folder, in natural order (``episode_2`` before ``episode_10``); a bag is its own only one.

    Raises:
        BagError: The folder doesn't exist or holds no bag.
    """
    folder = Path(folder)
    if (folder / "metadata.yaml").is_file():
        return [folder]
    bags = (item.parent for item in folder.glob("*/metadata.yaml") if not item.parent.name.startswith("."))
    episodes = sorted(bags, key=natural_key)
    if not episodes:
        raise BagError(
            "no episodes are here" if folder.is_dir() else "folder doesn't exist",
            where=folder,
            expected="a bag, or a folder of bags",
            next_step="check the path, or record episodes first",
        )
    return episodes


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key by which numbers in names count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts]


@dataclass
class EpisodeReport:
    """What `validate_episode` found."""

    path: Path
    problems: list[str] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    depth: dict[str, DepthKind | None] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the bag is an episode without faults."""
        return not self.problems


def validate_episode(path: str | Path) -> EpisodeReport:
    """Read a whole bag and check it against the conventions of an episode.

    Checked are topics and types, provenance of every depth topic, a camera_info of the right size for every image
    topic, encodings, image sizes and header stamps.

    Raises:
        BagError: The bag can't be read at all.
        ProvenanceError: Its provenance record is damaged.
    """
    with BagReader(path) as reader:
        report = EpisodeReport(reader.path)
        report.problems += _topic_problems(reader)
        report.problems += _provenance_problems(reader, report)
        report.problems += _image_problems(reader, report)
    return report


def _topic_problems(reader: BagReader) -> Iterator[str]:
    provenance = reader.provenance()
    simulated = provenance is not None and provenance.source == "simulation"
    for name, msgtype in {**REQUIRED_TOPICS, **(SIMULATION_TOPICS if simulated else {})}.items():
        info = reader.topics.get(name)
        if info is None or not info.count:
            yield f"{name}: {'no messages' if info else 'missing'} ({msgtype} is required)"
        elif info.msgtype != msgtype:
            yield f"{name}: its type is {info.msgtype}, expected {msgtype}"


def _provenance_problems(reader: BagReader, report: EpisodeReport) -> Iterator[str]:
    provenance = reader.provenance()
    if provenance is None:
        yield "no provenance record in the metadata's custom_data"
    for name in depth_topics(reader):
        kind = provenance.depth.get(name) if provenance else None
        report.depth[name] = kind
        if provenance and kind is None:
            yield f"{name}: the provenance record doesn't say where its depth comes from"


def _image_problems(reader: BagReader, report: EpisodeReport) -> Iterator[str]:
    names = image_topics(reader)
    sizes: dict[str, tuple[int, ...]] = {}
    encodings: dict[str, str] = {}
    for name in names:
        try:
            camera = read_camera(reader, name)
            sizes[name] = (camera.height, camera.width)
        except RealdiffError as error:
            yield f"{name}: {error.what}"
    guard = StampGuard(reader.path)
    faulty: set[str] = set()
    for raw in reader.messages(names):
        report.frames[raw.topic] = report.frames.get(raw.topic, 0) + 1
        if raw.topic in faulty:
            continue  # one problem a topic is enough
        try:
            message, pixels = decode_image(reader, raw)
            guard.check(raw.topic, to_ns(message.header.stamp))
        except RealdiffError as error:
            faulty.add(raw.topic)
            yield f"{raw.topic}: {error.what}, got {error.got}"
            continue
        size = sizes.setdefault(raw.topic, pixels.shape[:2])
        encoding = encodings.setdefault(raw.topic, message.encoding)
        if (pixels.shape[:2], message.encoding) != (size, encoding):
            faulty.add(raw.topic)
            yield (
                f"{raw.topic}: image of {pixels.shape[1]}×{pixels.shape[0]} {message.encoding} at {raw.stamp_ns} ns, "
                f"expected {size[1]}×{size[0]} {encoding}"
            )
