"""A running simulation behind the bridge node, without any ROS: what happens from one control step to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import BagProvenance

from realdiff_core import topics
from realdiff_sim_bridge.adapters import Command, Quality, SimState, Simulator, Stream, create
from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS
from realdiff_sim_bridge.bridge.arm_controller import ArmController, ControllerSettings
from realdiff_sim_bridge.bridge.controller_state import CONTROLLER_STATE, controller_state
from realdiff_sim_bridge.bridge.depth_sensor import DepthSensor, SensorName
from realdiff_sim_bridge.bridge.external_force import NONE, force_sensor
from realdiff_sim_bridge.bridge.gripper_controller import GripperController
from realdiff_sim_bridge.bridge.robot import ReflexLimits, Robot
from realdiff_sim_bridge.bridge.robot_state import STATE_TOPICS, RobotStateFields
from realdiff_sim_bridge.bridge.trajectory import JointSample
from realdiff_sim_bridge.cameras import CameraRig, camera_rig
from realdiff_sim_bridge.experts import PickAndPlaceExpert
from realdiff_sim_bridge.randomisation import Level
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH
from realdiff_sim_bridge.streams import (
    Outgoing,
    camera_messages,
    clock,
    commanded_action,
    extrinsics,
    gripper_state,
    object_poses,
    point_cloud,
    provenance_message,
    rgbd,
    robot_messages,
    static_transforms,
    task_status,
)
from realdiff_sim_bridge.success import SuccessMonitor
from realdiff_sim_bridge.tasks import Task, load_task

Behaviour = Literal["idle", "expert"]
FrameMaker = Callable[[], list[Outgoing]]

START_NS = 1_000_000_000
"""Time of the first message: a stamp of zero means "the latest" to tf2 and "not set" to clocks."""

_PAUSE_NS = 1_000_000_000
"""Time between the end of the expert's episode and the next reset."""

_GRIPPER_PERIOD_NS = 1_000_000_000 // 15
"""The gripper driver's rate."""


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
        randomisation: What every reset varies beside the start poses.
        bag: Path of the episode that the simulator "replay" plays.
        sensor: What the depth topics carry.
        controller: Parameters of the arm's controller.
        arm_controller: Its name.
        reflex: What the robot stops for by itself; with the expert at work it doesn't.
        points: Whether to make point clouds, if somebody wants them.
        rgbd: Whether to make RGBD messages, if somebody wants them.
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
    randomisation: Level = "none"
    bag: str = ""
    sensor: SensorName = "clean"
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    arm_controller: str = "fr3_arm_controller"
    reflex: ReflexLimits = field(default_factory=ReflexLimits)
    points: bool = False
    rgbd: bool = False


class Session:
    """A running simulation.

    Times that leave this class never go back: a reset starts the simulator's own clock at zero again, the published one
    goes on.

    Args:
        settings: What to simulate.
        wanted: Tells whether anybody listens to a topic; images nobody wants are not rendered, as the real driver does.
        report: Told about what the robot does by itself.
    """

    def __init__(
        self,
        settings: SessionSettings,
        wanted: Callable[[str], bool] = lambda topic: True,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Builds the scene and resets it."""
        self.settings = settings
        self._wanted = wanted
        self._report = report
        self._sensor_name: SensorName = settings.sensor
        self._state_fields = RobotStateFields()
        self.robot = Robot(settings.reflex, settings.arm_controller)
        self.gripper = GripperController(MAX_GRIPPER_WIDTH)
        self._external = NONE
        self._open(load_task(settings.task))
        self.arm = ArmController(settings.controller, self._simulator.state().robot.arm_positions)
        self._offset_ns = START_NS
        self.episode = 0
        self.seed = settings.seed
        self._restart(settings.seed)

    def _open(self, task: Task) -> None:
        settings = self.settings
        rig = camera_rig(task, width=settings.width, height=settings.height)
        bag = Path(settings.bag) if settings.bag else None
        simulator = create(
            settings.simulator, task, rig, quality=settings.quality, randomisation=settings.randomisation, bag=bag
        )
        try:
            expert = PickAndPlaceExpert(task)
            for stream in get_args(Stream):  # a machine that can't render shall say so at once
                simulator.render(stream)
            simulator.rig.align(simulator.render("depth"))  # compiled now, not in the middle of a motion
            sensor = DepthSensor(simulator, self._sensor_name)
        except Exception:
            simulator.close()
            raise
        self.task: Task = task
        self._simulator: Simulator = simulator
        self._expert = expert
        self._sensor = sensor
        self._forces = force_sensor(simulator)

    def close(self) -> None:
        """Frees the simulator."""
        self._simulator.close()

    @property
    def rig(self) -> CameraRig:
        """The cameras where they are since the last reset; a recording has its own."""
        return self._simulator.rig

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
        self._command = Command(state.robot.arm_positions.copy(), MAX_GRIPPER_WIDTH)
        self.robot.restart()
        self.arm.active = True
        self.arm.restart(self._command.joint_positions, "the scene has been reset")
        self.gripper.restart(MAX_GRIPPER_WIDTH, "the scene has been reset")
        self._external = NONE
        self._controls = self._frames = 0
        self._gripper_due_ns = 0
        self._subtask = ""
        self._ended_ns: int | None = None

    def refuse_expert(self, what: str) -> None:
        """Refuses commands while the expert is at work.

        Raises:
            ConfigError: It is.
        """
        if self.settings.behaviour == "expert":
            raise ConfigError(
                f"{what} is refused while the expert moves the robot",
                expected="behaviour 'idle'",
                got="behaviour 'expert'",
                next_step="start the simulation with behaviour:=idle",
            )

    def set_sensor(self, name: SensorName) -> None:
        """Switches what the depth topics carry; the provenance changes with it.

        Raises:
            ConfigError: The simulator can't feed this sensor.
        """
        self._sensor = DepthSensor(self._simulator, name)
        self._sensor_name = name

    @property
    def sensor(self) -> SensorName:
        """What the depth topics carry."""
        return self._sensor_name

    def switch_arm_controller(self) -> None:
        """Lets the arm's controller follow what the robot says about it."""
        if self.robot.controller_active and not self.arm.active:
            self.arm.activate()
        elif not self.robot.controller_active and self.arm.active:
            self.arm.deactivate("the controller has been deactivated")

    def state(self) -> SimState:
        """The true state, stamped with the published time."""
        return replace(self._simulator.state(), time_ns=self.time_ns)

    def provenance(self) -> BagProvenance:
        """Where the depth topics' content comes from."""
        varied = {"randomisation": self.settings.randomisation} if self.settings.simulator != "replay" else {}
        return BagProvenance(
            depth=dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), self._sensor.kind),
            source=getattr(self._simulator, "source", "simulation"),
            task=self.task.name,
            seed=self.seed,
            simulator=f"{self._simulator.name} {self._simulator.version}",
            camera_profile=self.rig.profile.name,
            notes={**varied, **self._sensor.notes},
        )

    def latched(self) -> list[Outgoing]:
        """Messages to publish at first and after each reset, which may move the camera: frames and provenance."""
        return [
            static_transforms(self.rig),
            extrinsics(self.rig),
            provenance_message(self.time_ns, self.provenance()),
        ]

    def advance(self, later: Callable[[FrameMaker], None] | None = None) -> list[Outgoing]:
        """Runs to the next moment at which controller or camera acts.

        Args:
            later: Takes over a frame's conversion into messages, so that another thread can do it; None: at once.

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
            messages += self._act(truth)
            messages += self._robot_messages(state)
        if frame:
            self._frames += 1
            make_frame = self._picture()
            if later is None:
                messages += make_frame()
            else:
                later(make_frame)
            messages.append(self._status(success))
        return messages

    def _robot_messages(self, state: SimState) -> list[Outgoing]:
        messages = [m for m in robot_messages(state) if m.topic != topics.GRIPPER_JOINT_STATES]
        messages.append(object_poses(state))
        if state.time_ns - self._offset_ns >= self._gripper_due_ns:
            self._gripper_due_ns += _GRIPPER_PERIOD_NS
            messages.append(gripper_state(state))
        if self._wanted(CONTROLLER_STATE):
            messages.append(controller_state(state.time_ns, self.arm.state))
        if any(map(self._wanted, STATE_TOPICS)):
            messages += self._state_fields.messages(state, self.arm.state, self.robot, self._external)
        return messages

    def _picture(self) -> FrameMaker:
        """Takes the pictures that are wanted; what it returns turns them into messages and needs no simulator."""
        settings = self.settings
        points = settings.points and self._wanted(topics.POINTS)
        combined = settings.rgbd and self._wanted(topics.RGBD)
        colour_wanted = points or combined or self._wanted(topics.COLOR_IMAGE)
        aligned_wanted = combined or self._wanted(topics.ALIGNED_DEPTH_IMAGE)
        depth_wanted = points or aligned_wanted or self._wanted(topics.DEPTH_IMAGE)
        colour = self._simulator.render("colour") if colour_wanted else None
        depth = self._sensor.measure(self.seed, self._frames) if depth_wanted else None
        rig, time_ns = self.rig, self.time_ns

        def make() -> list[Outgoing]:
            messages = camera_messages(rig, time_ns, colour, depth, settings.encoding, aligned=aligned_wanted)
            if points and colour is not None and depth is not None:
                messages.append(point_cloud(rig, time_ns, depth, colour))
            if combined:
                messages.append(rgbd(rig, time_ns, messages))
            return messages

        return make

    def _act(self, truth: SimState) -> list[Outgoing]:
        """Decides on the command of the coming control period."""
        messages: list[Outgoing] = []
        robot = truth.robot
        measured = JointSample(robot.arm_positions, robot.velocities[:7].copy(), np.zeros(7))
        self._external = self._forces()
        if self.settings.behaviour == "expert":
            step = self._expert.act(truth)
            self._command, self._subtask = step.command, step.subtask
            self.arm.mirror(measured, step.command.joint_positions)
            messages = [commanded_action(self.time_ns, step)]
        else:
            if event := self.robot.watch(robot, self._external):
                self._report(event)
                self.arm.deactivate(event)
            finger_speed = float(np.max(np.abs(robot.velocities[7:])))
            self._command = Command(
                self.arm.update(self.time_ns, measured), self.gripper.update(robot.gripper_width, finger_speed)
            )
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

    def _status(self, success: bool) -> Outgoing:
        return task_status(
            self.time_ns,
            task=self.task.name,
            seed=self.seed,
            episode=self.episode,
            subtask=self._subtask,
            success=success,
            elapsed_s=self._simulator.time_ns * 1e-9,
            message=", ".join(sorted(self.robot.errors)),
        )
