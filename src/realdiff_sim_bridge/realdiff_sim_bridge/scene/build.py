"""Assembles the MuJoCo model of a task: robot, room, table, objects and the two imagers of the depth camera.

The world frame is the robot's frame "base" (REP-103 axes, metres); the table top is the plane z = 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.objects import add_object
from realdiff_sim_bridge.scene.robot import robot_spec
from realdiff_sim_bridge.tasks import Task

if TYPE_CHECKING:
    import mujoco
    from realdiff_core.camera import CameraModel

PHYSICS_STEP_S = 0.002
NEAR_M, FAR_M = 0.02, 12.0
"""Clip planes of the renderer [m]: nothing a depth camera sees lies outside."""

COLOUR_CAMERA, DEPTH_CAMERA = "colour", "depth"
"""Names of the MuJoCo cameras of the colour imager and the left infrared imager (the origin of depth)."""

_TABLE_HALF = (0.55, 0.75, 0.02)
_TABLE_CENTRE = (0.40, 0.0)
_FLOOR_Z = -0.78
_OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])


def build_scene(task: Task, rig: CameraRig, *, detail: float = 0.2) -> mujoco.MjModel:
    """Compiles the scene of a task.

    Args:
        task: The task's configuration.
        rig: Both imagers with their poses.
        detail: Share of the robot's visual triangles to keep, in (0, 1].

    Returns:
        The model; objects are free joints "<name>_free", cameras are `COLOUR_CAMERA` and `DEPTH_CAMERA`.
    """
    import mujoco

    spec = robot_spec(detail=detail)
    spec.modelname = f"realdiff_{task.name}"
    option = spec.option
    option.timestep = PHYSICS_STEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Grasps creep with the pyramidal cone and soft friction; both settings hold objects still in the hand.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0.0, 0.2]
    spec.visual.map.znear, spec.visual.map.zfar = NEAR_M, FAR_M
    spec.visual.map.shadowclip = 1.8  # the shadow map covers the whole table
    spec.visual.headlight.ambient = [0.38, 0.38, 0.38]
    spec.visual.headlight.diffuse = [0.22, 0.22, 0.22]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    sizes = [(camera.width, camera.height) for camera in (rig.colour, rig.depth)]
    # `global` is a keyword of Python, hence the underscore in MuJoCo's binding.
    frame = spec.visual.global_
    frame.offwidth, frame.offheight = max(w for w, _ in sizes), max(h for _, h in sizes)

    _add_room(spec)
    _add_table(spec)
    for name, item in task.objects.items():
        add_object(spec, name, item)
    add_camera(spec, COLOUR_CAMERA, rig.colour, rig.base_colour.position, rig.base_colour.rotation)
    add_camera(spec, DEPTH_CAMERA, rig.depth, rig.base_depth.position, rig.base_depth.rotation)
    return spec.compile()


def _add_room(spec: mujoco.MjSpec) -> None:
    import mujoco

    spec.add_texture(
        name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.36, 0.37, 0.39], rgb2=[0.33, 0.34, 0.36], width=256, height=256,
    )  # fmt: skip
    floor = spec.add_material(name="floor", texrepeat=[4, 4], texuniform=True, specular=0.05, shininess=0.05)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.add_material(name="wall", rgba=[0.70, 0.71, 0.70, 1.0], specular=0.02, shininess=0.02)
    world = spec.worldbody
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[6, 6, 3],  # an endless plane is drawn as 80,000 triangles, more than all the rest; this one as 32
        pos=[0, 0, _FLOOR_Z],
        material="floor",
        group=0,
    )
    walls = (
        ("wall_back", [-1.5, 0.0, 0.9], [0.05, 4.0, 1.8]),
        ("wall_left", [1.0, 3.0, 0.9], [2.5, 0.05, 1.8]),
        ("wall_right", [1.0, -3.0, 0.9], [2.5, 0.05, 1.8]),
    )
    for name, position, size in walls:
        world.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=size, material="wall", group=0)
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    world.add_light(
        name="ceiling", type=directional, pos=[0.8, 0.6, 2.2], dir=[-0.25, -0.25, -1.0], diffuse=[0.50, 0.49, 0.47],
        specular=[0.25, 0.25, 0.25], castshadow=True,
    )  # fmt: skip
    world.add_light(
        name="window", type=directional, pos=[1.5, -1.5, 1.8], dir=[-0.5, 0.6, -0.6], diffuse=[0.18, 0.19, 0.21],
        specular=[0.1, 0.1, 0.1], castshadow=False,
    )  # fmt: skip


def _add_table(spec: mujoco.MjSpec) -> None:
    import mujoco

    texture = spec.add_texture(name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=512, height=512, nchannel=3)
    texture.data = _wood().tobytes()
    table = spec.add_material(name="table", texrepeat=[2, 2], texuniform=True, specular=0.12, shininess=0.2)
    table.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    spec.add_material(name="table_frame", rgba=[0.25, 0.26, 0.28, 1.0], specular=0.2, shininess=0.3)
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=list(_TABLE_HALF), pos=[*_TABLE_CENTRE, -_TABLE_HALF[2]],
        material="table", friction=[0.8, 0.01, 0.0001], condim=4, solref=[0.01, 1.0], group=0,
    )  # fmt: skip
    leg_half = (-2 * _TABLE_HALF[2] - _FLOOR_Z) / 2
    for k, (sx, sy) in enumerate([(-1, -1), (-1, 1), (1, -1), (1, 1)]):
        corner = [_TABLE_CENTRE[0] + sx * (_TABLE_HALF[0] - 0.04), _TABLE_CENTRE[1] + sy * (_TABLE_HALF[1] - 0.04)]
        world.add_geom(
            name=f"table_leg_{k}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.03, leg_half],
            pos=[*corner, _FLOOR_Z + leg_half], material="table_frame", group=0,
        )  # fmt: skip


def _wood() -> NDArray[np.uint8]:
    """Paints the table top: uint8[512, 512, 3], beech boards with a faint grain."""
    rng = np.random.default_rng(7)
    v, u = np.meshgrid(np.linspace(0, 1, 512, endpoint=False), np.linspace(0, 1, 512, endpoint=False), indexing="ij")
    board = np.floor(v * 6).astype(int)
    offsets = rng.uniform(0.0, 10.0, 6)[board]
    shade = rng.uniform(-0.025, 0.025, 6)[board]
    wave = 0.15 * np.sin(2 * np.pi * (u + offsets)) + 0.05 * np.sin(6 * np.pi * u + 3 * offsets)
    grain = 0.025 * np.sin(2 * np.pi * (v * 6 * 5 + wave * 3 + offsets)) + rng.normal(0.0, 0.008, v.shape)
    seam = np.where(np.minimum(v * 6 % 1, 1 - v * 6 % 1) < 0.012, -0.10, 0.0)
    ground = np.array([0.66, 0.54, 0.40])
    image = ground * (1.0 + (shade + grain + seam)[..., None])
    return np.asarray(np.clip(np.round(255 * image), 0, 255), dtype=np.uint8)


def add_camera(
    spec: mujoco.MjSpec, name: str, model: CameraModel, position: FloatArray, optical_rotation: FloatArray
) -> None:
    """Adds a camera with a camera model's intrinsics (without its distortion, which OpenGL can't draw).

    Args:
        spec: The scene.
        name: Name of the camera.
        model: Intrinsics.
        position: Position in the world frame [m].
        optical_rotation: float64[3, 3], the optical frame's orientation in the world frame.
    """
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, (optical_rotation @ _OPTICAL_TO_MUJOCO).ravel())
    spec.worldbody.add_camera(
        name=name,
        pos=position,
        quat=quaternion,
        resolution=[model.width, model.height],
        sensor_size=[model.width * 1e-6, model.height * 1e-6],  # only its ratio to the focal length matters
        focal_pixel=[model.fx, model.fy],
        # Pixel centres are whole numbers in our camera models; MuJoCo measures from the principal point to the centre
        # of the picture.
        principal_pixel=[(model.width - 1) / 2 - model.cx, (model.height - 1) / 2 - model.cy],
    )
