"""Assembles the MuJoCo model of a task: robot, room, table, objects and the two imagers of the depth camera.

The world frame is the robot's frame "base" (REP-103 axes, metres); the table top is the plane z = 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.objects import add_object
from realdiff_sim_bridge.scene.robot import DETAIL, robot_spec
from realdiff_sim_bridge.scene.room import add_room
from realdiff_sim_bridge.tasks import Task

if TYPE_CHECKING:
    import mujoco
    from realdiff_core.camera import CameraModel

PHYSICS_STEP_S = 0.002
NEAR_M, FAR_M = 0.02, 12.0
"""Clip planes of the renderer [m]: nothing a depth camera sees lies outside."""

COLOUR_CAMERA, DEPTH_CAMERA = "colour", "depth"
"""Names of the MuJoCo cameras of the colour imager and the left infrared imager (the origin of depth)."""

_OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])


def build_scene(task: Task, rig: CameraRig, *, detail: float = DETAIL, looks: bool = False) -> mujoco.MjModel:
    """Compiles the scene of a task.

    Args:
        task: The task's configuration.
        rig: Both imagers with their poses.
        detail: Share of the robot's visual triangles to keep, in (0, 1].
        looks: Hold in reserve what randomised looks need: textures, lights, distractors.

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

    add_room(spec, task.randomisation.looks if looks else None)
    for name, item in task.objects.items():
        add_object(spec, name, item)
    add_camera(spec, COLOUR_CAMERA, rig.colour, rig.base_colour.position, rig.base_colour.rotation)
    add_camera(spec, DEPTH_CAMERA, rig.depth, rig.base_depth.position, rig.base_depth.rotation)
    return spec.compile()


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
    spec.worldbody.add_camera(
        name=name,
        pos=position,
        quat=_camera_quaternion(optical_rotation),
        resolution=[model.width, model.height],
        sensor_size=[model.width * 1e-6, model.height * 1e-6],  # only its ratio to the focal length matters
        focal_pixel=[model.fx, model.fy],
        # Pixel centres are whole numbers in our camera models; MuJoCo measures from the principal point to the centre
        # of the picture.
        principal_pixel=[(model.width - 1) / 2 - model.cx, (model.height - 1) / 2 - model.cy],
    )


def _camera_quaternion(optical_rotation: FloatArray) -> FloatArray:
    """Quaternion (w, x, y, z) of a MuJoCo camera, which looks along -z with y upwards."""
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, (optical_rotation @ _OPTICAL_TO_MUJOCO).ravel())
    return quaternion


def place_cameras(model: Any, rig: CameraRig) -> None:
    """Moves both imagers of a compiled scene to where a rig says."""
    for name, pose in ((COLOUR_CAMERA, rig.base_colour), (DEPTH_CAMERA, rig.base_depth)):
        camera = model.camera(name).id
        model.cam_pos[camera] = pose.position
        model.cam_quat[camera] = _camera_quaternion(pose.rotation)
