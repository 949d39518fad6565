"""A strict double of the parts of Isaac Sim 5.0/5.1 that the adapter uses.

Signatures are those of the documented API; unknown names and arguments fail, as does what Isaac Sim refuses: other
modules before the application is started, articulations before the world is reset, cameras before they are initialised.
The stage is a real one (usd-core).
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any, ClassVar

import numpy as np
import pytest

DOFS = [*(f"fr3_joint{k}" for k in range(1, 8)), "fr3_finger_joint1", "fr3_finger_joint2"]
CALLS: list[str] = []


def _note(what: str) -> None:
    CALLS.append(what)


class SimulationApp:
    started = 0

    def __init__(self, launch_config: dict[str, Any] | None = None, experience: str = "") -> None:
        assert launch_config == {"headless": True}
        type(self).started += 1
        _note("SimulationApp")


class _Prim:
    def __init__(self, prim_path: str, name: str) -> None:
        stage = World.current.stage
        assert stage.GetPrimAtPath(prim_path), f"no prim at {prim_path}"
        self.prim_path, self.name = prim_path, name
        self.position, self.orientation = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
        self.ready = False

    def _check(self) -> None:
        assert self.ready, f"{self.name} is used before the world's reset"

    def get_world_pose(self) -> tuple[np.ndarray, np.ndarray]:
        self._check()
        return self.position.astype(np.float32), self.orientation.astype(np.float32)

    def set_world_pose(self, position: Any = None, orientation: Any = None) -> None:
        self._check()
        assert np.shape(position) == (3,)
        assert np.linalg.norm(orientation) == pytest.approx(1.0, abs=1e-3)
        self.position, self.orientation = np.array(position), np.array(orientation)


class SingleRigidPrim(_Prim):
    def __init__(
        self, prim_path: str, name: str = "rigid_prim", position: Any = None, translation: Any = None,
        orientation: Any = None, scale: Any = None, visible: Any = None, reset_xform_properties: bool = True,
        mass: float | None = None, density: float | None = None, linear_velocity: Any = None,
        angular_velocity: Any = None,
    ) -> None:  # fmt: skip
        from pxr import UsdPhysics

        super().__init__(prim_path, name)
        assert World.current.stage.GetPrimAtPath(prim_path).HasAPI(UsdPhysics.RigidBodyAPI)
        self.mass, self.scale, self.speed = mass, np.ones(3), np.zeros(3)

    def set_linear_velocity(self, velocity: np.ndarray) -> None:
        self._check()
        self.speed = velocity

    def get_linear_velocity(self) -> np.ndarray:
        self._check()
        return self.speed

    def set_angular_velocity(self, velocity: np.ndarray) -> None:
        self._check()

    def set_mass(self, mass: float) -> None:
        self.mass = mass

    def set_local_scale(self, scale: Any) -> None:
        self.scale = np.array(scale)


class ArticulationAction:
    def __init__(
        self, joint_positions: Any = None, joint_velocities: Any = None, joint_efforts: Any = None,
        joint_indices: Any = None,
    ) -> None:  # fmt: skip
        self.joint_positions, self.joint_velocities, self.joint_indices = (
            joint_positions,
            joint_velocities,
            joint_indices,
        )
        assert len(joint_positions) == len(joint_velocities) == len(joint_indices)


class ArticulationController:
    def __init__(self) -> None:
        self.kps = self.kds = self.efforts = None

    def set_gains(self, kps: Any = None, kds: Any = None, save_to_usd: bool = False) -> None:
        assert len(kps) == len(kds) == len(SingleArticulation.names)
        self.kps, self.kds = kps, kds

    def set_max_efforts(self, values: np.ndarray, joint_indices: Any = None) -> None:
        assert len(values) == len(joint_indices)
        self.efforts = values


class SingleArticulation(_Prim):
    names: ClassVar[list[str]] = list(reversed(DOFS))
    """Isaac Sim has its own order of joints."""

    def __init__(
        self, prim_path: str, name: str = "articulation", position: Any = None, translation: Any = None,
        orientation: Any = None, scale: Any = None, visible: Any = None, reset_xform_properties: bool = True,
        articulation_controller: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(prim_path, name)
        self.controller = ArticulationController()
        self.q, self.target, self.gravity = np.zeros(len(self.names)), np.zeros(len(self.names)), True

    @property
    def dof_names(self) -> list[str]:
        return self.names

    @property
    def num_dof(self) -> int:
        self._check()
        return len(self.names)

    def get_dof_index(self, dof_name: str) -> int:
        self._check()
        return {name: k for k, name in enumerate(self.names)}[dof_name]

    def disable_gravity(self) -> None:
        self.gravity = False

    def get_articulation_controller(self) -> ArticulationController:
        return self.controller

    def set_joint_positions(self, positions: np.ndarray, joint_indices: Any = None) -> None:
        self._check()
        self.q[joint_indices] = positions
        self.target[joint_indices] = positions

    def set_joint_velocities(self, velocities: np.ndarray, joint_indices: Any = None) -> None:
        self._check()

    def get_joint_positions(self, joint_indices: Any = None) -> np.ndarray:
        self._check()
        return self.q[joint_indices].astype(np.float32)

    def get_joint_velocities(self, joint_indices: Any = None) -> np.ndarray:
        self._check()
        return np.zeros(len(joint_indices), dtype=np.float32)

    def get_measured_joint_efforts(self, joint_indices: Any = None) -> np.ndarray:
        self._check()
        return np.zeros(len(joint_indices), dtype=np.float32)

    def apply_action(self, control_actions: ArticulationAction) -> None:
        self._check()
        self.target[control_actions.joint_indices] = control_actions.joint_positions


class Scene:
    def __init__(self) -> None:
        self.objects: dict[str, _Prim] = {}

    def add(self, obj: _Prim) -> _Prim:
        assert obj.name not in self.objects
        self.objects[obj.name] = obj
        return obj


class World:
    current: World

    def __init__(
        self, physics_dt: float | None = None, rendering_dt: float | None = None,
        stage_units_in_meters: float | None = None, physics_prim_path: str = "/physicsScene",
        sim_params: dict[str, Any] | None = None, set_defaults: bool = True, backend: str = "numpy",
        device: str | None = None,
    ) -> None:  # fmt: skip
        from pxr import Usd

        assert SimulationApp.started == 1
        assert stage_units_in_meters == 1.0
        self.physics_dt, self._stage, self._scene = physics_dt, Usd.Stage.CreateInMemory(), Scene()
        self.steps = self.renders = self.resets = 0
        type(self).current = self

    @property
    def stage(self) -> Any:
        return self._stage

    @property
    def scene(self) -> Scene:
        return self._scene

    def reset(self, soft: bool = False) -> None:
        self.resets += 1
        for item in self._scene.objects.values():
            item.ready = True
        _note("reset")

    def step(self, render: bool = True, step_sim: bool = True) -> None:
        assert not render
        self.steps += 1
        robot = self._scene.objects["fr3"]
        assert isinstance(robot, SingleArticulation)
        robot.q = robot.target.copy()

    def render(self) -> None:
        self.renders += 1

    def stop(self) -> None:
        _note("stop")

    @classmethod
    def clear_instance(cls) -> None:
        _note("clear_instance")


class Camera:
    first_picture = 7
    """Renderings until pictures come."""

    def __init__(
        self, prim_path: str, name: str = "camera", frequency: int | None = None, dt: float | None = None,
        resolution: tuple[int, int] | None = None, position: Any = None, orientation: Any = None,
        translation: Any = None, render_product_path: str | None = None, annotator_device: str | None = None,
    ) -> None:  # fmt: skip
        self.resolution, self.ready, self.annotators = resolution, False, []
        self.settings: dict[str, Any] = {}
        self.opened_at = World.current.renders
        CAMERAS[name] = self

    def initialize(self, physics_sim_view: Any = None, attach_rgb_annotator: bool = True) -> None:
        self.ready = True
        self.annotators += ["rgb"] if attach_rgb_annotator else []

    def add_distance_to_image_plane_to_frame(self, init_params: dict[str, Any] | None = None) -> None:
        assert self.ready
        self.annotators.append("distance_to_image_plane")

    def set_clipping_range(self, near_distance: float | None = None, far_distance: float | None = None) -> None:
        self.settings["clip"] = (near_distance, far_distance)

    def set_horizontal_aperture(self, value: float, maintain_square_pixels: bool = True) -> None:
        self.settings["aperture"] = value

    def set_focal_length(self, value: float) -> None:
        self.settings["focal"] = value

    def set_opencv_pinhole_properties(
        self, cx: float | None = None, cy: float | None = None, fx: float | None = None, fy: float | None = None,
        pinhole: list[float] | None = None,
    ) -> None:  # fmt: skip
        assert pinhole is not None
        assert len(pinhole) == 12
        self.settings["pinhole"] = (cx, cy, fx, fy, pinhole)

    def set_world_pose(self, position: Any = None, orientation: Any = None, camera_axes: str = "world") -> None:
        assert camera_axes in ("world", "ros", "usd")
        self.settings["pose"] = (np.array(position), np.array(orientation), camera_axes)

    def _rendered(self, annotator: str) -> bool:
        assert self.ready
        assert annotator in self.annotators
        return World.current.renders - self.opened_at >= self.first_picture

    def get_rgb(self, device: str | None = None) -> np.ndarray:
        width, height = self.resolution or (0, 0)
        return np.full((height, width, 3), 90, np.uint8) if self._rendered("rgb") else np.empty(0)

    def get_depth(self, device: str | None = None) -> np.ndarray | None:
        if not self._rendered("distance_to_image_plane"):
            return None
        width, height = self.resolution or (0, 0)
        depth = np.full((height, width), 1.25, np.float32)
        depth[0] = np.inf
        return depth

    def destroy(self) -> None:
        self.ready = False


CAMERAS: dict[str, Camera] = {}


def add_reference_to_stage(usd_path: str, prim_path: str, prim_type: str = "Xform") -> Any:
    from pxr import UsdGeom

    _note(f"reference {usd_path}")
    prim = UsdGeom.Xform.Define(World.current.stage, prim_path).GetPrim()
    for link in ("fr3_leftfinger", "fr3_rightfinger"):
        UsdGeom.Xform.Define(World.current.stage, f"{prim_path}/{link}")
    return prim


def get_assets_root_path() -> str | None:
    return "omniverse://assets"


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the double where Isaac Sim's modules would be; all but the first need a started application."""
    CALLS.clear()
    CAMERAS.clear()
    SimulationApp.started = 0
    SingleArticulation.names = list(reversed(DOFS))
    modules = {
        "isaacsim": {"SimulationApp": SimulationApp},
        "isaacsim.core": {},
        "isaacsim.core.api": {"World": World},
        "isaacsim.core.prims": {"SingleArticulation": SingleArticulation, "SingleRigidPrim": SingleRigidPrim},
        "isaacsim.core.utils": {},
        "isaacsim.core.utils.stage": {"add_reference_to_stage": add_reference_to_stage},
        "isaacsim.core.utils.types": {"ArticulationAction": ArticulationAction},
        "isaacsim.sensors": {},
        "isaacsim.sensors.camera": {"Camera": Camera},
        "isaacsim.storage": {},
        "isaacsim.storage.native": {"get_assets_root_path": get_assets_root_path},
    }
    for name, content in modules.items():
        module = _Guarded(name) if name != "isaacsim" else types.ModuleType(name)
        module.__path__ = []  # a package: its modules can be imported
        for key, value in content.items():
            assert inspect.isclass(value) or inspect.isfunction(value)
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)


class _Guarded(types.ModuleType):
    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__") and not SimulationApp.started:
            raise ImportError("Isaac Sim's modules can't be imported before SimulationApp is started")
        return super().__getattribute__(name)
