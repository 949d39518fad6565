"""The robot's own cell as a scene for the stereo camera: FR3, table, a task's objects, random poses and materials."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.materials import Material, random_glass, random_material
from realdiff_sim_bridge.stereo.scene_views import GLASS_GROUP, look_at

Vector = NDArray[np.float64]

_ROBOT_PREFIX = "fr3"
_ARM_SPREAD_RAD = 0.35
_GLASS_SHARE = 0.1


class RobotScene:
    """A task's cell with the arm somewhere above the table; see `RandomScene` for the interface.

    Args:
        rng: source of everything random in the scene.
        camera: the imagers' intrinsics.
    """

    camera_name = "depth"

    def __init__(self, rng: np.random.Generator, camera: CameraModel) -> None:
        """See the class."""
        import mujoco

        from realdiff_sim_bridge.cameras import camera_rig
        from realdiff_sim_bridge.resets import draw_start
        from realdiff_sim_bridge.scene.build import build_scene
        from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS
        from realdiff_sim_bridge.tasks import available_tasks, load_task

        names = available_tasks()
        task = load_task(names[int(rng.integers(len(names)))])
        rig = dataclasses.replace(camera_rig(task), depth=camera)
        self.model = build_scene(task, rig)
        self.model.vis.quality.offsamples = 0  # depth must be that of the pixel centre
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = camera.width, camera.height
        self.data = mujoco.MjData(self.model)
        start = draw_start(task, int(rng.integers(2**31)))
        arm = start.joint_positions + rng.normal(0, _ARM_SPREAD_RAD, 7) * [1, 0.6, 0.6, 0.6, 1, 1, 1.5]
        for joint, angle in zip(ARM_JOINTS, arm, strict=True):
            low, high = self.model.joint(joint).range
            self.data.qpos[self.model.joint(joint).qposadr[0]] = np.clip(angle, low, high)
        opening = float(rng.uniform(0.0, 0.04))
        for joint in FINGER_JOINTS:
            self.data.qpos[self.model.joint(joint).qposadr[0]] = opening
        for name, pose in start.objects.items():
            address = self.model.joint(f"{name}_free").qposadr[0]
            self.data.qpos[address : address + 3] = pose.position
            self.data.qpos[address + 3 : address + 7] = pose.quaternion_wxyz
        mujoco.mj_kinematics(self.model, self.data)
        self.surface_tables = self._paint(rng)

    def _paint(self, rng: np.random.Generator) -> tuple[Vector, Vector, Vector, Vector]:
        """Gloss, infrared reflectance, its share that follows the visible luminance, transmission; one per geom."""
        gloss, infrared, follow, transmission = (np.zeros(self.model.ngeom) for _ in range(4))
        robot = (float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.7, 1.0)))
        drawn: dict[int, Material] = {}
        for geom in range(self.model.ngeom):
            body = self.model.body(int(self.model.geom_bodyid[geom])).name
            if body.startswith(_ROBOT_PREFIX):
                gloss[geom], infrared[geom], follow[geom] = robot
            else:
                key = int(self.model.geom_matid[geom])
                if key not in drawn:
                    if body != "world" and rng.random() < _GLASS_SHARE:
                        drawn[key] = random_glass(rng)
                    else:
                        drawn[key] = random_material(rng, 1, "surface" if body == "world" else "object")
                material = drawn[key]
                gloss[geom], infrared[geom], follow[geom] = material.gloss, material.infrared, material.follow
                transmission[geom] = material.transmission
                if material.transmission > 0:
                    self._make_glass(geom, material)
        return gloss, infrared, follow, transmission

    def _make_glass(self, geom: int, material: Material) -> None:
        """Make a geom look like glass; what isn't drawn (collision shapes) stays so."""
        if self.model.geom_group[geom] > 2:
            return
        self.model.geom_group[geom] = GLASS_GROUP
        rgba = np.array([*material.rgb, 1 - 0.8 * material.transmission])
        if self.model.geom_matid[geom] >= 0:
            self.model.mat_rgba[self.model.geom_matid[geom]] = rgba
        self.model.geom_rgba[geom] = rgba

    def random_pose(self, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Camera position [3] and rotation [3,3] (optical frame → world): in front of or beside the table."""
        target = np.array([0.45, 0.0, 0.1]) + rng.normal(0, 0.12, 3)
        angle, elevation = rng.uniform(-0.5, 0.5) * math.pi, rng.uniform(0.25, 1.1)
        radius = rng.uniform(0.6, 1.6)
        direction = [math.cos(angle) * math.cos(elevation), math.sin(angle) * math.cos(elevation), math.sin(elevation)]
        position = target + radius * np.array(direction)
        return position, look_at(position, target, float(rng.normal(0, 0.08)))
