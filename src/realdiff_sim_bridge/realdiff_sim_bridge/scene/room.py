"""What surrounds the robot: floor, walls, table, lights, and bodies in reserve for distractors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from realdiff_sim_bridge.randomisation import MAX_LIGHTS, LookRanges
from realdiff_sim_bridge.scene.objects import CONTACT, VISUAL_GROUP
from realdiff_sim_bridge.scene.textures import TEXTURES, texture

if TYPE_CHECKING:
    import mujoco

TABLE, FLOOR, WALLS = "table", "floor", ("wall_back", "wall_left", "wall_right")
"""Names of the geoms whose material varies; a surface's materials are called "<surface>/<texture>"."""

LIGHTS = tuple(f"light_{k}" for k in range(MAX_LIGHTS))
LIGHT_DISTANCE_M = 2.4
LIT_POINT = (0.4, 0.0, 0.0)

_TABLE_HALF = (0.55, 0.75, 0.02)
_TABLE_CENTRE = (0.40, 0.0)
_FLOOR_Z = -0.78
_PARKED = (-30.0, 0.0, 10.0)
"""Where distractors that are not in use hover: out of sight, with nothing near that they could touch."""

_NOMINAL: dict[str, tuple[str, tuple[float, float, float]]] = {
    "table": ("wood", (0.72, 0.59, 0.44)),
    "walls": ("plain", (0.70, 0.71, 0.70)),
    "floor": ("checker", (0.36, 0.37, 0.39)),
}
_REPEAT = {"table": 2.0, "walls": 1.0, "floor": 1.0}
"""Repetitions of a texture per metre."""


def distractor_name(k: int) -> str:
    """Name of the k-th distractor's body and geom; its free joint is called "<name>_free"."""
    return f"distractor_{k}"


def add_room(spec: mujoco.MjSpec, looks: LookRanges | None) -> None:
    """Adds floor, walls, table and lights.

    Args:
        spec: The scene.
        looks: What may vary: its materials, lights and distractors are added in reserve. None: nothing varies.
    """
    for surface, gloss in (("table", (0.12, 0.2)), ("walls", (0.02, 0.02)), ("floor", (0.05, 0.05))):
        nominal, colour = _NOMINAL[surface]
        varied = getattr(looks, surface).textures if looks is not None else ()
        for name in sorted({nominal, *varied}):
            _add_material(spec, surface, name, (*colour, 1.0), gloss)
    world = spec.worldbody
    _add_floor_and_walls(world)
    _add_table(spec)
    _add_lights(world, MAX_LIGHTS if looks is not None else 2)
    for k in range(looks.distractors.number[1] if looks is not None else 0):
        _add_distractor(spec, k)


def _add_material(
    spec: mujoco.MjSpec, surface: str, name: str, rgba: tuple[float, ...], gloss: tuple[float, float]
) -> None:
    import mujoco

    repeat = _REPEAT[surface]
    material = spec.add_material(
        name=f"{surface}/{name}", rgba=rgba, texrepeat=[repeat, repeat], texuniform=True, specular=gloss[0],
        shininess=gloss[1],
    )  # fmt: skip
    if name == "plain":
        return
    if spec.texture(name) is None:
        size = TEXTURES[name][0]
        image = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=size, height=size, nchannel=3)
        image.data = texture(name).tobytes()
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _nominal(surface: str) -> str:
    return f"{surface}/{_NOMINAL[surface][0]}"


def _add_floor_and_walls(world: Any) -> None:
    import mujoco

    # An endless plane is drawn as 80,000 triangles, more than all the rest together; this one as 32.
    world.add_geom(
        name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[6, 6, 3], pos=[0, 0, _FLOOR_Z],
        material=_nominal("floor"), group=0,
    )  # fmt: skip
    places = (  # middle, axis that points into the room, half the length
        ([-1.45, 0.0, 0.9], [1.0, 0.0, 0.0], 2.95),
        ([1.0, 2.95, 0.9], [0.0, -1.0, 0.0], 2.45),
        ([1.0, -2.95, 0.9], [0.0, 1.0, 0.0], 2.45),
    )
    for name, (position, inwards, half_length) in zip(WALLS, places, strict=True):
        along = np.cross([0.0, 0.0, 1.0], inwards)
        # A plane is textured along its own x and y axes (a box would stretch bricks to stripes).
        world.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_PLANE, pos=position, xyaxes=[*along, 0.0, 0.0, 1.0],
            size=[half_length, 1.8, 0.5], material=_nominal("walls"), group=0, contype=0, conaffinity=0,
        )  # fmt: skip


def _add_table(spec: mujoco.MjSpec) -> None:
    import mujoco

    spec.add_material(name="table_frame", rgba=[0.25, 0.26, 0.28, 1.0], specular=0.2, shininess=0.3)
    world = spec.worldbody
    world.add_geom(
        name=TABLE, type=mujoco.mjtGeom.mjGEOM_BOX, size=list(_TABLE_HALF), pos=[*_TABLE_CENTRE, -_TABLE_HALF[2]],
        material=_nominal("table"), group=0, **CONTACT,
    )  # fmt: skip
    leg_half = (-2 * _TABLE_HALF[2] - _FLOOR_Z) / 2
    for k, (sx, sy) in enumerate([(-1, -1), (-1, 1), (1, -1), (1, 1)]):
        corner = [_TABLE_CENTRE[0] + sx * (_TABLE_HALF[0] - 0.04), _TABLE_CENTRE[1] + sy * (_TABLE_HALF[1] - 0.04)]
        world.add_geom(
            name=f"table_leg_{k}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.03, leg_half],
            pos=[*corner, _FLOOR_Z + leg_half], material="table_frame", group=0,
        )  # fmt: skip


def _add_lights(world: Any, count: int) -> None:
    """A lamp at the ceiling, light from a window, and reserves that are off."""
    import mujoco

    nominal = [
        ([0.8, 0.6, 2.2], [-0.25, -0.25, -1.0], [0.50, 0.49, 0.47], [0.25, 0.25, 0.25]),
        ([1.5, -1.5, 1.8], [-0.5, 0.6, -0.6], [0.18, 0.19, 0.21], [0.1, 0.1, 0.1]),
    ]
    for k, name in enumerate(LIGHTS[:count]):
        position, direction, diffuse, specular = nominal[min(k, 1)]
        world.add_light(
            name=name, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=position, dir=direction, diffuse=diffuse,
            specular=specular, castshadow=k == 0, active=k < len(nominal),
        )  # fmt: skip


def _add_distractor(spec: mujoco.MjSpec, k: int) -> None:
    """A box or a cylinder in reserve: weightless in effect and invisible until it is used."""
    import mujoco

    name = distractor_name(k)
    body = spec.worldbody.add_body(name=name, pos=[_PARKED[0] + k, *_PARKED[1:]], gravcomp=1.0)
    body.add_freejoint(name=f"{name}_free")
    kind = mujoco.mjtGeom.mjGEOM_BOX if k % 2 == 0 else mujoco.mjtGeom.mjGEOM_CYLINDER
    body.add_geom(
        name=name, type=kind, size=[0.03, 0.03, 0.03], mass=0.1, group=VISUAL_GROUP, rgba=[0.4, 0.4, 0.4, 0.0],
        **CONTACT,
    )  # fmt: skip


def distractor_inertia(half: tuple[float, float, float], *, box: bool) -> tuple[float, np.ndarray]:
    """Mass [kg] and principal moments float64[3] [kg·m²] of a distractor of the density of light wood."""
    x, y, z = half
    density = 400.0
    if box:
        mass = density * 8 * x * y * z
        return mass, mass / 3 * np.array([y * y + z * z, x * x + z * z, x * x + y * y])
    mass = density * 2 * np.pi * x * x * z
    across = mass * (3 * x * x + 4 * z * z) / 12
    return mass, np.array([across, across, mass * x * x / 2])
