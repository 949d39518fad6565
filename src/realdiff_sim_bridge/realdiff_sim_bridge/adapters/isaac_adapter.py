"""NVIDIA Isaac Sim 5 behind the simulators' protocol.

Written against the documented API of Isaac Sim 5.0/5.1 (https://docs.isaacsim.omniverse.nvidia.com/5.1.0/py/) and
tested against a double of that API, not on Isaac Sim itself: see docs/guides/isaac.md. Physics (PhysX) repeats itself
on one machine only; pictures are ray-traced and contain noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.adapters import isaac_stage
from realdiff_sim_bridge.adapters.base import (
    CONTROL_PERIOD_NS,
    Command,
    Quality,
    RobotState,
    SimState,
    Stream,
)
from realdiff_sim_bridge.adapters.isaac_app import ROBOT_VARIABLE, load_isaac, robot_asset
from realdiff_sim_bridge.adapters.isaac_cameras import IsaacCameras
from realdiff_sim_bridge.adapters.link_poses import LinkPoses
from realdiff_sim_bridge.adapters.set_points import SetPoints
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.randomisation import Level, draw_variation
from realdiff_sim_bridge.resets import draw_start
from realdiff_sim_bridge.scene.build import PHYSICS_STEP_S, build_scene
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS
from realdiff_sim_bridge.tasks import Task

_LEVELS: tuple[Level, ...] = ("none", "physics")
_JOINTS = (*ARM_JOINTS, *FINGER_JOINTS)
_STEP_NS = round(PHYSICS_STEP_S * 1e9)
_SETTLE_NS = 400_000_000

_FINGER_GAINS, _FINGER_FORCE_N = (1500.0, 60.0), 30.0
"""Stiffness [N/m], damping [N·s/m] and greatest force of a finger: both together grip like the hand in MuJoCo."""


class IsaacSimulator:
    """A task in Isaac Sim; see `realdiff_sim_bridge.adapters.base.Simulator`.

    Args:
        task: The task's configuration.
        rig: The cameras to render, where they ought to be.
        quality: Taken note of, without effect: Isaac Sim always traces rays.
        randomisation: What every reset varies: "none" or "physics".

    Raises:
        SimulationError: Isaac Sim isn't installed, or its assets can't be reached.
        ConfigError: Looks can't be varied here.
    """

    name = "isaac"

    def __init__(self, task: Task, rig: CameraRig, *, quality: Quality = "good", randomisation: Level = "none") -> None:
        """Starts Isaac Sim and builds the stage."""
        _check_level(randomisation)
        isaac = load_isaac()
        self.task = task
        self.rig = rig
        self.quality = quality
        self.randomisation: Level = randomisation
        self.version = isaac.version
        self._isaac = isaac
        self._model = build_scene(task, rig)
        self._links = LinkPoses()
        self._items = dict(task.objects)
        self._world = isaac.world(
            physics_dt=PHYSICS_STEP_S, rendering_dt=CONTROL_PERIOD_NS * 1e-9, stage_units_in_meters=1.0, backend="numpy"
        )
        paths = isaac_stage.author_scene(self._world.stage, self._model)
        isaac_stage.author_lights(self._world.stage)
        isaac.add_reference(usd_path=robot_asset(isaac), prim_path=isaac_stage.ROBOT_PATH)
        scene = self._world.scene
        self._robot = scene.add(isaac.articulation(prim_path=isaac_stage.ROBOT_PATH, name="fr3"))
        self._bodies = {
            name: scene.add(isaac.rigid_prim(prim_path=path, name=name, reset_xform_properties=False))
            for name, path in paths.items()
        }
        self._fingers = isaac_stage.physics_material(self._world.stage, "fingertips", _finger_friction(self._model))
        self._cameras = IsaacCameras(isaac, self._world, rig)
        self._step = 0
        self.reset(0)

    @property
    def time_ns(self) -> int:
        """Simulation time since the reset [ns]."""
        return self._step * _STEP_NS

    def reset(self, seed: int) -> None:
        """Varies the scene and puts it into the start state drawn from `seed`, at time 0."""
        varied = self._vary(seed, self.randomisation)
        start = draw_start(varied, seed)
        self._initialise()
        joints = np.asarray(start.joint_positions, dtype=np.float64)
        fingers = np.full(2, start.gripper_width / 2)
        self._robot.set_joint_positions(np.concatenate([joints, fingers]), joint_indices=self._dofs)
        self._robot.set_joint_velocities(np.zeros(len(_JOINTS)), joint_indices=self._dofs)
        for name, pose in start.objects.items():
            body = self._bodies[name]
            body.set_world_pose(position=pose.position, orientation=pose.quaternion_wxyz)
            body.set_linear_velocity(np.zeros(3))
            body.set_angular_velocity(np.zeros(3))
        self._set_points = SetPoints(joints, start.gripper_width)
        self._step = 0
        self.advance_to(_SETTLE_NS)
        self._step = 0
        self._set_points = SetPoints(joints, start.gripper_width)

    def _initialise(self) -> None:
        """Stops and starts physics, which reads sizes and materials anew, and sets up the drives again."""
        self._world.reset()
        robot = self._robot
        try:
            self._dofs = np.array([robot.get_dof_index(name) for name in _JOINTS])
        except (KeyError, ValueError) as error:
            raise SimulationError(
                "the robot's asset isn't an FR3 with its hand",
                expected=", ".join(_JOINTS),
                got=", ".join(robot.dof_names or []),
                next_step=f"set {ROBOT_VARIABLE} to the USD file of an FR3 with the Franka hand",
            ) from error
        robot.disable_gravity()  # the real controllers compensate it
        stiffness, damping, force = _drives(self._model)
        kps, kds = np.zeros(robot.num_dof), np.zeros(robot.num_dof)
        kps[self._dofs], kds[self._dofs] = stiffness, damping
        controller = robot.get_articulation_controller()
        controller.set_gains(kps=kps, kds=kds)
        controller.set_max_efforts(force, joint_indices=self._dofs)

    def randomise(self, seed: int, level: Level | None = None) -> None:
        """Varies physics as drawn from `seed`; the objects keep their poses."""
        _check_level(level or self.randomisation)
        poses = {name: body.get_world_pose() for name, body in self._bodies.items()}
        positions = self._robot.get_joint_positions(joint_indices=self._dofs)
        before = self._items
        self._vary(seed, level or self.randomisation)
        self._initialise()
        self._robot.set_joint_positions(positions, joint_indices=self._dofs)
        for name, (position, orientation) in poses.items():
            lift = np.array([0.0, 0.0, self._items[name].rest_height - before[name].rest_height])
            self._bodies[name].set_world_pose(position=position + lift, orientation=orientation)

    def _vary(self, seed: int, level: Level) -> Task:
        """Sets sizes, masses and friction; returns the task with its objects as they are now."""
        variation = draw_variation(self.task, seed, level)
        stage = self._world.stage
        for name, factors in variation.objects.items():
            body = self._bodies[name]
            body.set_local_scale(np.full(3, factors.size))
            body.set_mass(self.task.objects[name].mass * factors.mass)
            isaac_stage.physics_material(stage, name, _object_friction(self._model, name) * factors.friction)
        isaac_stage.physics_material(stage, "room", _table_friction(self._model) * variation.table_friction)
        friction = _finger_friction(self._model) * variation.fingertip_friction
        fingers = isaac_stage.physics_material(stage, "fingertips", friction)
        for link in ("fr3_leftfinger", "fr3_rightfinger"):
            if stage.GetPrimAtPath(f"{isaac_stage.ROBOT_PATH}/{link}"):
                isaac_stage.bind_material(stage, f"{isaac_stage.ROBOT_PATH}/{link}", fingers)
        varied = variation.applied(self.task)
        self._items = varied.objects
        return varied

    def apply(self, command: Command) -> None:
        """Sets the command to be reached one control period from now."""
        self._set_points.apply(command, self.time_ns)

    def advance_to(self, time_ns: int) -> None:
        """Runs physics up to a time, rounded to the nearest physics step."""
        last = round(time_ns / _STEP_NS)
        while self._step < last:
            positions, velocities = self._set_points.arm(self.time_ns)
            fingers = np.full(2, self._set_points.step_width() / 2)
            self._robot.apply_action(
                self._isaac.action(
                    joint_positions=np.concatenate([positions, fingers]),
                    joint_velocities=np.concatenate([velocities, np.zeros(2)]),
                    joint_indices=self._dofs,
                )
            )
            self._world.step(render=False)
            self._step += 1
        positions = self._robot.get_joint_positions(joint_indices=self._dofs)
        velocities = self._robot.get_joint_velocities(joint_indices=self._dofs)
        if not np.all(np.isfinite(positions)) or np.any(np.abs(velocities) > 1e3):
            raise SimulationError(
                "the simulation has become unstable",
                where=f"task {self.task.name} at {self.time_ns * 1e-9:.3f} s",
                next_step="check masses, sizes and start ranges of the task's objects; then reset",
            )

    def state(self) -> SimState:
        """Returns the true state of now."""
        robot = RobotState(
            positions=np.array(self._robot.get_joint_positions(joint_indices=self._dofs), dtype=np.float64),
            velocities=np.array(self._robot.get_joint_velocities(joint_indices=self._dofs), dtype=np.float64),
            efforts=np.array(self._robot.get_measured_joint_efforts(joint_indices=self._dofs), dtype=np.float64),
        )
        links, tcp = self._links.at(robot.positions)
        objects, speeds = {}, {}
        for name, body in self._bodies.items():
            position, orientation = body.get_world_pose()
            objects[name] = Pose.from_wxyz(
                np.array(position, dtype=np.float64), np.array(orientation, dtype=np.float64)
            )
            speeds[name] = float(np.linalg.norm(body.get_linear_velocity()))
        return SimState(self.time_ns, robot, tcp, links, objects, speeds, dict(self._items))

    def render(self, stream: Stream) -> NDArray[Any]:
        """Renders one imager: "colour" uint8[H, W, 3] or "depth" float32[H, W] in metres with NaN for nothing."""
        return self._cameras.render(stream)

    def close(self) -> None:
        """Frees cameras and stage; the process can't start another Isaac Sim, so the application stays."""
        self._cameras.close()
        self._world.stop()
        self._world.clear_instance()


def _check_level(level: Level) -> None:
    if level not in _LEVELS:
        raise ConfigError(
            "Isaac Sim's looks can't be varied here",
            expected=f"randomisation {' or '.join(_LEVELS)}",
            got=level,
            next_step="vary the looks with the simulator 'mujoco'",
        )


def _drives(model: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Stiffness, damping and greatest effort of arm and fingers, float64[9] each; the arm's as in MuJoCo."""
    arm = np.array([model.actuator(name).id for name in ARM_JOINTS])
    stiffness = np.concatenate([model.actuator_gainprm[arm, 0], np.full(2, _FINGER_GAINS[0])])
    damping = np.concatenate([-model.actuator_biasprm[arm, 2], np.full(2, _FINGER_GAINS[1])])
    force = np.concatenate([model.actuator_forcerange[arm, 1], np.full(2, _FINGER_FORCE_N)])
    return stiffness, damping, force


def _finger_friction(model: Any) -> float:
    fingers = [model.body(name).id for name in ("fr3_leftfinger", "fr3_rightfinger")]
    geoms = np.flatnonzero(np.isin(model.geom_bodyid, fingers) & (model.geom_priority > 0))
    return float(model.geom_friction[geoms, 0].max())


def _object_friction(model: Any, name: str) -> float:
    geoms = np.flatnonzero((model.geom_bodyid == model.body(name).id) & (model.geom_contype > 0))
    return float(model.geom_friction[geoms, 0].max())


def _table_friction(model: Any) -> float:
    return float(model.geom("table").friction[0])
