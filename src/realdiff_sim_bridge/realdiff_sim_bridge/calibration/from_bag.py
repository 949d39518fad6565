"""Views from a bag: moments at which the robot stood still, with picture, depth and joint positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.episode import decode_image, read_camera
from realdiff_core.errors import BagError
from realdiff_core.messages import to_ns

from realdiff_core import topics
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS

_STILL_RAD = 0.004
"""Largest motion of a joint within the window around a picture [rad], [m]."""

_WINDOW_NS = 150_000_000
"""Half-width of that window: longer than exposure, transport and the joint states' period together."""

_SHORTEST_GAP_NS = 300_000_000
"""Pictures nearer in time are one candidate."""


@dataclass(frozen=True)
class Shot:
    """A picture of the robot at rest.

    Attributes:
        stamp_ns: When it was taken.
        joints: float64[9], arm [rad] and fingers [m].
        picture: uint8[H, W, 3], RGB.
        depth_m: float32[H, W] in the colour imager's pixels, NaN where unknown; None where the bag has none.
    """

    stamp_ns: int
    joints: FloatArray
    picture: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None


class JointTrack:
    """Joint positions over time.

    Args:
        stamps_ns: int64[N], ascending.
        positions: float64[N, 9].
    """

    def __init__(self, stamps_ns: NDArray[np.int64], positions: FloatArray) -> None:
        """Keeps the track."""
        self.stamps_ns = stamps_ns
        self.positions = positions

    def at_rest(self, stamp_ns: int) -> FloatArray | None:
        """Joint positions around a moment, float64[9]; None where the robot moved or nothing was recorded."""
        first, last = np.searchsorted(self.stamps_ns, [stamp_ns - _WINDOW_NS, stamp_ns + _WINDOW_NS])
        around = self.positions[first:last]
        if len(around) < 2 or np.ptp(around, axis=0).max() > _STILL_RAD:
            return None
        return np.asarray(around.mean(axis=0), dtype=np.float64)


def read_shots(path: Path, count: int) -> tuple[CameraModel, list[Shot]]:
    """Chooses pictures at rest whose joint positions differ most, and reads them.

    Args:
        path: A bag with colour images, camera_info, joint states and, if possible, aligned depth.
        count: Most pictures to take.

    Returns:
        The colour camera and the pictures, by time.

    Raises:
        BagError: A topic is missing, joints are missing, or the robot never stood still.
    """
    with BagReader(path) as reader:
        camera = read_camera(reader, topics.COLOR_IMAGE)
        track = _joint_track(reader)
        candidates: dict[int, FloatArray] = {}
        latest = -_SHORTEST_GAP_NS
        for stamp in _stamps(reader, topics.COLOR_IMAGE):
            joints = track.at_rest(stamp) if stamp - latest >= _SHORTEST_GAP_NS else None
            if joints is not None:
                candidates[stamp], latest = joints, stamp
        if not candidates:
            raise BagError(
                "the robot never stands still in this bag",
                where=path,
                expected=f"moments of {2 * _WINDOW_NS / 1e9:g} s in which no joint moves by more than {_STILL_RAD} rad",
                got=f"{len(track.stamps_ns)} joint states, always moving, or not at the pictures' times",
                next_step="stop for a second at every place; check that camera and robot share one clock",
            )
        stamps = sorted(farthest(candidates, count))
        return camera, list(_read(reader, stamps, candidates))


def farthest(candidates: dict[int, FloatArray], count: int) -> list[int]:
    """Returns the keys of up to `count` joint positions, each as far as possible from those chosen before."""
    keys = list(candidates)
    positions = np.stack([candidates[key][:7] for key in keys])
    chosen = [0]
    distance = np.linalg.norm(positions - positions[0], axis=1)
    while len(chosen) < min(count, len(keys)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(positions - positions[chosen[-1]], axis=1))
    return [keys[index] for index in chosen]


def read_empty_depth(path: Path) -> NDArray[np.float32]:
    """Returns the median aligned depth of a bag that shows the scene without the robot, float32[H, W] in metres.

    Raises:
        BagError: It has no aligned depth.
    """
    with BagReader(path) as reader:
        reader.require_topic(topics.ALIGNED_DEPTH_IMAGE)
        frames = []
        for _, pixels in _images(reader, topics.ALIGNED_DEPTH_IMAGE):
            frames.append(pixels)
            if len(frames) == 30:
                break
    return _median(np.stack(frames))


def _median(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis without NaN; NaN where nothing is known."""
    masked = np.ma.masked_invalid(stack)
    return np.asarray(np.ma.median(masked, axis=0).filled(np.nan), dtype=np.float32)


def _joint_track(reader: BagReader) -> JointTrack:
    wanted = (*ARM_JOINTS, *FINGER_JOINTS)
    known: dict[str, float] = {}
    stamps: list[int] = []
    positions: list[list[float]] = []
    sources = [topics.JOINT_STATES]
    reader.require_topic(topics.JOINT_STATES)
    if topics.GRIPPER_JOINT_STATES in reader.topics:
        sources.append(topics.GRIPPER_JOINT_STATES)
    for raw in reader.messages(sources):
        message = reader.deserialize(raw)
        known.update(zip(message.name, (float(value) for value in message.position), strict=False))
        if raw.topic == topics.JOINT_STATES and all(name in known for name in wanted):
            stamps.append(to_ns(message.header.stamp))
            positions.append([known[name] for name in wanted])
    if not stamps:
        raise BagError(
            "joints are missing from the joint states",
            where=f"{reader.path}, topic {topics.JOINT_STATES}",
            expected=", ".join(wanted),
            got=", ".join(known) or "no joints",
            next_step=f"record {topics.JOINT_STATES} and {topics.GRIPPER_JOINT_STATES} of the FR3 with its hand",
        )
    values = np.array(positions, dtype=np.float64)
    if not np.isfinite(values).all():
        raise BagError("joint states hold NaN", where=reader.path, next_step="record again")
    order = np.argsort(stamps, kind="stable")
    return JointTrack(np.array(stamps, dtype=np.int64)[order], values[order])


def _stamps(reader: BagReader, topic: str) -> Iterator[int]:
    for raw in reader.messages([topic]):
        yield to_ns(reader.deserialize(raw).header.stamp)


def _images(reader: BagReader, topic: str, stamps: set[int] | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields header stamp and pixels of all images, or of those with certain stamps: depth in metres, colour as RGB."""
    for raw in reader.messages([topic]):
        if stamps is not None and to_ns(reader.deserialize(raw).header.stamp) not in stamps:
            continue
        message, pixels = decode_image(reader, raw)
        if topic == topics.ALIGNED_DEPTH_IMAGE:
            pixels = depth_to_metres(pixels, message.encoding)
        elif pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        elif message.encoding in ("bgr8", "bgra8"):
            pixels = np.ascontiguousarray(pixels[..., 2::-1])
        yield to_ns(message.header.stamp), pixels[..., :3] if pixels.ndim == 3 else pixels


def _read(reader: BagReader, stamps: list[int], candidates: dict[int, FloatArray]) -> Iterator[Shot]:
    pictures = dict(_images(reader, topics.COLOR_IMAGE, set(stamps)))
    depths: dict[int, NDArray[np.float32]] = {}
    if topics.ALIGNED_DEPTH_IMAGE in reader.topics and reader.topics[topics.ALIGNED_DEPTH_IMAGE].count:
        available = np.array(list(_stamps(reader, topics.ALIGNED_DEPTH_IMAGE)))
        # Colour and depth of one frame may differ by a few milliseconds; the robot is at rest.
        nearest = {stamp: int(available[np.abs(available - stamp).argmin()]) for stamp in stamps}
        read = dict(_images(reader, topics.ALIGNED_DEPTH_IMAGE, set(nearest.values())))
        depths = {stamp: read[other] for stamp, other in nearest.items() if abs(other - stamp) <= _WINDOW_NS}
    for stamp in stamps:
        yield Shot(stamp, candidates[stamp], pictures[stamp], depths.get(stamp))
