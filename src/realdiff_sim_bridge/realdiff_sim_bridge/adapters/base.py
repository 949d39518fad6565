"""What every simulator offers to recorder and bridge node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.objects import TaskObject
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.tasks import Task

Stream = Literal["colour", "depth"]

Quality = Literal["good", "fast"]
"""Looks of the colour image: "good" has shadows and smooth edges, "fast" has neither and takes a fifth of the time."""

CONTROL_PERIOD_NS = 20_000_000
"""Time between two commands of experts and policies' splines: 50 Hz."""

GRIPPER_SPEED = 0.10
"""Speed at which the gripper's width follows its command [m/s], as the real hand's default."""


@dataclass(frozen=True)
class Command:
    """What the robot is asked to do.

    Attributes:
        joint_positions: float64[7], arm joints 1–7 [rad].
        gripper_width: Distance between the fingers [m].
    """

    joint_positions: FloatArray
    gripper_width: float


@dataclass(frozen=True)
class RobotState:
    """Measured joint states: arm joints 1–7, then both fingers.

    Attributes:
        positions: float64[9], [rad] and [m].
        velocities: float64[9], [rad/s] and [m/s].
        efforts: float64[9], [N·m] and [N].
    """

    positions: FloatArray
    velocities: FloatArray
    efforts: FloatArray

    @property
    def arm_positions(self) -> FloatArray:
        """float64[7], arm joints [rad]."""
        return self.positions[:7]

    @property
    def gripper_width(self) -> float:
        """Distance between the fingers [m]."""
        return float(self.positions[7] + self.positions[8])


@dataclass(frozen=True)
class SimState:
    """The scene's true state at one moment; all poses in the frame "base".

    Attributes:
        time_ns: Simulation time since the reset.
        robot: Joint states.
        tcp: Pose of fr3_hand_tcp.
        links: Poses of the robot's links by the URDF's names, fr3_link0 … fr3_rightfinger.
        objects: Poses of the task's objects.
        object_speeds: Linear speeds of the task's objects [m/s].
        items: The objects as they really are after this reset (sizes are randomised); one that is missing here is as
            the task's configuration says.
    """

    time_ns: int
    robot: RobotState
    tcp: Pose
    links: dict[str, Pose]
    objects: dict[str, Pose]
    object_speeds: dict[str, float]
    items: dict[str, TaskObject] = field(default_factory=dict)


class Simulator(Protocol):
    """A simulator of one task. Not thread-safe; rendering must happen in the thread that made the simulator.

    Attributes:
        name: Name of the simulator.
        version: Its version.
        task: The task's configuration.
        rig: The cameras where they really are: randomised looks displace them at every reset.
        randomisation: What a reset varies.
    """

    name: str
    version: str
    task: Task
    rig: CameraRig
    randomisation: Level

    @property
    def time_ns(self) -> int:
        """Simulation time since the reset [ns]; advances in whole physics steps."""
        ...

    def reset(self, seed: int) -> None:
        """Varies the scene (`randomise`) and puts it into the start state drawn from `seed`, at time 0.

        The same seed gives the same state and the same pictures, bit for bit, whatever went before.

        Raises:
            ConfigError: The objects don't fit into their start ranges.
            SimulationError: The scene is unstable.
        """
        ...

    def randomise(self, seed: int, level: Level | None = None) -> None:
        """Varies physics and looks as drawn from `seed` and leaves the objects where they are.

        `reset` does it with its own seed. By itself it shows a state in other looks; as sizes may change and
        distractors go into reserve, varied physics calls for a reset.

        Args:
            seed: The seed.
            level: What to vary, the rest being as configured; None: the simulator's own level.

        Raises:
            SimulationError: The simulator wasn't made for this level.
        """
        ...

    def apply(self, command: Command) -> None:
        """Sets the command to be reached one control period from now; the way there is interpolated."""
        ...

    def advance_to(self, time_ns: int) -> None:
        """Runs physics up to a time (rounded to the nearest physics step).

        Raises:
            SimulationError: The simulation has become unstable.
        """
        ...

    def state(self) -> SimState:
        """Returns the true state of now."""
        ...

    def render(self, stream: Stream) -> NDArray[Any]:
        """Renders one imager.

        Returns:
            "colour": uint8[H, W, 3], RGB. "depth": float32[H, W], distance along the optical axis in metres, exact
            (no sensor effects), NaN where there is nothing.
        """
        ...

    def close(self) -> None:
        """Frees the renderer."""
        ...
