"""Plays one episode and writes it into a bag. What is recorded is described by `recording.plan.RecordingPlan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagWriter
from realdiff_core.cdr import encode
from realdiff_core.contract import contract
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics
from realdiff_sim_bridge.adapters import Simulator, create
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.contract import RECORDED
from realdiff_sim_bridge.episodes import Tick, play
from realdiff_sim_bridge.errors import MotionError, SimulationError
from realdiff_sim_bridge.recording.folder import record_episodes
from realdiff_sim_bridge.recording.plan import ExpertSpec, RecordingPlan, Settings, SourceSpec
from realdiff_sim_bridge.recording.thumbnails import save_thumbnail
from realdiff_sim_bridge.streams import (
    Outgoing,
    arm_trajectory,
    camera_messages,
    clock,
    commanded_action,
    object_poses,
    provenance_message,
    robot_messages,
    static_transforms,
    task_status,
)
from realdiff_sim_bridge.tasks import Task

_CLOCK = contract().topic(topics.CLOCK)

__all__ = ["EpisodeResult", "Recorder", "RecordingPlan", "Settings", "record_episodes"]


@dataclass(frozen=True)
class EpisodeResult:
    """What became of an episode.

    Attributes:
        success: The task was done in time.
        duration_s: Simulation time at its end [s].
        reason: Why it failed, where that is known better than "not done in time".
    """

    success: bool
    duration_s: float
    reason: str = ""


class Recorder:
    """Plays and records episodes of one task.

    Args:
        task: The task's configuration.
        settings: What a recording looks like.
        storage: Storage of the bags.
        compression: Compression of the bags.
        source: What moves the robot; by default the scripted expert.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        storage: Literal["mcap", "sqlite3"] = "mcap",
        compression: Literal["none", "zstd"] = "none",
        source: SourceSpec | None = None,
    ) -> None:
        """Builds simulator and motion source."""
        self.task = task
        self.settings = settings
        self._storage, self._compression = storage, compression
        self._source_spec = source or ExpertSpec()
        self.rig = camera_rig(task, width=settings.width, height=settings.height)
        self.simulator: Simulator = create(
            settings.simulator, task, self.rig, quality=settings.quality, randomisation=settings.randomisation
        )
        self._source = self._source_spec.create(task)

    def close(self) -> None:
        """Frees the simulator."""
        self.simulator.close()

    def provenance(self, seed: int, success: bool | None, outcome: dict[str, str] | None = None) -> BagProvenance:
        """The provenance record of an episode.

        Args:
            seed: Seed of the reset.
            success: Whether the task was done; None while it isn't known.
            outcome: Notes on what happened in this episode, beside those on how it was recorded.
        """
        return BagProvenance(
            depth=dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), DepthKind.CLEAN_SIM),
            source="simulation",
            task=self.task.name,
            seed=seed,
            simulator=f"{self.simulator.name} {self.simulator.version}",
            camera_profile=self.rig.profile.name,
            success=success,
            notes={**self.settings.notes(), **self._source_spec.notes(), **(outcome or {})},
        )

    def record(
        self,
        path: Path,
        seed: int,
        episode: int = 0,
        on_frame: Callable[[], None] | None = None,
        thumbnail: Path | None = None,
    ) -> EpisodeResult:
        """Plays one episode into a bag.

        An episode in which the simulation explodes or the motion source finds no motion has failed: its bag ends there
        and its provenance says why, in the note "failure".

        Args:
            path: The bag to make.
            seed: Seed of the reset.
            episode: Number of the episode, for the task status.
            on_frame: Called after every camera frame.
            thumbnail: Where to put a small picture of its beginning and end (JPEG).

        Returns:
            How it ended.

        Raises:
            OutputError: The bag exists or can't be written.
        """
        pictures: list[NDArray[np.uint8]] = []
        with BagWriter(path, storage=self._storage, compression=self._compression) as bag:
            recorded = (*RECORDED, _CLOCK) if self.settings.clock else RECORDED
            types = {topic.name: topic.msgtype for topic in recorded}
            for topic in recorded:
                bag.add_topic(topic.name, topic.msgtype, topic.qos)

            def write(messages: list[Outgoing], time_ns: int) -> None:
                for message in messages:
                    bag.write(message.topic, time_ns, encode(types[message.topic], message.fields))

            success, reason, time_ns = False, "", 0
            settings = self.settings
            ticks = play(self.simulator, self._source, seed, settings.rate_hz, settings.disturbance_rad)
            subtask = ""
            write([provenance_message(0, self.provenance(seed, None))], 0)
            try:
                for number, tick in enumerate(ticks):
                    time_ns = tick.state.time_ns
                    if number == 0:  # only now: a reset may have moved the camera
                        write([static_transforms(self.simulator.rig)], 0)
                    before, subtask = subtask, tick.step.subtask if tick.step is not None else subtask
                    colour = self.simulator.render("colour") if tick.frame else None
                    write(self._messages(tick, colour, seed, episode, subtask, subtask != before), time_ns)
                    if colour is not None:
                        pictures[1:] = [colour]  # the first and the latest
                        if on_frame is not None:
                            on_frame()
                    success = bool(tick.outcome)
            except (SimulationError, MotionError) as error:
                reason = error.what if error.where is None else f"{error.what} ({error.where})"
            outcome = {**getattr(self._source, "episode_notes", {}), **({"failure": reason} if reason else {})}
            bag.set_provenance(self.provenance(seed, success, outcome))
        if thumbnail is not None:
            save_thumbnail(thumbnail, pictures)
        return EpisodeResult(success, time_ns * 1e-9, reason)

    def _messages(
        self, tick: Tick, colour: NDArray[Any] | None, seed: int, episode: int, subtask: str, begins: bool
    ) -> list[Outgoing]:
        state, time_ns = tick.state, tick.state.time_ns
        messages: list[Outgoing] = [clock(time_ns)] if self.settings.clock else []
        messages += [*robot_messages(state), object_poses(state)]
        if tick.step is not None:
            messages += [commanded_action(time_ns, tick.step), arm_trajectory(tick.step)]
        if colour is not None:
            depth = self.simulator.render("depth")
            messages += camera_messages(self.simulator.rig, time_ns, colour, depth, self.settings.encoding)
        if tick.frame or begins or tick.outcome is not None:
            messages.append(
                task_status(
                    time_ns, task=self.task.name, seed=seed, episode=episode, subtask=subtask, success=tick.success,
                    elapsed_s=time_ns * 1e-9,
                )
            )  # fmt: skip
        return messages
