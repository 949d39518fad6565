"""Records demonstrations: one bag an episode, failures kept apart, nothing half-written under a final name.

Layout of the output folder: `<task>_000000/`, `<task>_000001/`, … for successful episodes and `failed/<task>_000002/`
for the others. The number is that of the attempt; attempt k is reset with seed + k, so an episode depends only on its
number and the settings, never on what was recorded before it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.errors import OutputError, RealdiffError
from realdiff_core.messages import make
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics
from realdiff_sim_bridge.adapters import Quality, Simulator, create
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.contract import RECORDED, TopicContract
from realdiff_sim_bridge.episodes import Tick, play
from realdiff_sim_bridge.experts import PickAndPlaceExpert
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

_FAILED, _INCOMPLETE, _LOCK = "failed", ".incomplete", ".lock"
_CLOCK = TopicContract(topics.CLOCK, "rosgraph_msgs/msg/Clock")


@dataclass(frozen=True)
class Settings:
    """What a recording looks like; every value is written into each bag's provenance.

    Attributes:
        rate_hz: Camera frames per second of simulation time.
        width: Image width [px]; None: as the camera's profile says.
        height: Image height [px]; None: as the camera's profile says.
        encoding: Depth encoding: 16UC1 (millimetres, as the driver) or 32FC1 (metres).
        quality: Looks of the colour image.
        clock: Also record /clock.
        simulator: Name of the simulator.
    """

    rate_hz: float = 10.0
    width: int | None = None
    height: int | None = None
    encoding: Literal["16UC1", "32FC1"] = "16UC1"
    quality: Quality = "good"
    clock: bool = False
    simulator: str = "mujoco"

    def notes(self) -> dict[str, str]:
        """The settings as texts for the provenance record."""
        return {name: str(value) for name, value in asdict(self).items() if name != "simulator"}


@dataclass(frozen=True)
class Attempt:
    """A finished attempt.

    Attributes:
        index: Its number, from 0.
        path: The bag.
        success: The task was done in time.
        resumed: The bag was there already.
    """

    index: int
    path: Path
    success: bool
    resumed: bool = False


class Recorder:
    """Plays and records episodes of one task.

    Args:
        task: The task's configuration.
        settings: What a recording looks like.
        storage: Storage of the bags.
        compression: Compression of the bags.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        storage: Literal["mcap", "sqlite3"] = "mcap",
        compression: Literal["none", "zstd"] = "none",
    ) -> None:
        """Builds simulator and expert."""
        self.task = task
        self.settings = settings
        self._storage, self._compression = storage, compression
        self.rig = camera_rig(task, width=settings.width, height=settings.height)
        self.simulator: Simulator = create(settings.simulator, task, self.rig, quality=settings.quality)
        self._expert = PickAndPlaceExpert(task)

    def close(self) -> None:
        """Frees the simulator."""
        self.simulator.close()

    def provenance(self, seed: int, success: bool | None) -> BagProvenance:
        """The provenance record of an episode; without `success` while it isn't known."""
        return BagProvenance(
            depth=dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), DepthKind.CLEAN_SIM),
            source="simulation",
            task=self.task.name,
            seed=seed,
            simulator=f"{self.simulator.name} {self.simulator.version}",
            camera_profile=self.rig.profile.name,
            success=success,
            notes=self.settings.notes(),
        )

    def record(self, path: Path, seed: int, episode: int = 0, on_frame: Callable[[], None] | None = None) -> bool:
        """Plays one episode into a bag.

        Args:
            path: The bag to make.
            seed: Seed of the reset.
            episode: Number of the episode, for the task status.
            on_frame: Called after every camera frame.

        Returns:
            Whether the task was done in time.

        Raises:
            OutputError: The bag exists or can't be written.
            SimulationError: The simulation has become unstable; no bag is left.
        """
        outcome = False
        with BagWriter(path, storage=self._storage, compression=self._compression) as bag:
            recorded = (*RECORDED, _CLOCK) if self.settings.clock else RECORDED
            types = {topic.name: topic.msgtype for topic in recorded}
            for topic in recorded:
                bag.add_topic(topic.name, topic.msgtype, topic.qos)

            def write(messages: list[Outgoing], time_ns: int) -> None:
                for message in messages:
                    bag.write_message(message.topic, time_ns, make(types[message.topic], **message.fields))

            first = [static_transforms(self.rig), provenance_message(0, self.provenance(seed, None))]
            write(first, 0)
            subtask = self.task.subtasks[0].name
            for tick in play(self.simulator, self._expert, seed, self.settings.rate_hz):
                subtask = tick.step.subtask if tick.step is not None else subtask
                write(self._messages(tick, seed, episode, subtask), tick.state.time_ns)
                if tick.frame and on_frame is not None:
                    on_frame()
                outcome = bool(tick.outcome)
            bag.set_provenance(self.provenance(seed, outcome))
        return outcome

    def _messages(self, tick: Tick, seed: int, episode: int, subtask: str) -> list[Outgoing]:
        state, time_ns = tick.state, tick.state.time_ns
        messages: list[Outgoing] = [clock(time_ns)] if self.settings.clock else []
        messages += [*robot_messages(state), object_poses(state)]
        if tick.step is not None:
            messages += [commanded_action(time_ns, tick.step), arm_trajectory(tick.step)]
        if tick.frame:
            messages += camera_messages(
                self.rig,
                time_ns,
                self.simulator.render("colour"),
                self.simulator.render("depth"),
                self.settings.encoding,
            )
        if tick.frame or tick.outcome is not None:
            messages.append(
                task_status(
                    time_ns, task=self.task.name, seed=seed, episode=episode, subtask=subtask, success=tick.success,
                    elapsed_s=time_ns * 1e-9,
                )
            )  # fmt: skip
        return messages


def record_episodes(
    recorder: Recorder,
    output: Path,
    *,
    episodes: int,
    seed: int,
    resume: bool = False,
    on_frame: Callable[[], None] | None = None,
) -> Iterator[Attempt]:
    """Records until there are as many successful episodes as wanted.

    Args:
        recorder: Plays and records.
        output: Folder of the bags; made where it is missing.
        episodes: Number of successful episodes wanted.
        seed: Attempt k is reset with seed + k.
        resume: Keep the episodes that are there already and go on after them.
        on_frame: Called after every camera frame.

    Yields:
        Every attempt when its bag is complete, those found already with `resumed` set.

    Raises:
        OutputError: The folder holds episodes of this task already (without `resume`), or episodes of other settings.
        RealdiffError: Too many attempts have failed: more than twice the wanted episodes and 10.
    """
    task = recorder.task.name
    with _locked(output):
        found = _existing(output, task)
        if found and not resume:
            raise OutputError(
                "the output folder holds episodes of this task already",
                where=found[min(found)],
                expected="a folder without episodes of this task",
                got=f"{len(found)} of them",
                next_step="go on after them with --resume, or choose another folder",
            )
        shutil.rmtree(output / _INCOMPLETE, ignore_errors=True)
        successes = failures = index = 0
        while successes < episodes:
            if failures > 2 * episodes + 10:
                raise RealdiffError(
                    f"the expert fails at task {task} too often",
                    got=f"{failures} failures and {successes} successes",
                    next_step=f"look at the bags in {output / _FAILED}",
                )
            if index in found:
                attempt = _check_found(found[index], index, recorder, seed + index)
            else:
                attempt = _attempt(recorder, output, index, seed + index, on_frame)
            successes += int(attempt.success)
            failures += int(not attempt.success)
            index += 1
            yield attempt
        shutil.rmtree(output / _INCOMPLETE, ignore_errors=True)


def _attempt(recorder: Recorder, output: Path, index: int, seed: int, on_frame: Callable[[], None] | None) -> Attempt:
    name = f"{recorder.task.name}_{index:06d}"
    with ExitStack() as cleanup:
        folder = output / _INCOMPLETE
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        success = recorder.record(folder / name, seed, index, on_frame)
        final = output / name if success else output / _FAILED / name
        final.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(final)
    return Attempt(index, final, success)


def _existing(output: Path, task: str) -> dict[int, Path]:
    """Returns the bags of a task by the number of the attempt."""
    found = {}
    for folder in (output, output / _FAILED):
        for path in folder.glob(f"{task}_*"):
            number = path.name.removeprefix(f"{task}_")
            if number.isdecimal() and len(number) >= 6 and path.is_dir():
                found[int(number)] = path
    return found


def _check_found(path: Path, index: int, recorder: Recorder, seed: int) -> Attempt:
    """Checks that a bag which is there already is what would be recorded now."""
    with BagReader(path) as bag:
        provenance = bag.provenance()
    if provenance is None or provenance.success is None:
        raise OutputError(
            "a bag in the output folder isn't a recorded episode",
            where=path,
            expected="provenance with the episode's success",
            got="none",
            next_step="move it away, or choose another folder",
        )
    expected = recorder.provenance(seed, provenance.success)
    for key, want in expected.model_dump(mode="json").items():
        have = provenance.model_dump(mode="json")[key]
        if key != "software" and have != want:
            raise OutputError(
                f"an episode in the output folder was recorded with another {key}",
                where=path,
                expected=want,
                got=have,
                next_step="give the same task, seed and settings as before, or choose another folder",
            )
    return Attempt(index, path, provenance.success, resumed=True)


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keeps two recordings out of one folder; the lock goes with the process."""
    if output.exists() and not output.is_dir():
        raise OutputError("the output isn't a folder", where=output, next_step="choose another name")
    output.mkdir(parents=True, exist_ok=True)
    handle = os.open(output / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                "another recording writes into this folder",
                where=output,
                next_step="wait for it, or choose another folder",
            ) from None
        yield
    finally:
        (output / _LOCK).unlink(missing_ok=True)
        os.close(handle)
