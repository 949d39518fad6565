"""Source demonstrations: what MimicGen needs of an episode bag, cut into the task's subtasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from realdiff_core.bag import BagReader
from realdiff_core.episode import list_episodes
from realdiff_core.errors import BagError
from realdiff_core.messages import to_ns
from realdiff_core.provenance import BagProvenance

from realdiff_core import topics
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.tasks import Task

_NEEDED = {
    topics.COMMANDED_ACTION: "realdiff_msgs/msg/CommandedAction",
    topics.OBJECT_POSES: "realdiff_msgs/msg/ObjectPoses",
    topics.TASK_STATUS: "realdiff_msgs/msg/TaskStatus",
}


@dataclass(frozen=True)
class Segment:
    """One subtask of a source demonstration.

    Attributes:
        source: Name of the bag.
        subtask: Name of the subtask.
        times_s: float64[N], times of the commands from the segment's beginning [s].
        poses: N commanded poses of fr3_hand_tcp in "base".
        widths: float64[N], commanded distances between the fingers [m].
        reference: Pose of the subtask's reference object at the beginning: of the object for "pick", of the target for
            "place".
    """

    source: str
    subtask: str
    times_s: FloatArray
    poses: tuple[Pose, ...]
    widths: FloatArray
    reference: Pose

    def from_step(self, step: int) -> Segment:
        """Returns the segment without its first `step` commands."""
        times_s = self.times_s[step:] - self.times_s[step]
        return replace(self, times_s=times_s, poses=self.poses[step:], widths=self.widths[step:])

    @property
    def speed(self) -> float:
        """Typical speed of the hand while it moves: the 80th percentile [m/s]."""
        positions = np.array([pose.position for pose in self.poses])
        speeds = np.linalg.norm(np.diff(positions, axis=0), axis=1) / np.diff(self.times_s)
        return float(np.percentile(speeds, 80)) if len(speeds) else 0.0


@dataclass(frozen=True)
class Demonstration:
    """A successful source episode.

    Attributes:
        name: Name of the bag.
        sha256: Hash of the bag's data, to tell sources apart in provenance.
        segments: One for each of the task's subtasks, in order.
    """

    name: str
    sha256: str
    segments: tuple[Segment, ...]


def load_demonstrations(folder: str | Path, task: Task) -> tuple[Demonstration, ...]:
    """Loads the source demonstrations of a task.

    Args:
        folder: A folder of episode bags (failed attempts in its subfolder are left alone), or one bag.
        task: The task that they must show.

    Raises:
        BagError: There are no bags, or a bag isn't a successful simulated episode of this task, lacks a topic, or
            doesn't show all subtasks.
    """
    return tuple(load_demonstration(path, task) for path in list_episodes(folder))


def load_demonstration(path: Path, task: Task) -> Demonstration:
    """Loads one source demonstration; see `load_demonstrations`."""
    with BagReader(path) as bag:
        _check_provenance(path, bag.provenance(), task)
        for name, msgtype in _NEEDED.items():
            info = bag.topics.get(name)
            if info is None or not info.count or info.msgtype != msgtype:
                raise BagError(
                    "source demonstration lacks a topic that MimicGen needs",
                    where=f"{path}, topic {name}",
                    expected=f"messages of {msgtype}",
                    got="no such topic" if info is None else f"{info.count} messages of {info.msgtype}",
                    next_step="record sources in simulation: `ros2 run realdiff_sim_bridge record`",
                )
        messages: dict[str, list[Any]] = {name: [] for name in _NEEDED}
        for raw in bag.messages(_NEEDED):
            messages[raw.topic].append(bag.deserialize(raw))
    segments = _cut(path, task, *(messages[name] for name in _NEEDED))
    return Demonstration(path.name, _hash(path), segments)


def _check_provenance(path: Path, provenance: BagProvenance | None, task: Task) -> None:
    if provenance is None or provenance.task != task.name:
        raise BagError(
            "source demonstration shows another task",
            where=path,
            expected=task.name,
            got="a bag without provenance" if provenance is None else provenance.task or "no task in its provenance",
            next_step=f"give a folder with episodes of {task.name} only",
        )
    if not provenance.success:
        raise BagError(
            "source demonstration isn't a success",
            where=path,
            expected="success in its provenance",
            got="a failed attempt" if provenance.success is False else "nothing about its success",
            next_step="move it away: only successes may be imitated",
        )


def _cut(
    path: Path, task: Task, actions: Sequence[Any], objects: Sequence[Any], statuses: Sequence[Any]
) -> tuple[Segment, ...]:
    """Cuts an episode where the task status names the next subtask."""
    action_ns = np.array([to_ns(action.header.stamp) for action in actions])
    object_ns = np.array([to_ns(message.header.stamp) for message in objects])
    begins: dict[str, int] = {}
    for status in statuses:
        begins.setdefault(status.subtask, to_ns(status.header.stamp))
    names = [subtask.name for subtask in task.subtasks]
    if [name for name in begins if name in names] != names:
        raise BagError(
            "source demonstration doesn't show the task's subtasks in order",
            where=f"{path}, topic {topics.TASK_STATUS}",
            expected=", ".join(names),
            got=", ".join(begins),
            next_step="record it again with this version of the task",
        )
    # What follows the last subtask ("finished", or the recording's end) isn't part of it.
    ends = [*names, *[name for name in begins if name not in names][:1]]
    bounds = [begins[name] for name in ends]
    bounds += [int(action_ns[-1]) + 1] * (len(names) + 1 - len(bounds))
    segments = []
    for subtask, (begin, end) in zip(task.subtasks, pairwise(bounds), strict=True):
        chosen = np.flatnonzero((action_ns >= begin) & (action_ns < end)).tolist()
        if len(chosen) < 2:
            raise BagError(
                f"source demonstration has no commands for subtask {subtask.name}",
                where=f"{path}, topic {topics.COMMANDED_ACTION}",
                expected="at least two",
                got=len(chosen),
            )
        nearest = objects[int(np.argmin(np.abs(object_ns - begin)))]
        segments.append(
            Segment(
                source=path.name,
                subtask=subtask.name,
                times_s=(action_ns[chosen] - action_ns[chosen[0]]) * 1e-9,
                poses=tuple(_pose(actions[k].end_effector_pose) for k in chosen),
                widths=np.array([actions[k].gripper_width for k in chosen]),
                reference=_object_pose(path, nearest, subtask.target or subtask.object),
            )
        )
    return tuple(segments)


def _object_pose(path: Path, message: Any, name: str) -> Pose:
    try:
        return _pose(message.poses[list(message.names).index(name)])
    except ValueError:
        raise BagError(
            f"source demonstration doesn't know where '{name}' is",
            where=f"{path}, topic {topics.OBJECT_POSES}",
            expected=name,
            got=", ".join(message.names),
        ) from None


def _pose(message: Any) -> Pose:
    position, turn = message.position, message.orientation
    quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
    return Pose(np.array([position.x, position.y, position.z]), quaternion / np.linalg.norm(quaternion))


def _hash(path: Path) -> str:
    """SHA-256 over the bag's data files, in the order of their names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.iterdir() if item.suffix in (".mcap", ".db3"))
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
