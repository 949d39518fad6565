"""Builders of the tasks' objects: visual meshes made here, contact shapes from primitives, no downloaded assets.

Each kind of object in a task configuration has one builder. Group 2 is drawn, group 3 only collides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.objects import Banana, Basket, Can, Cube, Plate, TaskObject
from realdiff_sim_bridge.scene.meshes import chamfered_box, lathe, lathe_texture_coordinates, sweep
from realdiff_sim_bridge.scene.paint import paint

if TYPE_CHECKING:
    import mujoco

VISUAL_GROUP, COLLISION_GROUP = 2, 3

CONTACT: dict[str, Any] = {
    "condim": 4,
    "friction": [0.8, 0.01, 0.0001],
    "solref": [0.01, 1.0],
}
"""Contact of objects and table; the fingertips' own friction counts where they touch."""

_HIDDEN: dict[str, Any] = {"group": COLLISION_GROUP, "rgba": [0.5, 0.5, 0.5, 0.4]}
_GLOSS: dict[str, tuple[float, float]] = {  # specular, shininess by the last part of the material's name
    "label": (0.45, 0.55),
    "metal": (0.7, 0.7),
    "glaze": (0.5, 0.6),
    "skin": (0.15, 0.25),
    "wood": (0.12, 0.2),
    "plastic": (0.25, 0.35),
}
_RIM_BOXES = 24
_SEGMENTS = 48
_LID_DEPTH = 0.0025
_BANANA_CAPSULES = 8
# Radius along a banana, as a share of that in the middle: stem, body, tip.
_BANANA_ALONG = (0.0, 0.04, 0.09, 0.16, 0.24, 0.50, 0.77, 0.86, 0.93, 0.97, 1.0)
_BANANA_RADIUS = (0.22, 0.21, 0.36, 0.84, 0.99, 1.0, 0.98, 0.82, 0.50, 0.28, 0.20)


def add_object(spec: mujoco.MjSpec, name: str, item: TaskObject) -> None:
    """Adds a free-moving object to a scene; its pose is set at reset.

    Args:
        spec: The scene.
        name: Body name; the free joint is called "<name>_free", materials and textures begin with "<name>_".
        item: The object's configuration.
    """
    import mujoco

    body = spec.worldbody.add_body(name=name, pos=[0.0, 0.0, item.rest_height])
    body.add_freejoint(name=f"{name}_free")
    look = paint(item)
    for part, image in look.textures.items():
        height, width, _ = image.shape
        texture = spec.add_texture(
            name=f"{name}_{part}", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3
        )
        texture.data = image.tobytes()
    for part, rgba in look.colours.items():
        specular, shininess = _GLOSS[part]
        material = spec.add_material(name=f"{name}_{part}", rgba=rgba, specular=specular, shininess=shininess)
        if part in look.textures:
            material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f"{name}_{part}"
    _BUILDERS[item.kind](spec, body, name, item)


def _add_mesh(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    material: str,
    vertices: NDArray[np.float64],
    triangles: NDArray[np.int32],
    coordinates: NDArray[np.float64] | None = None,
) -> None:
    """Adds a mesh that is drawn and neither collides nor weighs anything."""
    import mujoco

    mesh = spec.add_mesh(
        name=name,
        uservert=vertices.astype(np.float32).ravel(),
        userface=triangles.ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    if coordinates is not None:
        mesh.usertexcoord = coordinates.astype(np.float32).ravel()
        mesh.userfacetexcoord = triangles.ravel()
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material, group=VISUAL_GROUP, contype=0, conaffinity=0,
        mass=0.0,
    )  # fmt: skip


def _add_lathed(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    material: str,
    profile: list[tuple[float, float]],
    *,
    textured: bool = False,
) -> None:
    outline = np.asarray(profile, dtype=np.float64)
    coordinates = lathe_texture_coordinates(outline, segments=_SEGMENTS) if textured else None
    _add_mesh(spec, body, name, material, *lathe(outline, segments=_SEGMENTS), coordinates)


def _add_cube(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Cube) -> None:
    import mujoco

    half = item.size / 2
    _add_mesh(spec, body, name, f"{name}_wood", *chamfered_box((half, half, half), 0.04 * item.size))
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half, half, half], mass=item.mass, **CONTACT, **_HIDDEN)


def _add_can(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Can) -> None:
    import mujoco

    radius, half = item.radius, item.height / 2
    rim, neck = half - 0.006, radius - 0.0012
    _add_lathed(
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
    _add_lathed(spec, body, f"{name}_bottom", f"{name}_metal", bottom)
    _add_lathed(spec, body, f"{name}_top", f"{name}_metal", top)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, half, 0.0], mass=item.mass, **CONTACT, **_HIDDEN)


def _add_banana(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Banana) -> None:
    import mujoco
    from scipy.interpolate import PchipInterpolator

    radius_at = PchipInterpolator(_BANANA_ALONG, _BANANA_RADIUS)

    def line(share: NDArray[np.float64]) -> NDArray[np.float64]:
        angle = (share - 0.5) * np.radians(item.bend_deg)
        bend = item.bend_radius
        return np.stack([bend * np.sin(angle), bend * (np.cos(angle) - 1.0), np.zeros_like(angle)], axis=-1)

    share = np.linspace(0.0, 1.0, 33)
    mesh = sweep(line(share), 0.5 * item.width * radius_at(share), segments=20)
    _add_mesh(spec, body, name, f"{name}_skin", *mesh)
    # The capsules' caps overlap their neighbours; the outer two stay short of the ends.
    joints = np.linspace(0.04, 0.96, _BANANA_CAPSULES + 1)
    points, middles = line(joints), (joints[1:] + joints[:-1]) / 2
    radii = 0.5 * item.width * radius_at(middles)
    shares = radii**2 / np.sum(radii**2)
    for start, end, radius, part in zip(points[:-1], points[1:], radii, shares, strict=True):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[radius, 0.0, 0.0], mass=part * item.mass,
            **CONTACT, **_HIDDEN,
        )  # fmt: skip


def _add_plate(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Plate) -> None:
    import mujoco

    inner, thickness = 0.70 * item.radius, item.thickness
    wall = 0.0035
    arc = np.linspace(0.0, 1.0, 9)[1:]
    rise = item.height - thickness
    upper = [(inner + (item.radius - inner) * t, thickness + rise * t**1.4) for t in arc]
    lower = [(r, max(z - wall, 0.0005)) for r, z in upper]
    profile = [(0.0, 0.0), (inner, 0.0), *lower, *reversed(upper), (inner, thickness), (inner * 0.5, thickness)]
    _add_lathed(spec, body, name, f"{name}_glaze", [*profile, (0.0, thickness)])

    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[inner, thickness / 2, 0.0], pos=[0.0, 0.0, thickness / 2],
        mass=0.7 * item.mass, **CONTACT, **_HIDDEN,
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
            mass=0.3 * item.mass / _RIM_BOXES, **CONTACT, **_HIDDEN,
        )  # fmt: skip


def _add_basket(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, item: Basket) -> None:
    import mujoco

    x, y, wall = item.length / 2, item.width / 2, item.wall / 2
    side = (item.height - item.wall) / 2
    middle = item.wall + side
    boxes = [  # half extents and centre: base, then the walls along y and between them those along x
        ((x, y, wall), (0.0, 0.0, wall)),
        ((wall, y, side), (x - wall, 0.0, middle)),
        ((wall, y, side), (wall - x, 0.0, middle)),
        ((x - item.wall, wall, side), (0.0, y - wall, middle)),
        ((x - item.wall, wall, side), (0.0, wall - y, middle)),
    ]
    volumes = np.array([np.prod(size) for size, _ in boxes])
    for (size, position), share in zip(boxes, volumes / volumes.sum(), strict=True):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=position, mass=share * item.mass, group=VISUAL_GROUP,
            material=f"{name}_plastic", **CONTACT,
        )  # fmt: skip


_BUILDERS: dict[str, Callable[[Any, Any, str, Any], None]] = {
    "banana": _add_banana,
    "basket": _add_basket,
    "can": _add_can,
    "cube": _add_cube,
    "plate": _add_plate,
}
