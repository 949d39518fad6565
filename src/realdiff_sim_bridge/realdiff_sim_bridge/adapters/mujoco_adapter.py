"""The MuJoCo simulator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.adapters.base import (
    Command,
    Quality,
    RobotState,
    SimState,
    Stream,
)
from realdiff_sim_bridge.adapters.set_points import SetPoints
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.randomisation import LEVELS, Distractor, Level, draw_distractors, draw_variation
from realdiff_sim_bridge.rendering import select_gl
from realdiff_sim_bridge.resets import StartState, draw_start
from realdiff_sim_bridge.scene.build import COLOUR_CAMERA, DEPTH_CAMERA, FAR_M, PHYSICS_STEP_S, build_scene
from realdiff_sim_bridge.scene.renderer import SceneRenderer
from realdiff_sim_bridge.scene.robot import (
    ARM_JOINTS,
    FINGER_JOINTS,
    GRIPPER_ACTUATOR,
    TCP_Z,
    detail_for,
)
from realdiff_sim_bridge.scene.variation import SceneVariation
from realdiff_sim_bridge.tasks import Task

_WITH_LOOKS: tuple[Level, ...] = ("looks", "all")
_STEP_NS = round(PHYSICS_STEP_S * 1e9)
_HAND_TCP = Pose(np.array([0.0, 0.0, TCP_Z]), np.array([0.0, 0.0, 0.0, 1.0]))

_SETTLE_NS = 400_000_000
"""Physics run before time 0, so that objects rest on the table in the first frame."""


class MujocoSimulator:
    """A task in MuJoCo; see `realdiff_sim_bridge.adapters.base.Simulator`.

    Args:
        task: The task's configuration.
        rig: The cameras to render, where they ought to be.
        quality: Looks of the colour image; depth doesn't depend on it.
        detail: Share of the robot's visual triangles to keep, in (0, 1]; None: as the pictures' size asks for.
        randomisation: What every reset varies.
    """

    name = "mujoco"

    def __init__(
        self,
        task: Task,
        rig: CameraRig,
        *,
        quality: Quality = "good",
        detail: float | None = None,
        randomisation: Level = "none",
    ) -> None:
        """Builds the scene; rendering starts with the first picture."""
        select_gl()
        import mujoco

        # MuJoCo would append its warnings to a file in the working directory; `advance_to` raises an error instead.
        mujoco.set_mju_user_warning(_ignore_warning)
        self.task = task
        self.rig = rig
        self.quality = quality
        self.randomisation: Level = randomisation
        self.version = str(mujoco.__version__)
        self._mujoco = mujoco
        self._model = _compile(
            task, rig, detail=detail or detail_for(rig.depth.width), looks=randomisation in _WITH_LOOKS
        )
        self._variation = SceneVariation(self._model, task, rig)
        self._items = dict(task.objects)
        self._data = mujoco.MjData(self._model)
        self._renderers: dict[Stream, SceneRenderer] = {}
        self._outdated: set[Stream] = set()
        model = self._model
        self._qpos = np.array([model.joint(name).qposadr[0] for name in (*ARM_JOINTS, *FINGER_JOINTS)])
        self._dof = np.array([model.joint(name).dofadr[0] for name in (*ARM_JOINTS, *FINGER_JOINTS)])
        self._arm_actuators = np.array([model.actuator(name).id for name in ARM_JOINTS])
        self._gripper_actuator = model.actuator(GRIPPER_ACTUATOR).id
        self._object_qpos = {name: int(model.joint(f"{name}_free").qposadr[0]) for name in task.objects}
        self._object_dof = {name: int(model.joint(f"{name}_free").dofadr[0]) for name in task.objects}
        self._objects = {name: model.body(name).id for name in task.objects}
        self._links = {
            name: model.body(name).id
            for name in (model.body(i).name for i in range(model.nbody))
            if name.startswith("fr3_")
        }
        # A servo force kp·(ctrl − q) − kv·q̇ lags by kv/kp seconds behind a moving target; adding the target's velocity
        # in this proportion to the control cancels the lag.
        self._lead_s = -model.actuator_biasprm[self._arm_actuators, 2] / model.actuator_gainprm[self._arm_actuators, 0]
        self._step = 0
        self.reset(0)

    @property
    def time_ns(self) -> int:
        """Simulation time since the reset [ns]."""
        return self._step * _STEP_NS

    @property
    def model(self) -> Any:
        """The compiled MjModel."""
        return self._model

    @property
    def data(self) -> Any:
        """The current MjData."""
        return self._data

    def reset(self, seed: int) -> None:
        """Varies the scene and puts it into the start state drawn from `seed`."""
        varied = self._vary(seed, self.randomisation)
        start = draw_start(varied, seed)
        distractors = draw_distractors(varied, seed, start.objects) if self.randomisation in _WITH_LOOKS else ()
        self.set_start(start, distractors)

    def randomise(self, seed: int, level: Level | None = None) -> None:
        """Varies physics and looks as drawn from `seed` and leaves the objects where they are."""
        wanted = self.randomisation if level is None else level
        if wanted not in LEVELS:
            raise SimulationError("unknown level of randomisation", expected=", ".join(LEVELS), got=wanted)
        if wanted in _WITH_LOOKS and self.randomisation not in _WITH_LOOKS:
            raise SimulationError(
                "the scene holds nothing in reserve for other looks",
                expected=f"a simulator made with randomisation {' or '.join(_WITH_LOOKS)}",
                got=self.randomisation,
            )
        before = self._items
        self._vary(seed, wanted)
        for name, item in self._items.items():
            self._data.qpos[self._object_qpos[name] + 2] += item.rest_height - before[name].rest_height
        self._mujoco.mj_forward(self._model, self._data)

    def _vary(self, seed: int, level: Level) -> Task:
        """Applies a draw to the model; returns the task with its objects as they are now."""
        variation = draw_variation(self.task, seed, level)
        self.rig = self._variation.apply(variation)
        self._outdated = set(self._renderers)
        varied = variation.applied(self.task)
        self._items = varied.objects
        return varied

    def set_start(self, start: StartState, distractors: tuple[Distractor, ...] = ()) -> None:
        """Puts the scene into a given start state, at time 0, with everything at rest."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_resetData(model, data)
        data.qpos[self._qpos[:7]] = start.joint_positions
        data.qpos[self._qpos[7:]] = start.gripper_width / 2
        for name, pose in start.objects.items():
            address = self._object_qpos[name]
            data.qpos[address : address + 3] = pose.position
            data.qpos[address + 3 : address + 7] = pose.quaternion_wxyz
        self._variation.place_distractors(data, distractors)
        joints = np.asarray(start.joint_positions, dtype=np.float64)
        self._set_points = SetPoints(joints, start.gripper_width)
        self._step = 0
        self.advance_to(_SETTLE_NS)
        self._step = 0
        data.time = 0.0
        self._set_points = SetPoints(joints, start.gripper_width)

    def apply(self, command: Command) -> None:
        """Sets the command to be reached one control period from now."""
        self._set_points.apply(command, self.time_ns)

    def advance_to(self, time_ns: int) -> None:
        """Runs physics up to a time, rounded to the nearest physics step."""
        data = self._data
        last = round(time_ns / _STEP_NS)
        while self._step < last:
            positions, velocities = self._set_points.arm(self.time_ns)
            data.ctrl[self._arm_actuators] = positions + self._lead_s * velocities
            data.ctrl[self._gripper_actuator] = self._set_points.step_width() / 2
            self._mujoco.mj_step(self._model, data)
            self._step += 1
        self._mujoco.mj_forward(self._model, data)
        if not np.all(np.isfinite(data.qpos)) or np.any(np.abs(data.qvel) > 1e3) or data.warning.number.any():
            raise SimulationError(
                "the simulation has become unstable",
                where=f"task {self.task.name} at {self.time_ns * 1e-9:.3f} s",
                next_step="check masses, sizes and start ranges of the task's objects; then reset",
            )

    def state(self) -> SimState:
        """Returns the true state of now."""
        data = self._data
        robot = RobotState(
            positions=data.qpos[self._qpos].copy(),
            velocities=data.qvel[self._dof].copy(),
            efforts=data.qfrc_actuator[self._dof].copy(),
        )
        return SimState(
            time_ns=self.time_ns,
            robot=robot,
            tcp=self._body_pose(self._links["fr3_hand"]) @ _HAND_TCP,
            links={name: self._body_pose(body) for name, body in self._links.items()},
            objects={name: self._body_pose(body) for name, body in self._objects.items()},
            object_speeds={name: math.hypot(*data.qvel[dof : dof + 3]) for name, dof in self._object_dof.items()},
            items=self._items,
        )

    def _body_pose(self, body: int) -> Pose:
        return Pose.from_wxyz(self._data.xpos[body], self._data.xquat[body])

    def render(self, stream: Stream) -> NDArray[Any]:
        """Renders one imager: "colour" uint8[H, W, 3] or "depth" float32[H, W] in metres with NaN for nothing."""
        renderer = self._renderers.get(stream)
        if renderer is None:
            renderer = self._renderers[stream] = self._open_renderer(stream)
        elif stream in self._outdated:
            renderer.reload(self._variation.changed_meshes, self._variation.changed_textures)
        self._outdated.discard(stream)
        image = renderer.render(self._data)
        if stream == "depth":
            image[image >= 0.999 * FAR_M] = np.nan
        return image

    def _open_renderer(self, stream: Stream) -> SceneRenderer:
        if stream == "depth":
            camera = self.rig.depth
            return SceneRenderer(self._model, DEPTH_CAMERA, camera.width, camera.height, depth=True, smooth=False)
        camera = self.rig.colour
        smooth = self.quality == "good"
        return SceneRenderer(self._model, COLOUR_CAMERA, camera.width, camera.height, depth=False, smooth=smooth)

    def close(self) -> None:
        """Frees the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def _ignore_warning(text: str) -> None:
    """MuJoCo's warnings are read from the data they belong to."""


def _compile(task: Task, rig: CameraRig, *, detail: float, looks: bool) -> Any:
    try:
        return build_scene(task, rig, detail=detail, looks=looks)
    except ValueError as error:  # MuJoCo's compiler: sizes or masses beyond what it can represent
        raise SimulationError(
            "the scene can't be built",
            where=f"task {task.name}",
            got=str(error),
            next_step="check masses and sizes of the task's objects",
        ) from error
