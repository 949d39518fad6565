"""The MuJoCo simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.adapters.base import (
    CONTROL_PERIOD_NS,
    GRIPPER_SPEED,
    Command,
    Quality,
    RobotState,
    SimState,
    Stream,
)
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.errors import RenderingError, SimulationError
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.rendering import select_gl
from realdiff_sim_bridge.resets import StartState, draw_start
from realdiff_sim_bridge.scene.build import COLOUR_CAMERA, DEPTH_CAMERA, FAR_M, PHYSICS_STEP_S, build_scene
from realdiff_sim_bridge.scene.objects import COLLISION_GROUP
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS, GRIPPER_ACTUATOR, MAX_GRIPPER_WIDTH, TCP_Z
from realdiff_sim_bridge.tasks import Task

_STEP_NS = round(PHYSICS_STEP_S * 1e9)
_HAND_TCP = Pose(np.array([0.0, 0.0, TCP_Z]), np.array([0.0, 0.0, 0.0, 1.0]))

_SETTLE_NS = 400_000_000
"""Physics run before time 0, so that objects rest on the table in the first frame."""


class MujocoSimulator:
    """A task in MuJoCo; see `realdiff_sim_bridge.adapters.base.Simulator`.

    Args:
        task: The task's configuration.
        rig: The cameras to render.
        quality: Looks of the colour image; depth doesn't depend on it.
        detail: Share of the robot's visual triangles to keep, in (0, 1].
    """

    name = "mujoco"

    def __init__(self, task: Task, rig: CameraRig, *, quality: Quality = "good", detail: float = 0.2) -> None:
        """Builds the scene; rendering starts with the first picture."""
        select_gl()
        import mujoco

        self.task = task
        self.rig = rig
        self.quality = quality
        self.version = str(mujoco.__version__)
        self._mujoco = mujoco
        self._model = build_scene(task, rig, detail=detail)
        self._data = mujoco.MjData(self._model)
        self._renderers: dict[Stream, mujoco.Renderer] = {}
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
        self._segment = (0, np.zeros(7), np.zeros(7), 0.0)
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
        """Puts the scene into the start state drawn from `seed`."""
        self.set_start(draw_start(self.task, seed))

    def set_start(self, start: StartState) -> None:
        """Puts the scene into a given start state, at time 0, with everything at rest."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_resetData(model, data)
        data.qpos[self._qpos[:7]] = start.joint_positions
        data.qpos[self._qpos[7:]] = start.gripper_width / 2
        for name, pose in start.objects.items():
            address = self._object_qpos[name]
            data.qpos[address : address + 3] = pose.position
            data.qpos[address + 3 : address + 7] = pose.quaternion_wxyz
        joints = np.asarray(start.joint_positions, dtype=np.float64)
        self._segment = (0, joints, joints, start.gripper_width)
        self._width_command = start.gripper_width
        self._step = 0
        self.advance_to(_SETTLE_NS)
        self._step = 0
        data.time = 0.0
        self._segment = (0, joints, joints, start.gripper_width)

    def apply(self, command: Command) -> None:
        """Sets the command to be reached one control period from now."""
        if not np.all(np.isfinite(command.joint_positions)) or not np.isfinite(command.gripper_width):
            raise SimulationError("a command holds NaN or infinity", expected="finite numbers", got=str(command))
        self._segment = (
            self.time_ns,
            self._arm_target(self.time_ns)[0],
            np.asarray(command.joint_positions, dtype=np.float64).copy(),
            float(np.clip(command.gripper_width, 0.0, MAX_GRIPPER_WIDTH)),
        )

    def _arm_target(self, time_ns: int) -> tuple[FloatArray, FloatArray]:
        """Interpolated joint command at a time: positions [rad] and velocities [rad/s]."""
        start_ns, before, after, _ = self._segment
        share = (time_ns - start_ns) / CONTROL_PERIOD_NS
        if share >= 1.0:
            return after, np.zeros(7)
        return before + share * (after - before), (after - before) / (CONTROL_PERIOD_NS * 1e-9)

    def advance_to(self, time_ns: int) -> None:
        """Runs physics up to a time, rounded to the nearest physics step."""
        data = self._data
        last = round(time_ns / _STEP_NS)
        travel = GRIPPER_SPEED * PHYSICS_STEP_S
        while self._step < last:
            positions, velocities = self._arm_target(self.time_ns)
            data.ctrl[self._arm_actuators] = positions + self._lead_s * velocities
            self._width_command += float(np.clip(self._segment[3] - self._width_command, -travel, travel))
            data.ctrl[self._gripper_actuator] = self._width_command / 2
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
            object_speeds={
                name: float(np.linalg.norm(data.qvel[dof : dof + 3])) for name, dof in self._object_dof.items()
            },
        )

    def _body_pose(self, body: int) -> Pose:
        return Pose.from_wxyz(self._data.xpos[body], self._data.xquat[body])

    def render(self, stream: Stream) -> NDArray[Any]:
        """Renders one imager: "colour" uint8[H, W, 3] or "depth" float32[H, W] in metres with NaN for nothing."""
        renderer = self._renderers.get(stream) or self._open_renderer(stream)
        option = self._mujoco.MjvOption()
        option.geomgroup[COLLISION_GROUP] = 0
        if stream == "colour":
            renderer.update_scene(self._data, camera=COLOUR_CAMERA, scene_option=option)
            return np.asarray(renderer.render(), dtype=np.uint8).copy()
        renderer.update_scene(self._data, camera=DEPTH_CAMERA, scene_option=option)
        depth = np.asarray(renderer.render(), dtype=np.float32).copy()
        depth[depth >= 0.999 * FAR_M] = np.nan
        return depth

    def _open_renderer(self, stream: Stream) -> Any:
        """Opens a renderer: anti-aliased for colour, one sample at the pixel's centre for depth."""
        camera = self.rig.colour if stream == "colour" else self.rig.depth
        # A multisampled depth buffer resolves to a sample beside the pixel's centre: wrong by millimetres on slopes.
        good = stream == "colour" and self.quality == "good"
        self._model.vis.quality.offsamples = 4 if good else 0
        self._model.vis.quality.shadowsize = 1024 if good else 0
        try:
            renderer = self._mujoco.Renderer(self._model, height=camera.height, width=camera.width)
        except Exception as error:
            # MuJoCo, PyOpenGL and ctypes each raise their own types here; none says what a user can do.
            raise RenderingError(
                "off-screen rendering doesn't start on this machine",
                got=f"{type(error).__name__}: {error}",
                next_step="sudo apt-get install -y libegl1 libgl1-mesa-dri (or libosmesa6, and MUJOCO_GL=osmesa)",
            ) from error
        if stream == "depth":
            renderer.enable_depth_rendering()
        elif not good:
            renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._renderers[stream] = renderer
        return renderer

    def close(self) -> None:
        """Frees the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
