"""A recorded episode as tracks over time: joints, objects, cameras, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.episode import decode_image, read_camera, require_depth_topic
from realdiff_core.errors import BagError
from realdiff_core.messages import to_ns
from realdiff_core.provenance import BagProvenance

from realdiff_core import topics
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS

_JOINTS = (*ARM_JOINTS, *FINGER_JOINTS)


@dataclass(frozen=True)
class Track:
    """Values over time.

    Attributes:
        stamps_ns: int64[N], ascending.
        values: float64[N, …].
    """

    stamps_ns: NDArray[np.int64]
    values: FloatArray

    def index(self, stamp_ns: int) -> int:
        """Index of the last value at or before a moment; before the first one, the first."""
        return max(int(np.searchsorted(self.stamps_ns, stamp_ns, side="right")) - 1, 0)

    def at(self, stamp_ns: int) -> FloatArray:
        """The last value at or before a moment."""
        return np.asarray(self.values[self.index(stamp_ns)], dtype=np.float64)


@dataclass(frozen=True)
class Recording:
    """What a bag holds beside its pictures.

    Attributes:
        path: The bag.
        joints: Positions, velocities and efforts, float64[N, 3, 9], of arm and fingers.
        objects: Positions and quaternions (x, y, z, w), float64[N, 7], of the task's objects.
        colour: Intrinsics of the colour stream.
        depth: Intrinsics of the depth stream.
        frames: Fixed transforms: child → (parent, pose).
        provenance: What the bag says about its origin.
        start_ns: The first joint state's stamp.
        end_ns: The last one's.
    """

    path: Path
    joints: Track
    objects: dict[str, Track]
    colour: CameraModel
    depth: CameraModel
    frames: dict[str, tuple[str, Pose]]
    provenance: BagProvenance | None
    start_ns: int
    end_ns: int

    def pose(self, frame: str, base: str = topics.BASE_FRAME) -> Pose | None:
        """Pose of a fixed frame in another one; None where no chain of transforms leads there."""
        chain = Pose.identity()
        for _ in range(len(self.frames) + 1):
            if frame == base:
                return chain
            if frame not in self.frames:
                return None
            frame, step = self.frames[frame]
            chain = step @ chain
        return None

    def rig(self, planned: CameraRig) -> CameraRig:
        """The recorded cameras; what the bag doesn't tell is taken over from the planned ones."""
        base = self.pose(self.colour.frame_id or topics.COLOR_FRAME)
        to_depth = self.pose(self.depth.frame_id or topics.DEPTH_FRAME)
        offset = planned.colour_from_depth
        if base is not None and to_depth is not None:
            offset = base.inverse() @ to_depth
        return replace(
            planned,
            colour=self.colour,
            depth=replace(self.depth, baseline_m=planned.depth.baseline_m),
            base_colour=base if base is not None else planned.base_colour,
            colour_from_depth=offset,
        )


def read_recording(path: Path) -> Recording:
    """Reads everything but the pictures.

    Raises:
        BagError: The bag can't be read, or lacks joint states, pictures or intrinsics.
    """
    with BagReader(path) as reader:
        reader.require_topic(topics.COLOR_IMAGE)
        require_depth_topic(reader, topics.DEPTH_IMAGE)
        joints = _read_joints(reader)
        return Recording(
            path=reader.path,
            joints=joints,
            objects=_read_objects(reader),
            colour=read_camera(reader, topics.COLOR_IMAGE),
            depth=read_camera(reader, topics.DEPTH_IMAGE),
            frames=_read_frames(reader),
            provenance=reader.provenance(),
            start_ns=int(joints.stamps_ns[0]),
            end_ns=int(joints.stamps_ns[-1]),
        )


def _read_joints(reader: BagReader) -> Track:
    reader.require_topic(topics.JOINT_STATES)
    sources = [name for name in (topics.GRIPPER_JOINT_STATES, topics.JOINT_STATES) if name in reader.topics]
    known: dict[str, tuple[float, float, float]] = {}
    stamps: list[int] = []
    rows: list[list[tuple[float, float, float]]] = []
    for raw in reader.messages(sources):
        message = reader.deserialize(raw)
        for k, name in enumerate(message.name):
            known[name] = (_entry(message.position, k), _entry(message.velocity, k), _entry(message.effort, k))
        if raw.topic == topics.JOINT_STATES and all(name in known for name in _JOINTS):
            stamps.append(to_ns(message.header.stamp))
            rows.append([known[name] for name in _JOINTS])
    if not rows:
        raise BagError(
            "joints are missing from the joint states",
            where=f"{reader.path}, topic {topics.JOINT_STATES}",
            expected=", ".join(_JOINTS),
            got=", ".join(known) or "no joints",
            next_step="replay an episode of the FR3 with its hand",
        )
    values = np.array(rows, dtype=np.float64).transpose(0, 2, 1)
    if not np.isfinite(values[:, 0]).all():
        raise BagError("joint positions hold NaN", where=f"{reader.path}, topic {topics.JOINT_STATES}")
    order = np.argsort(stamps, kind="stable")
    return Track(np.array(stamps, dtype=np.int64)[order], values[order])


def _entry(values: Any, index: int) -> float:
    """An entry of a joint state's field; drivers may leave velocities and efforts empty."""
    return float(values[index]) if index < len(values) else 0.0


def _read_objects(reader: BagReader) -> dict[str, Track]:
    if topics.OBJECT_POSES not in reader.topics:
        return {}
    found: dict[str, tuple[list[int], list[list[float]]]] = {}
    for raw in reader.messages([topics.OBJECT_POSES]):
        message = reader.deserialize(raw)
        for name, pose in zip(message.names, message.poses, strict=True):
            stamps, rows = found.setdefault(name, ([], []))
            stamps.append(to_ns(message.header.stamp))
            p, q = pose.position, pose.orientation
            rows.append([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
    return {name: Track(np.array(stamps), np.array(rows)) for name, (stamps, rows) in found.items()}


def _read_frames(reader: BagReader) -> dict[str, tuple[str, Pose]]:
    if topics.TF_STATIC not in reader.topics:
        return {}
    frames: dict[str, tuple[str, Pose]] = {}
    for raw in reader.messages([topics.TF_STATIC]):
        for item in reader.deserialize(raw).transforms:
            t, r = item.transform.translation, item.transform.rotation
            pose = Pose(np.array([t.x, t.y, t.z]), np.array([r.x, r.y, r.z, r.w]))
            frames[item.child_frame_id] = (item.header.frame_id, pose)
    return frames


class FrameStream:
    """The pictures of one topic, by time; holds one picture at a time.

    Args:
        path: The bag.
        topic: Its image topic.
    """

    def __init__(self, path: Path, topic: str) -> None:
        """Reads the first picture."""
        self._path = path
        self._topic = topic
        self._reader: BagReader | None = None
        self._frames: Iterator[tuple[int, NDArray[Any]]] = iter(())
        self._shown: tuple[int, NDArray[Any]] | None = None
        self._next: tuple[int, NDArray[Any]] | None = None
        self._rewind()

    def at(self, stamp_ns: int) -> NDArray[Any]:
        """The last picture at or before a moment; before the first one, the first. Going back reads from the start."""
        assert self._shown is not None
        if stamp_ns < self._shown[0]:
            self._rewind()
        while self._next is not None and self._next[0] <= stamp_ns:
            self._shown, self._next = self._next, next(self._frames, None)
        return self._shown[1]

    def close(self) -> None:
        """Closes the bag."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _rewind(self) -> None:
        self.close()
        self._reader = BagReader(self._path).__enter__()
        self._frames = self._decoded(self._reader)
        self._shown = next(self._frames, None)
        if self._shown is None:
            raise BagError("topic has no pictures", where=f"{self._path}, topic {self._topic}")
        self._next = next(self._frames, None)

    def _decoded(self, reader: BagReader) -> Iterator[tuple[int, NDArray[Any]]]:
        for raw in reader.messages([self._topic]):
            message, pixels = decode_image(reader, raw)
            if self._topic == topics.DEPTH_IMAGE:
                pixels = depth_to_metres(pixels, message.encoding)
            elif pixels.ndim == 2:
                pixels = np.repeat(pixels[..., None], 3, axis=2)
            elif message.encoding in ("bgr8", "bgra8"):
                pixels = pixels[..., 2::-1]
            yield to_ns(message.header.stamp), pixels[..., :3] if pixels.ndim == 3 else pixels
