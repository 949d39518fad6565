"""Applies a drawn variation to a compiled model: nothing is compiled again, which would take a second.

Everything is set from the model's values after compilation, so the result depends on the variation alone and never on
what was applied before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.objects import TaskObject
from realdiff_sim_bridge.randomisation import Distractor, Looks, ObjectPhysics, Surface, Variation
from realdiff_sim_bridge.scene import room
from realdiff_sim_bridge.scene.build import place_cameras
from realdiff_sim_bridge.scene.paint import paint
from realdiff_sim_bridge.tasks import Task

_NOMINAL_ARRAYS = (
    *("geom_size", "geom_pos", "geom_rbound", "geom_aabb", "geom_friction", "geom_matid", "geom_rgba"),
    *("mesh_vert", "bvh_aabb"),
    *("mat_rgba", "mat_specular", "mat_shininess"),
    *("body_mass", "body_subtreemass", "body_inertia", "body_ipos", "body_invweight0", "body_gravcomp"),
    *("dof_invweight0", "dof_M0", "light_active", "light_pos", "light_dir", "light_diffuse", "light_specular"),
)
_FINGERS = ("fr3_leftfinger", "fr3_rightfinger")


class SceneVariation:
    """The parts of a compiled scene that vary.

    Args:
        model: The compiled MjModel of `task`.
        task: The task's configuration.
        rig: The cameras as configured.
    """

    def __init__(self, model: Any, task: Task, rig: CameraRig) -> None:
        """Remembers the model's values."""
        self._model = model
        self._task = task
        self._rig = rig
        self._nominal: dict[str, NDArray[Any]] = {name: getattr(model, name).copy() for name in _NOMINAL_ARRAYS}
        self._ambient = np.array(model.vis.headlight.ambient)
        bodies = {name: model.body(name).id for name in task.objects}
        self._bodies = bodies
        self._geoms = {name: np.flatnonzero(model.geom_bodyid == body) for name, body in bodies.items()}
        self._meshes = {name: _meshes(model, geoms) for name, geoms in self._geoms.items()}
        self._textures = {
            f"{name}_{part}": model.texture(f"{name}_{part}").id
            for name, item in task.objects.items()
            for part in paint(item).textures
        }
        fingers = [model.body(name).id for name in _FINGERS]
        pads = np.isin(model.geom_bodyid, fingers) & (model.geom_priority > 0)
        self._pads = np.flatnonzero(pads)
        self.changed_meshes = sorted(mesh for meshes in self._meshes.values() for mesh in meshes)
        """Meshes that a renderer must load again after `apply`."""
        self.changed_textures = sorted(self._textures.values())
        """Textures that a renderer must load again after `apply`."""

    def apply(self, variation: Variation) -> CameraRig:
        """Sets physics and looks; distractors are gone until `place_distractors`.

        Args:
            variation: What was drawn.

        Returns:
            The cameras where they really are now.
        """
        model = self._model
        for name, values in self._nominal.items():
            getattr(model, name)[:] = values
        varied = variation.applied(self._task)
        for name, factors in variation.objects.items():
            self._scale(name, factors)
        model.geom_friction[model.geom(room.TABLE).id] *= variation.table_friction
        model.geom_friction[self._pads] *= variation.fingertip_friction
        model.vis.headlight.ambient[:] = self._ambient
        rig = self._rig
        self._colour(varied.objects)
        if variation.looks is not None:
            self._dress(variation.looks)
            rig = rig.moved(variation.looks.camera)
        place_cameras(model, rig)
        return rig

    def _scale(self, name: str, factors: ObjectPhysics) -> None:
        """Scales an object evenly about its origin; all that MuJoCo derives from lengths and mass follows."""
        model, body, geoms = self._model, self._bodies[name], self._geoms[name]
        size, mass = factors.size, factors.mass
        for array in (model.geom_size, model.geom_pos, model.geom_rbound, model.geom_aabb):
            array[geoms] *= size
        for mesh in self._meshes[name]:
            start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            model.mesh_vert[start : start + count] *= size
            _scale_boxes(model.bvh_aabb, model.mesh_bvhadr[mesh], model.mesh_bvhnum[mesh], size)
        _scale_boxes(model.bvh_aabb, model.body_bvhadr[body], model.body_bvhnum[body], size)
        model.geom_friction[geoms] *= factors.friction
        model.body_ipos[body] *= size
        model.body_mass[body] *= mass
        model.body_subtreemass[body] *= mass
        model.body_inertia[body] *= mass * size**2
        linear = slice(model.body_dofadr[body], model.body_dofadr[body] + 3)
        angular = slice(linear.stop, linear.stop + 3)
        model.body_invweight0[body] /= (mass, mass * size**2)
        model.dof_invweight0[linear] /= mass
        model.dof_invweight0[angular] /= mass * size**2
        model.dof_M0[linear] *= mass
        model.dof_M0[angular] *= mass * size**2

    def _colour(self, objects: dict[str, TaskObject]) -> None:
        model = self._model
        for name, item in objects.items():
            look = paint(item)
            for part, rgba in look.colours.items():
                model.mat_rgba[model.material(f"{name}_{part}").id] = rgba
            for part, image in look.textures.items():
                start = model.tex_adr[self._textures[f"{name}_{part}"]]
                model.tex_data[start : start + image.size] = image.ravel()

    def _dress(self, looks: Looks) -> None:
        model = self._model
        self._cover((room.TABLE,), "table", looks.table)
        self._cover(room.WALLS, "walls", looks.walls)
        self._cover((room.FLOOR,), "floor", looks.floor)
        model.vis.headlight.ambient[:] = looks.ambient
        for k, name in enumerate(room.LIGHTS):
            light = model.light(name).id
            model.light_active[light] = k < len(looks.lights)
            if k < len(looks.lights):
                towards = np.array(looks.lights[k].towards)
                model.light_pos[light] = np.array(room.LIT_POINT) + room.LIGHT_DISTANCE_M * towards
                model.light_dir[light] = -towards
                model.light_diffuse[light] = looks.lights[k].colour
                model.light_specular[light] = 0.5 * np.array(looks.lights[k].colour)

    def _cover(self, geoms: tuple[str, ...], surface: str, look: Surface) -> None:
        model = self._model
        material = model.material(f"{surface}/{look.texture}").id
        model.mat_rgba[material, :3] = look.colour
        if look.gloss is not None:
            model.mat_specular[material] = model.mat_shininess[material] = look.gloss
        for name in geoms:
            model.geom_matid[model.geom(name).id] = material

    def place_distractors(self, data: Any, distractors: tuple[Distractor, ...]) -> None:
        """Takes distractors out of reserve and puts them onto the table.

        Args:
            data: The MjData, just reset.
            distractors: As many as the configuration allows, or fewer.
        """
        model = self._model
        for k, item in enumerate(distractors):
            name, box = room.distractor_name(k), k % 2 == 0
            body, geom = model.body(name).id, model.geom(name).id
            half = item.half if box else (item.half[0], item.half[0], item.half[2])
            model.geom_size[geom] = half if box else (half[0], half[2], 0.0)
            model.geom_rbound[geom] = np.linalg.norm(half) if box else np.hypot(half[0], half[2])
            model.geom_aabb[geom, 3:] = half
            model.bvh_aabb[model.body_bvhadr[body], 3:] = half
            model.geom_rgba[geom] = (*item.colour, 1.0)
            mass, inertia = room.distractor_inertia(half, box=box)
            model.body_gravcomp[body] = 0.0
            model.body_mass[body] = model.body_subtreemass[body] = mass
            model.body_inertia[body] = inertia
            rotation = float(np.mean(1.0 / inertia))
            model.body_invweight0[body] = (1.0 / mass, rotation)
            dof = model.body_dofadr[body]
            model.dof_invweight0[dof : dof + 3], model.dof_invweight0[dof + 3 : dof + 6] = 1.0 / mass, rotation
            model.dof_M0[dof : dof + 3], model.dof_M0[dof + 3 : dof + 6] = mass, inertia
            address = model.joint(f"{name}_free").qposadr[0]
            pose = Pose(np.array(item.position), np.array([0.0, 0.0, np.sin(item.yaw / 2), np.cos(item.yaw / 2)]))
            data.qpos[address : address + 3] = pose.position
            data.qpos[address + 3 : address + 7] = pose.quaternion_wxyz


def _meshes(model: Any, geoms: NDArray[np.int64]) -> list[int]:
    import mujoco

    mesh_type = int(mujoco.mjtGeom.mjGEOM_MESH)
    return [int(model.geom_dataid[geom]) for geom in geoms if model.geom_type[geom] == mesh_type]


def _scale_boxes(boxes: NDArray[Any], start: int, count: int, factor: float) -> None:
    if count > 0:
        boxes[start : start + count] *= factor
