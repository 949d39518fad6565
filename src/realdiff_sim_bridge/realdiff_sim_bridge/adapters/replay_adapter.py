"""A recorded episode behind the simulators' protocol: for dry runs of policies and for the bridge node.

States and pictures are the recorded ones, at the nearest earlier stamp. Commands are checked and compared with the
recording, but change nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import DepthKind

from realdiff_core import topics
from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, Command, RobotState, SimState, Stream
from realdiff_sim_bridge.adapters.link_poses import LinkPoses
from realdiff_sim_bridge.adapters.recording import FrameStream, Track, read_recording
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.scene.build import PHYSICS_STEP_S
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, MAX_GRIPPER_WIDTH
from realdiff_sim_bridge.tasks import Task

_STEP_NS = round(PHYSICS_STEP_S * 1e9)
_LIMIT_TOLERANCE_RAD = 1e-3
_WIDTH_TOLERANCE_M = 1e-3


class ReplaySimulator:
    """An episode bag as a simulator; see `realdiff_sim_bridge.adapters.base.Simulator`.

    Args:
        task: The task's configuration.
        rig: The cameras as planned; intrinsics and poses that the bag records take their place.
        bag: The episode.

    Raises:
        BagError: The bag can't be read or lacks joint states, pictures or intrinsics.
        ConfigError: The bag belongs to another task.
    """

    name = "replay"

    def __init__(self, task: Task, rig: CameraRig, bag: Path) -> None:
        """Reads the tracks; pictures are read as they are asked for."""
        recording = read_recording(bag)
        record = recording.provenance
        if record is not None and record.task not in (None, "", task.name):
            raise ConfigError(
                "the episode belongs to another task", where=recording.path, expected=task.name, got=record.task,
                next_step=f"name its task: task:={record.task}",
            )  # fmt: skip
        self.task = task
        self.rig = recording.rig(rig)
        self.randomisation: Level = "none"
        self.version = recording.path.name
        self.source = record.source if record else "imported"
        self.depth_kind = _depth_kind(record.depth if record else {})
        self.worst_deviation_rad = 0.0
        self._recording = recording
        self._streams: dict[Stream, FrameStream] = {}
        self._links = LinkPoses()
        self._step = 0

    @property
    def time_ns(self) -> int:
        """Time since the recording's first joint state [ns], in physics steps."""
        return self._step * _STEP_NS

    @property
    def duration_ns(self) -> int:
        """Length of the recording [ns]; after it everything stays as it was last."""
        return self._recording.end_ns - self._recording.start_ns

    def reset(self, seed: int) -> None:
        """Goes back to the beginning; the seed changes nothing."""
        self._step = 0
        self.worst_deviation_rad = 0.0

    def randomise(self, seed: int, level: Level | None = None) -> None:
        """Changes nothing; a recording can't be varied.

        Raises:
            SimulationError: Something is to be varied.
        """
        if level not in (None, "none"):
            raise SimulationError(
                "a recording can't be varied", expected="randomisation 'none'", got=level, next_step="use mujoco"
            )

    def apply(self, command: Command) -> None:
        """Checks a command and notes how far it leads away from the recording (`worst_deviation_rad`).

        Raises:
            SimulationError: NaN, or outside the robot's limits.
        """
        joints = np.asarray(command.joint_positions, dtype=np.float64)
        if joints.shape != (7,) or not np.all(np.isfinite(joints)) or not np.isfinite(command.gripper_width):
            raise SimulationError("a command holds NaN or infinity", expected="7 finite numbers", got=str(command))
        low, high = self._links.arm_range
        outside = np.flatnonzero((joints < low - _LIMIT_TOLERANCE_RAD) | (joints > high + _LIMIT_TOLERANCE_RAD))
        if outside.size:
            k = int(outside[0])
            raise SimulationError(
                "a command is outside the joint limits",
                where=ARM_JOINTS[k],
                expected=f"{low[k]:.4f} … {high[k]:.4f} rad",
                got=f"{joints[k]:.4f} rad",
            )
        if not -_WIDTH_TOLERANCE_M <= command.gripper_width <= MAX_GRIPPER_WIDTH + _WIDTH_TOLERANCE_M:
            raise SimulationError(
                "a command is outside the gripper's range",
                expected=f"0 … {MAX_GRIPPER_WIDTH} m",
                got=f"{command.gripper_width:.4f} m",
            )
        reached = self._recording.joints.at(self._stamp_ns + CONTROL_PERIOD_NS)[0, :7]
        self.worst_deviation_rad = max(self.worst_deviation_rad, float(np.abs(joints - reached).max()))

    def advance_to(self, time_ns: int) -> None:
        """Lets time pass, rounded to the nearest physics step; it never goes back."""
        self._step = max(self._step, round(time_ns / _STEP_NS))

    @property
    def _stamp_ns(self) -> int:
        return self._recording.start_ns + self.time_ns

    def state(self) -> SimState:
        """Returns the recorded state; poses and speeds of objects that the bag doesn't know are NaN."""
        positions, velocities, efforts = self._recording.joints.at(self._stamp_ns)
        links, tcp = self._links.at(positions)
        objects, speeds = {}, {}
        for name in self.task.objects:
            track = self._recording.objects.get(name)
            if track is None:
                objects[name], speeds[name] = Pose(np.full(3, np.nan), np.array([0.0, 0.0, 0.0, 1.0])), float("nan")
            else:
                value = track.at(self._stamp_ns)
                objects[name], speeds[name] = Pose(value[:3], value[3:]), _speed(track, self._stamp_ns)
        return SimState(
            time_ns=self.time_ns,
            robot=RobotState(positions.copy(), velocities.copy(), efforts.copy()),
            tcp=tcp,
            links=links,
            objects=objects,
            object_speeds=speeds,
        )

    def render(self, stream: Stream) -> NDArray[Any]:
        """Returns the recorded picture: "colour" uint8[H, W, 3] or "depth" float32[H, W], metres, NaN where invalid."""
        if stream not in self._streams:
            topic = topics.COLOR_IMAGE if stream == "colour" else topics.DEPTH_IMAGE
            self._streams[stream] = FrameStream(self._recording.path, topic)
        return np.array(self._streams[stream].at(self._stamp_ns))  # a copy: the next call may ask for the same picture

    def close(self) -> None:
        """Closes the bag."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()


def _depth_kind(kinds: dict[str, DepthKind]) -> DepthKind:
    """What the recorded depth is; a bag that says nothing is taken for a sensor's, which nothing may be added to."""
    return kinds.get(topics.DEPTH_IMAGE, DepthKind.SENSOR)


def _speed(track: Track, stamp_ns: int) -> float:
    """Speed of an object from the last two recorded poses [m/s]."""
    index = track.index(stamp_ns)
    if index == 0:
        return 0.0
    seconds = float(track.stamps_ns[index] - track.stamps_ns[index - 1]) * 1e-9
    return float(np.linalg.norm(track.values[index, :3] - track.values[index - 1, :3])) / max(seconds, 1e-9)
