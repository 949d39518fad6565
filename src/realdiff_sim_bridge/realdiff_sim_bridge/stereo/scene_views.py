"""What the two imagers, the projector and a colour camera see of a MuJoCo scene."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.infrared import ImagerView

Vector = NDArray[np.float64]

GLASS_GROUP = 5
"""MuJoCo's geom group of transparent things; hidden where the view behind them is rendered."""


@dataclass(frozen=True)
class RenderedScene:
    """Everything one frame needs.

    Attributes:
        left: the left imager's view.
        right: the right imager's view.
        projector_depth: float32 [H,W] metres, seen from the projector.
        colour: uint8 [H,W,3] RGB, lit, registered to the left imager's pixels.
    """

    left: ImagerView
    right: ImagerView
    projector_depth: NDArray[np.float32]
    colour: NDArray[np.uint8]


class Scene(Protocol):
    """What `SceneRenderer` needs of a scene.

    Attributes:
        model: MjModel.
        data: MjData, kinematics computed.
        camera_name: the MuJoCo camera that is moved about.
        surface_tables: per geom: gloss, infrared reflectance, share of it that follows the visible luminance, and
            transmission; geoms with transmission are in `GLASS_GROUP`.
    """

    model: Any
    data: Any
    camera_name: str
    surface_tables: tuple[Vector, Vector, Vector, Vector]

    def random_pose(self, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Camera position [3] and rotation [3,3] (optical frame → world)."""
        ...


def is_plausible(depth: NDArray[np.float32]) -> bool:
    """Whether a view is worth keeping: not inside or against a wall, something within the camera's range."""
    return bool(np.median(depth) > 0.35 and np.percentile(depth, 5) > 0.2 and np.median(depth) < 3.5)


def look_at(position: Vector, target: Vector, roll: float) -> Vector:
    """Rotation [3,3] of an optical frame (x right, y down, z forward) at `position` that looks at `target`."""
    forward = (target - position) / np.linalg.norm(target - position)
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.98 else np.array([1.0, 0.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return np.stack((c * right + s * down, -s * right + c * down, forward), axis=1)


class SceneRenderer:
    """Renders scenes off-screen; needs a GL library (``MUJOCO_GL=egl`` or ``osmesa``).

    Args:
        camera: the imagers' intrinsics.
        baseline_m: left to right imager.
        projector_offset_m: left imager to projector.
    """

    def __init__(self, camera: CameraModel, baseline_m: float, projector_offset_m: float) -> None:
        """See the class."""
        self._camera = camera
        self._baseline = baseline_m
        self._projector = projector_offset_m

    @contextmanager
    def open(self, scene: Scene) -> Iterator[_OpenScene]:
        """Hold GL resources for a scene while several frames are rendered."""
        import mujoco

        renderer = mujoco.Renderer(scene.model, self._camera.height, self._camera.width)
        try:
            yield _OpenScene(renderer, scene, self._baseline, self._projector)
        finally:
            renderer.close()


class _OpenScene:
    def __init__(self, renderer: Any, scene: Scene, baseline_m: float, projector_offset_m: float) -> None:
        import mujoco

        self._renderer, self._scene = renderer, scene
        self._opaque, self._all = mujoco.MjvOption(), mujoco.MjvOption()
        self._opaque.geomgroup[GLASS_GROUP] = 0
        self._all.geomgroup[GLASS_GROUP] = 1
        self._baseline, self._projector = baseline_m, projector_offset_m

    def depth(self, position: Vector, rotation: Vector, *, glass: bool = True) -> NDArray[np.float32]:
        """z-depth float32 [H,W] in metres from a pose; transparent things are left out if not `glass`."""
        self._place(position, rotation, glass=glass)
        self._renderer.enable_depth_rendering()
        depth = self._renderer.render().copy()
        self._renderer.disable_depth_rendering()
        return np.asarray(depth, dtype=np.float32)

    def render(self, position: Vector, rotation: Vector) -> RenderedScene:
        """All views of the camera at a pose (of the left imager)."""
        along = rotation[:, 0]
        left = self._view(position, rotation)
        right = self._view(position + self._baseline * along, rotation)
        projector_depth = self.depth(position + self._projector * along, rotation, glass=False)
        self._light(flat=False)
        self._place(position, rotation)
        return RenderedScene(left, right, projector_depth, self._renderer.render().copy())

    def _place(self, position: Vector, rotation: Vector, *, glass: bool = True) -> None:
        import mujoco

        model, data = self._scene.model, self._scene.data
        graphics = rotation @ np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z with y up
        camera = model.camera(self._scene.camera_name).id
        mujoco.mju_mat2Quat(model.cam_quat[camera], graphics.ravel())
        model.cam_pos[camera] = position
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        option = self._all if glass else self._opaque
        self._renderer.update_scene(data, camera=self._scene.camera_name, scene_option=option)

    def _light(self, *, flat: bool) -> None:
        """Flat light makes the picture equal to the albedo."""
        model = self._scene.model
        model.vis.headlight.ambient[:] = 1.0 if flat else 0.35
        model.vis.headlight.diffuse[:] = 0.0 if flat else 0.25
        model.vis.headlight.specular[:] = 0.0 if flat else 0.2
        model.light_active[:] = not flat

    def _view(self, position: Vector, rotation: Vector) -> ImagerView:
        """What an imager at a pose sees, and where there is glass, what it would see without."""
        front, transmission = self._layer(position, rotation, glass=True)
        if not transmission.any():
            return front
        behind, _ = self._layer(position, rotation, glass=False)
        return replace(front, transmission=transmission, behind=behind)

    def _layer(self, position: Vector, rotation: Vector, *, glass: bool) -> tuple[ImagerView, NDArray[np.float32]]:
        """The first surfaces, and their transmission float32 [H,W]."""
        renderer = self._renderer
        depth = self.depth(position, rotation, glass=glass)
        self._light(flat=True)
        self._place(position, rotation, glass=glass)
        rgb = renderer.render().astype(np.float32) / 255
        renderer.enable_segmentation_rendering()
        geom = renderer.render()[..., 0]
        renderer.disable_segmentation_rendering()
        gloss, infrared, follow, transmission = (table[np.maximum(geom, 0)] for table in self._scene.surface_tables)
        luminance = rgb @ np.array([0.45, 0.4, 0.15], np.float32)  # silicon sees red better than blue
        albedo = follow * luminance + (1 - follow) * infrared * (0.6 + 0.4 * luminance)
        known = geom >= 0
        view = ImagerView(
            depth=np.where(known, depth, np.float32(np.nan)).astype(np.float32),
            albedo=np.where(known, albedo, 0).astype(np.float32),
            gloss=np.where(known, gloss, 0).astype(np.float32),
        )
        return view, np.where(known, transmission, 0).astype(np.float32)
