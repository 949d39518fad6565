"""Builders of the tasks' objects: visual meshes made here, contact shapes from primitives, no downloaded assets.

Each kind of object in a task configuration has one builder. Group 2 is drawn, group 3 only collides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.scene.meshes import lathe, lathe_texture_coordinates
from realdiff_sim_bridge.tasks import PLATE_THICKNESS, Can, Plate, TaskObject

if TYPE_CHECKING:
    import mujoco

VISUAL_GROUP, COLLISION_GROUP = 2, 3

_CONTACT: dict[str, Any] = {
    "group": COLLISION_GROUP,
    "condim": 4,
    "friction": [0.8, 0.01, 0.0001],
    "solref": [0.01, 1.0],
    "rgba": [0.5, 0.5, 0.5, 0.4],
}
_RIM_BOXES = 24
_LID_DEPTH = 0.0025


def add_object(spec: mujoco.MjSpec, name: str, item: TaskObject) -> None:
    """Adds a free-moving object to a scene; its pose is set at reset.

    Args:
        spec: The scene.
        name: Body name; the free joint is called "<name>_free".
        item: The object's configuration.
    """
    body = spec.worldbody.add_body(name=name, pos=[0.0, 0.0, item.rest_height])
    body.add_freejoint(name=f"{name}_free")
    _BUILDERS[item.kind](spec, body, name, item)


def _add_visual(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    material: str,
    profile: list[tuple[float, float]],
    *,
    textured: bool = False,
) -> None:
    import mujoco

    outline = np.asarray(profile, dtype=np.float64)
    vertices, triangles = lathe(outline, segments=72)
    mesh = spec.add_mesh(
        name=name,
        uservert=vertices.astype(np.float32).ravel(),
        userface=triangles.ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    if textured:
        coordinates = lathe_texture_coordinates(outline, segments=72)
        mesh.usertexcoord = coordinates.astype(np.float32).ravel()
        mesh.userfacetexcoord = triangles.ravel()
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material, group=VISUAL_GROUP, contype=0, conaffinity=0,
        mass=0.0,
    )  # fmt: skip


def _add_can(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Can) -> None:
    import mujoco

    radius, half = item.radius, item.height / 2
    texture = spec.add_texture(
        name=f"{name}_label", type=mujoco.mjtTexture.mjTEXTURE_2D, width=256, height=128, nchannel=3
    )
    texture.data = _label(item.colour).tobytes()
    label = spec.add_material(name=f"{name}_label", specular=0.45, shininess=0.55)
    label.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f"{name}_label"
    spec.add_material(name=f"{name}_metal", rgba=[0.72, 0.73, 0.75, 1.0], specular=0.7, shininess=0.7)
    rim, neck = half - 0.006, radius - 0.0012
    _add_visual(
        spec, body, f"{name}_label", f"{name}_label", [(radius - 2e-4, -rim), (radius - 2e-4, rim)], textured=True
    )
    bottom = [(0.0, -half + 0.001), (neck - 0.002, -half), (neck, -half), (radius - 2e-4, -rim)]
    lid = half - _LID_DEPTH
    top = [
        (radius - 2e-4, rim),
        (neck, half - 0.001),
        (neck, half),
        (neck - 0.0015, half),
        (neck - 0.002, lid),
        (0, lid),
    ]
    _add_visual(spec, body, f"{name}_bottom", f"{name}_metal", bottom)
    _add_visual(spec, body, f"{name}_top", f"{name}_metal", top)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, half, 0.0], mass=item.mass, **_CONTACT)


def _label(colour: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Paints a can's label: uint8[128, 256, 3], a coloured ground with a light band and dark marks."""
    image = np.empty((128, 256, 3), dtype=np.float64)
    image[:] = np.asarray(colour)
    image[44:84] = 0.92
    columns = np.arange(256)
    image[50:78, (columns // 16) % 2 == 0] = np.asarray(colour) * 0.45
    image[10:14] = image[114:118] = [0.85, 0.70, 0.25]
    return np.asarray(np.round(255 * image), dtype=np.uint8)


def _add_plate(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Plate) -> None:
    import mujoco

    inner, thickness = 0.70 * item.radius, PLATE_THICKNESS
    spec.add_material(name=name, rgba=[*item.colour, 1.0], specular=0.5, shininess=0.6)
    wall = 0.0035
    arc = np.linspace(0.0, 1.0, 9)[1:]
    rise = item.height - thickness
    upper = [(inner + (item.radius - inner) * t, thickness + rise * t**1.4) for t in arc]
    lower = [(r, max(z - wall, 0.0005)) for r, z in upper]
    profile = [(0.0, 0.0), (inner, 0.0), *lower, *reversed(upper), (inner, thickness), (inner * 0.5, thickness)]
    _add_visual(spec, body, name, name, [*profile, (0.0, thickness)])

    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[inner, thickness / 2, 0.0], pos=[0.0, 0.0, thickness / 2],
        mass=0.7 * item.mass, **_CONTACT,
    )  # fmt: skip
    # The rim is a ring of tilted boxes under the visible surface; primitives collide more steadily than a hollow mesh.
    tilt = float(np.arctan2(rise, item.radius - inner))
    length = float(np.hypot(rise, item.radius - inner)) / 2
    width = float(np.pi * item.radius / _RIM_BOXES) * 1.05
    for k in range(_RIM_BOXES):
        angle = 2.0 * np.pi * k / _RIM_BOXES
        middle = np.array([(inner + item.radius) / 2, 0.0, thickness + rise / 2])
        middle += 0.0015 * np.array([np.sin(tilt), 0.0, -np.cos(tilt)])
        turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
        quaternion = np.zeros(4)
        mujoco.mju_mulQuat(
            quaternion,
            np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)]),
            np.array([np.cos(tilt / 2), 0.0, -np.sin(tilt / 2), 0.0]),
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=[length, width, 0.0015], pos=turn @ middle, quat=quaternion,
            mass=0.3 * item.mass / _RIM_BOXES, **_CONTACT,
        )  # fmt: skip


_BUILDERS: dict[str, Callable[[Any, Any, str, Any], None]] = {"can": _add_can, "plate": _add_plate}
