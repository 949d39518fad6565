"""Random rooms in MuJoCo: a table with clutter, walls, furniture, and camera poses in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.materials import (
    TEXTURE_SIZE,
    Material,
    lathe,
    random_glass,
    random_material,
    random_texture,
    random_vessel,
)
from realdiff_sim_bridge.stereo.scene_views import GLASS_GROUP, look_at

Vector = NDArray[np.float64]

_GLASS_SHARE = {"vessel": 0.25, "box": 0.03, "sphere": 0.08, "cylinder": 0.08}


class RandomScene:
    """A room with a table, clutter and a camera that can be moved.

    Args:
        rng: source of everything random in the scene.
        camera: the imagers' intrinsics (square pixels, principal point in the middle).
    """

    camera_name = "imager"

    def __init__(self, rng: np.random.Generator, camera: CameraModel) -> None:
        """See the class."""
        import mujoco

        self._rng = rng
        self._camera = camera
        self._materials: list[Material] = []
        spec = mujoco.MjSpec()
        self._spec = spec
        spec.visual.global_.offwidth, spec.visual.global_.offheight = camera.width, camera.height
        spec.visual.global_.fovy = math.degrees(2 * math.atan(camera.height / 2 / camera.fy))
        spec.visual.quality.offsamples = 0  # depth must be that of the pixel centre, not a mean over an edge
        spec.visual.quality.shadowsize = 1024
        spec.visual.map.znear, spec.visual.map.zfar = 0.02, 20.0
        spec.stat.extent = 1.0  # znear and zfar are multiples of it
        spec.stat.center = [0.0, 0.0, 0.0]
        self._textures = 10
        for index in range(self._textures):
            texture = spec.add_texture(
                name=f"texture{index}",
                type=mujoco.mjtTexture.mjTEXTURE_2D,
                width=TEXTURE_SIZE,
                height=TEXTURE_SIZE,
                nchannel=3,
            )
            texture.data = random_texture(rng).tobytes()
        self._world = spec.worldbody
        self.table_height = float(rng.uniform(0.6, 0.8))
        self._build_room()
        self._build_clutter()
        for _ in range(2):
            self._world.add_light(
                pos=[*rng.uniform(-1.5, 1.5, 2), rng.uniform(2.0, 2.6)],
                dir=[*rng.uniform(-0.4, 0.4, 2), -1.0],
                diffuse=[float(rng.uniform(0.2, 0.6))] * 3,
                castshadow=bool(rng.random() < 0.5),
            )
        self._world.add_camera(name="imager", pos=[0, 0, 0], fovy=spec.visual.global_.fovy)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.surface_tables = self._material_tables()

    # ---- content

    def _add(self, kind: str, size: list[float], pos: Any, quat: Any, role: str = "object", **extra: Any) -> None:
        """Add a geom; `role` ``same`` repeats the material of the one before."""
        import mujoco

        same = role == "same"
        if same:
            material = self._materials[-1]
        elif role == "glass":
            material = random_glass(self._rng)
        else:
            material = random_material(self._rng, self._textures, role)
        index = len(self._materials)
        self._materials.append(material)
        handle = self._spec.add_material(
            name=f"material{index}", rgba=[*material.rgb, 1.0 - 0.8 * material.transmission]
        )
        handle.specular, handle.shininess = material.gloss, min(1.0, 0.2 + material.gloss)
        if material.texture >= 0:
            names = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
            names[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = f"texture{material.texture}"
            handle.textures = names
            repeat = float(self._rng.uniform(0.5, 4.0))
            handle.texuniform = kind != "mesh"
            handle.texrepeat = [repeat, repeat] if kind != "mesh" else [1.0, 1.0]
        self._world.add_geom(
            name=f"geom{index}",
            type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}"),
            size=[*size, 0.0, 0.0, 0.0][:3],
            pos=[float(x) for x in pos],
            quat=[float(x) for x in quat],
            material=f"material{index}",
            group=GLASS_GROUP if material.transmission > 0 else 0,
            **extra,
        )

    def _build_room(self) -> None:
        rng = self._rng
        identity = [1, 0, 0, 0]
        self._add("box", [6, 6, 0.05], [0, 0, -0.05], identity, "surface")
        self._add("box", [6, 6, 0.05], [0, 0, 3.05], identity, "surface")
        distances = rng.uniform(0.7, 3.5, 4)
        for turn, distance in enumerate(distances):
            angle = turn * math.pi / 2 + rng.normal(0, 0.1)
            pos = [math.cos(angle) * (distance + 0.05), math.sin(angle) * (distance + 0.05), 1.5]
            self._add("box", [0.05, 6, 1.6], pos, _yaw(angle), "surface")
        self.table_size = rng.uniform([0.35, 0.5], [0.6, 1.0])
        self._add(
            "box", [*self.table_size, 0.02], [0, 0, self.table_height - 0.02], _yaw(rng.normal(0, 0.05)), "surface"
        )
        for x in (-1, 1):
            for y in (-1, 1):
                foot = [x * self.table_size[0] * 0.9, y * self.table_size[1] * 0.9, self.table_height / 2 - 0.02]
                self._add("cylinder", [0.025, self.table_height / 2 - 0.02], foot, identity)
        for _ in range(int(rng.integers(0, 5))):  # furniture: shelves, cupboards, poles
            half = rng.uniform([0.1, 0.1, 0.2], [0.4, 0.4, 1.1])
            radius, angle = rng.uniform(0.9, 2.5), rng.uniform(-math.pi, math.pi)
            pos = [radius * math.cos(angle), radius * math.sin(angle), half[2]]
            if rng.random() < 0.3:
                self._add("cylinder", [float(rng.uniform(0.01, 0.06)), 1.0], [pos[0], pos[1], 1.0], identity)
            else:
                self._add("box", list(half), pos, _yaw(rng.uniform(-3, 3)), "surface")

    def _build_clutter(self) -> None:
        rng = self._rng
        for index in range(int(rng.integers(5, 26))):
            x, y = rng.normal(0, 0.22), rng.normal(0, 0.28)
            x = float(np.clip(x, -self.table_size[0] * 0.9, self.table_size[0] * 0.9))
            y = float(np.clip(y, -self.table_size[1] * 0.9, self.table_size[1] * 0.9))
            self._add_object(index, x, y)

    def _add_object(self, index: int, x: float, y: float) -> None:
        rng = self._rng
        z, yaw = self.table_height, _yaw(rng.uniform(-math.pi, math.pi))
        lying = _multiply(yaw, [math.sqrt(0.5), math.sqrt(0.5), 0, 0])
        kind = str(
            rng.choice(
                ["box", "book", "cylinder", "sphere", "vessel", "screen", "rod", "card", "cable", "keys"],
                p=[0.24, 0.1, 0.14, 0.08, 0.16, 0.05, 0.08, 0.05, 0.05, 0.05],
            )
        )
        role = "glass" if rng.random() < _GLASS_SHARE.get(kind, 0.0) else "object"
        if kind == "box":
            half = np.exp(rng.uniform(np.log(0.012), np.log(0.1), 3))
            self._add("box", list(half), [x, y, z + half[2]], yaw, role)
        elif kind == "book":
            half = rng.uniform([0.06, 0.08, 0.004], [0.12, 0.16, 0.03])
            self._add("box", list(half), [x, y, z + half[2]], yaw)
        elif kind == "cylinder":
            radius, half_length = rng.uniform(0.012, 0.06), rng.uniform(0.02, 0.13)
            upright = rng.random() < 0.7
            height = half_length if upright else radius
            self._add(
                "cylinder", [float(radius), float(half_length)], [x, y, z + height], yaw if upright else lying, role
            )
        elif kind == "sphere":
            radii = rng.uniform(0.015, 0.06) * rng.uniform([1, 0.7, 0.7], [1, 1, 1])
            self._add("ellipsoid", list(radii), [x, y, z + radii[2]], yaw, role)
        elif kind == "vessel":
            vertices, faces, coordinates = lathe(random_vessel(rng))
            self._spec.add_mesh(
                name=f"vessel{index}",
                uservert=vertices.ravel(),
                userface=faces.ravel(),
                usertexcoord=coordinates.ravel(),
                inertia=_shell(),
            )
            base = 0.0 if rng.random() < 0.85 else 0.05
            self._add("mesh", [], [x, y, z + base], yaw if base == 0 else lying, role, meshname=f"vessel{index}")
        elif kind == "screen":
            half = rng.uniform([0.008, 0.12, 0.08], [0.02, 0.3, 0.2])
            self._add("box", list(half), [x, y, z + 0.08 + half[2]], yaw)
            self._add("cylinder", [0.02, 0.05], [x, y, z + 0.05], yaw)
        elif kind == "rod":
            tilt = [math.cos(0.4), math.sin(0.4) * rng.uniform(-1, 1), math.sin(0.4) * rng.uniform(-1, 1), 0]
            length, radius = rng.uniform(0.05, 0.3), rng.uniform(0.002, 0.008)
            upright = rng.random() < 0.5
            quat = _multiply(yaw, tilt) if upright else lying
            self._add("capsule", [float(radius), float(length)], [x, y, z + (length if upright else radius)], quat)
        elif kind == "card":
            width, height = rng.uniform(0.03, 0.1), rng.uniform(0.03, 0.12)
            self._add("box", [0.001, float(width), float(height)], [x, y, z + height], yaw)
        elif kind == "cable":
            self._add_cable(x, y, z)
        else:
            for row in range(4):
                for column in range(10):
                    pos = [x + 0.019 * column, y + 0.019 * row, z + 0.01]
                    self._add("box", [0.008, 0.008, 0.008], pos, [1, 0, 0, 0], "same" if row or column else "object")

    def _add_cable(self, x: float, y: float, z: float) -> None:
        rng = self._rng
        radius, heading = float(rng.uniform(0.002, 0.005)), rng.uniform(-math.pi, math.pi)
        for part in range(14):
            heading += rng.normal(0, 0.4)
            step = 0.025
            x, y = x + step * math.cos(heading), y + step * math.sin(heading)
            quat = _multiply(_yaw(heading), [math.sqrt(0.5), 0, math.sqrt(0.5), 0])  # capsule axis z → x
            middle = [x - step / 2 * math.cos(heading), y - step / 2 * math.sin(heading), z + radius]
            self._add("capsule", [radius, step / 2], middle, quat, "same" if part else "object")

    def _material_tables(self) -> tuple[Vector, Vector, Vector, Vector]:
        import mujoco

        order = [mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_GEOM, i) for i in range(self.model.ngeom)]
        chosen = [self._materials[int(name.removeprefix("geom"))] for name in order]
        return (
            np.array([m.gloss for m in chosen]),
            np.array([m.infrared for m in chosen]),
            np.array([m.follow for m in chosen]),
            np.array([m.transmission for m in chosen]),
        )

    # ---- camera

    def random_pose(self, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Camera position [3] and rotation [3,3] (optical frame: x right, y down, z forward → world).

        A third each: a camera beside a robot's workspace, a hand-held scan of the desk, a look across the room.
        """
        style = int(rng.integers(3))
        target = np.array([*rng.normal(0, 0.15, 2), self.table_height])
        angle = rng.uniform(-math.pi, math.pi)
        if style == 0:
            radius, elevation = rng.uniform(0.6, 1.5), rng.uniform(0.35, 1.2)
        elif style == 1:
            radius, elevation = rng.uniform(0.35, 1.0), rng.uniform(0.15, 1.4)
        else:
            radius, elevation = rng.uniform(1.0, 2.2), rng.uniform(0.0, 0.5)
            target += rng.normal(0, 0.4, 3)
        position = target + radius * np.array(
            [math.cos(angle) * math.cos(elevation), math.sin(angle) * math.cos(elevation), math.sin(elevation)]
        )
        lowest = 0.4 if style == 2 else self.table_height + 0.1
        position[2] = float(np.clip(position[2], lowest, 2.8))
        return position, look_at(position, target, float(rng.normal(0, 0.12)))


def _shell() -> Any:
    import mujoco

    return mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


def _yaw(angle: float) -> list[float]:
    return [math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]


def _multiply(a: Any, b: Any) -> list[float]:
    from scipy.spatial.transform import Rotation

    product = Rotation.from_quat(a, scalar_first=True) * Rotation.from_quat(b, scalar_first=True)
    return [float(x) for x in product.as_quat(scalar_first=True)]
