"""What is to be recorded: everything that an episode's bytes depend on but its seed.

A plan is plain data, so that it can be sent to worker processes and other machines; each builds its own simulator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from realdiff_sim_bridge.adapters.base import Quality
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.tasks import Task

if TYPE_CHECKING:
    from realdiff_sim_bridge.episodes import MotionSource
    from realdiff_sim_bridge.recorder import Recorder


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
        randomisation: What every reset varies beside the start poses.
        disturbance_rad: Size of the pushes that the arm gets on its way (standard deviation of a joint's offset [rad]).
        simulator: Name of the simulator.
    """

    rate_hz: float = 10.0
    width: int | None = None
    height: int | None = None
    encoding: Literal["16UC1", "32FC1"] = "16UC1"
    quality: Quality = "good"
    clock: bool = False
    randomisation: Level = "all"
    disturbance_rad: float = 0.0
    simulator: str = "mujoco"

    def notes(self) -> dict[str, str]:
        """The settings as texts for the provenance record."""
        return {name: str(value) for name, value in asdict(self).items() if name != "simulator"}


def default_quality(width: int | None) -> Quality:
    """Returns the looks of colour images of a width [px]; None: the camera's own.

    Small ones go without shadows and smooth edges: the difference hardly shows and takes four fifths of the time.
    """
    return "fast" if width is not None and width <= 480 else "good"


class SourceSpec(Protocol):
    """Which motion source plays the episodes: plain data, made into a source by each worker."""

    def create(self, task: Task) -> MotionSource:
        """Makes the motion source."""
        ...

    def notes(self) -> dict[str, str]:
        """What the provenance record says about it."""
        ...


@dataclass(frozen=True)
class ExpertSpec:
    """The scripted expert."""

    def create(self, task: Task) -> MotionSource:
        """Makes the expert of a task."""
        from realdiff_sim_bridge.experts import PickAndPlaceExpert

        return PickAndPlaceExpert(task)

    def notes(self) -> dict[str, str]:
        """What the provenance record says about it."""
        return {"source": "expert"}


@dataclass(frozen=True)
class RecordingPlan:
    """A task, what its recording looks like and what moves the robot.

    Attributes:
        task: The task's configuration.
        settings: What a recording looks like.
        storage: Storage of the bags.
        compression: Compression of the bags.
        source: What moves the robot.
    """

    task: Task
    settings: Settings = field(default_factory=Settings)
    storage: Literal["mcap", "sqlite3"] = "mcap"
    compression: Literal["none", "zstd"] = "none"
    source: SourceSpec = field(default_factory=ExpertSpec)

    def build(self) -> Recorder:
        """Builds simulator and motion source."""
        from realdiff_sim_bridge.recorder import Recorder

        return Recorder(self.task, self.settings, self.storage, self.compression, self.source)
