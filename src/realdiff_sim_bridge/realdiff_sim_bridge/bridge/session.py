"""A running simulation behind the bridge node, without any ROS: what happens from one control step to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics
from realdiff_sim_bridge.adapters import Command, Quality, SimState, Simulator, Stream, create
from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS
from realdiff_sim_bridge.bridge.trajectory import JointTrajectory
from realdiff_sim_bridge.cameras import CameraRig, camera_rig
from realdiff_sim_bridge.experts import PickAndPlaceExpert
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH
from realdiff_sim_bridge.streams import (
    Outgoing,
    camera_messages,
    clock,
    commanded_action,
    object_poses,
    provenance_message,
    robot_messages,
    static_transforms,
    task_status,
)
from realdiff_sim_bridge.success import SuccessMonitor
from realdiff_sim_bridge.tasks import Task, load_task

Behaviour = Literal["idle", "expert"]

START_NS = 1_000_000_000
"""Time of the first message: a stamp of zero means "the latest" to tf2 and "not set" to clocks."""

_PAUSE_NS = 1_000_000_000
"""Time between the end of the expert's episode and the next reset."""


@dataclass(frozen=True)
class SessionSettings:
    """What the node's parameters say.

    Attributes:
        task: Task name or path.
        seed: Seed of the first reset; the expert's following episodes use the next ones.
        rate_hz: Camera frames per second of simulation time.
        width: Image width [px]; None: as the camera's profile says.
        height: Image height [px]; None: as the camera's profile says.
        encoding: Depth encoding.
        quality: Looks of the colour image.
        behaviour: "expert" plays the task again and again, "idle" obeys commands.
        simulator: Name of the simulator.
    """

    task: str = "can_to_plate"
    seed: int = 0
    rate_hz: float = 15.0
    width: int | None = None
    height: int | None = None
    encoding: Literal["16UC1", "32FC1"] = "16UC1"
    quality: Quality = "fast"
    behaviour: Behaviour = "idle"
    simulator: str = "mujoco"


class Session:
    """A running simulation.

    Times that leave this class never go back: a reset starts the simulator's own clock at zero again, the published one
    goes on.

    Args:
        settings: What to simulate.
        wanted: Tells whether anybody listens to a topic; images nobody wants are not rendered, as the real driver does.
    """

    def __init__(self, settings: SessionSettings, wanted: Callable[[str], bool] = lambda topic: True) -> None:
        """Builds the scene and resets it."""
        self.settings = settings
        self._wanted = wanted
        self._open(load_task(settings.task))
        self._offset_ns = START_NS
        self.episode = 0
        self.seed = settings.seed
        self._restart(settings.seed)

    def _open(self, task: Task) -> None:
        settings = self.settings
        rig = camera_rig(task, width=settings.width, height=settings.height)
        simulator = create(settings.simulator, task, rig, quality=settings.quality)
        expert = PickAndPlaceExpert(task)
        for stream in get_args(Stream):  # a machine that can't render shall say so at once
            simulator.render(stream)
        self.task: Task = task
        self.rig: CameraRig = rig
        self._simulator: Simulator = simulator
        self._expert = expert

    def close(self) -> None:
        """Frees the simulator."""
        self._simulator.close()

    @property
    def time_ns(self) -> int:
        """The published simulation time."""
        return self._offset_ns + self._simulator.time_ns

    @property
    def commanded(self) -> Command:
        """The command in force."""
        return self._command

    def reset(self, seed: int, task: str = "") -> str:
        """Puts the scene into the start state drawn from a seed.

        Args:
            seed: The seed.
            task: Another task's name; empty keeps the task.

        Returns:
            A short description of the scene.

        Raises:
            ConfigError: There is no such task; nothing has changed then.
        """
        if task and task != self.task.name:
            elapsed, previous = self.time_ns, self._simulator
            self._open(load_task(task))
            previous.close()
            self._offset_ns = elapsed
        self.episode += 1
        self._restart(seed)
        positions = ", ".join(
            f"{name} at ({pose.position[0]:.3f}, {pose.position[1]:.3f})"
            for name, pose in self._simulator.state().objects.items()
        )
        return f"{self.task.name}, seed {seed}: {positions} m"

    def _restart(self, seed: int) -> None:
        # One control period passes, so that no stamp occurs twice.
        self._offset_ns = self.time_ns + (CONTROL_PERIOD_NS if self.episode else 0)
        self.seed = seed
        self._simulator.reset(seed)
        state = self._simulator.state()
        self._expert.reset(state, seed)
        self._monitor = SuccessMonitor(self.task)
        self._trajectory: tuple[JointTrajectory, int] | None = None
        self._command = Command(state.robot.arm_positions.copy(), MAX_GRIPPER_WIDTH)
        self._controls = self._frames = 0
        self._subtask = ""
        self._ended_ns: int | None = None

    def follow(self, trajectory: JointTrajectory) -> None:
        """Starts to follow a trajectory from now on; one that is being followed is dropped."""
        self._refuse_expert("a trajectory")
        self._trajectory = (trajectory, self._simulator.time_ns)

    def hold(self) -> None:
        """Drops the trajectory and holds the commanded position."""
        self._trajectory = None

    def grip(self, width: float) -> None:
        """Opens or closes the gripper to a width [m].

        Raises:
            ConfigError: The width is outside the hand's range, or the expert is at work.
        """
        self._refuse_expert("a gripper command")
        if not (np.isfinite(width) and 0.0 <= width <= MAX_GRIPPER_WIDTH):
            raise ConfigError("gripper width out of range", expected=f"0 … {MAX_GRIPPER_WIDTH} m", got=width)
        self._command = Command(self._command.joint_positions, float(width))

    def _refuse_expert(self, what: str) -> None:
        if self.settings.behaviour == "expert":
            raise ConfigError(
                f"{what} is refused while the expert moves the robot",
                expected="behaviour 'idle'",
                got="behaviour 'expert'",
                next_step="start the simulation with behaviour:=idle",
            )

    @property
    def trajectory_start(self) -> FloatArray:
        """float64[7], from where a new trajectory starts: the commanded joint positions [rad]."""
        return self._command.joint_positions

    def state(self) -> SimState:
        """The true state, stamped with the published time."""
        return replace(self._simulator.state(), time_ns=self.time_ns)

    def provenance(self) -> BagProvenance:
        """Where the depth topics' content comes from."""
        return BagProvenance(
            depth=dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), DepthKind.CLEAN_SIM),
            source="simulation",
            task=self.task.name,
            seed=self.seed,
            simulator=f"{self._simulator.name} {self._simulator.version}",
            camera_profile=self.rig.profile.name,
        )

    def latched(self) -> list[Outgoing]:
        """Messages to publish once, and again after a reset: static frames and provenance."""
        return [static_transforms(self.rig), provenance_message(self.time_ns, self.provenance())]

    def advance(self) -> list[Outgoing]:
        """Runs to the next moment at which controller or camera acts.

        Returns:
            The messages of that moment, /clock first.

        Raises:
            SimulationError: The simulation has become unstable; a reset mends it.
        """
        control_ns = self._controls * CONTROL_PERIOD_NS
        frame_ns = round(self._frames * 1e9 / self.settings.rate_hz)
        self._simulator.advance_to(min(control_ns, frame_ns))
        now = self._simulator.time_ns
        control = now >= control_ns
        # A frame within the same physics step as a control step is taken together with it.
        frame = now >= frame_ns or abs(now - frame_ns) <= 1_000_000
        truth = self._simulator.state()
        state = replace(truth, time_ns=self.time_ns)
        success = self._monitor.update(truth)
        messages = [clock(self.time_ns)]
        if control:
            self._controls += 1
            messages += [*robot_messages(state), object_poses(state)]
            messages += self._act(truth)
        if frame:
            self._frames += 1
            messages += camera_messages(
                self.rig,
                self.time_ns,
                self._simulator.render("colour") if self._wanted(topics.COLOR_IMAGE) else None,
                self._simulator.render("depth") if self._depth_wanted() else None,
                self.settings.encoding,
                aligned=self._wanted(topics.ALIGNED_DEPTH_IMAGE),
            )
            messages.append(self._status(success))
        return messages

    def _depth_wanted(self) -> bool:
        return self._wanted(topics.DEPTH_IMAGE) or self._wanted(topics.ALIGNED_DEPTH_IMAGE)

    def _act(self, truth: SimState) -> list[Outgoing]:
        """Decides on the command of the coming control period."""
        messages: list[Outgoing] = []
        if self.settings.behaviour == "expert":
            step = self._expert.act(truth)
            self._command, self._subtask = step.command, step.subtask
            messages = [commanded_action(self.time_ns, step)]
        elif self._trajectory is not None:
            trajectory, started_ns = self._trajectory
            elapsed_ns = truth.time_ns + CONTROL_PERIOD_NS - started_ns
            self._command = Command(trajectory.sample(elapsed_ns * 1e-9), self._command.gripper_width)
            if elapsed_ns * 1e-9 >= trajectory.duration_s:
                self._trajectory = None
        self._simulator.apply(self._command)
        return messages

    def next_episode(self) -> bool:
        """With the expert at work: starts the next episode once the present one has been over for a second.

        Returns:
            Whether the scene has been reset.
        """
        if self.settings.behaviour != "expert":
            return False
        now = self._simulator.time_ns
        if self._ended_ns is None and (self._monitor.done or now >= self.task.horizon_s * 1e9):
            self._ended_ns = now
        if self._ended_ns is None or now - self._ended_ns < _PAUSE_NS:
            return False
        self.reset(self.seed + 1)
        return True

    @property
    def busy(self) -> bool:
        """Whether a trajectory is being followed."""
        return self._trajectory is not None

    def _status(self, success: bool) -> Outgoing:
        return task_status(
            self.time_ns,
            task=self.task.name,
            seed=self.seed,
            episode=self.episode,
            subtask=self._subtask,
            success=success,
            elapsed_s=self._simulator.time_ns * 1e-9,
        )
