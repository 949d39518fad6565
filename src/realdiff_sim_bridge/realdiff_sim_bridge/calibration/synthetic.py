"""Synthetic views with a known camera, to judge the alignment by.

The masks don't come from the renderer that the alignment uses: the robot's full meshes are projected with `CameraModel`
(lens distortion included) and filled by an exact test at the pixels' centres. Mask noise moves the outline by a smooth
random field, as a person or a network cuts out a robot: correlated along the outline, independent between views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from scipy.spatial.transform import Rotation

from realdiff_sim_bridge.calibration.fields import signed_distance
from realdiff_sim_bridge.calibration.silhouettes import JOINTS
from realdiff_sim_bridge.calibration.views import View, ViewSet
from realdiff_sim_bridge.geometry import FloatArray, Pose, look_at
from realdiff_sim_bridge.rendering import select_gl
from realdiff_sim_bridge.scene.objects import COLLISION_GROUP
from realdiff_sim_bridge.scene.robot import READY_POSITIONS, robot_spec

_LEAST_HEIGHT_M = 0.02
"""No part of hand and forearm of a synthetic view is lower than this."""

_JOINT_SPREAD = (1.2, 0.7, 0.7, 0.7, 1.0, 0.9, 1.2)
"""Half-widths of the joints' ranges about the ready pose [rad]."""


class MeshRobot:
    """The robot's meshes as triangles in the frame "base".

    Args:
        detail: Share of the triangles to keep, in (0, 1]: with fewer than the alignment's model has, the "real" robot
            differs from the model, as real robots do.
    """

    def __init__(self, detail: float = 1.0) -> None:
        """Loads the meshes."""
        select_gl()  # nothing is drawn here, but the renderer's choice must precede the first import of mujoco
        import mujoco

        self._mujoco = mujoco
        self._model = robot_spec(detail=detail).compile()
        self._data = mujoco.MjData(self._model)
        model = self._model
        self._qpos = np.array([model.joint(name).qposadr[0] for name in JOINTS])
        self._geoms = [
            index
            for index in range(model.ngeom)
            if model.geom_group[index] != COLLISION_GROUP and model.geom_type[index] == mujoco.mjtGeom.mjGEOM_MESH
        ]

    def triangles(self, joints: FloatArray) -> FloatArray:
        """Returns float64[N, 3, 3], the triangles' corners [m] at joint positions float64[9]."""
        model, data = self._model, self._data
        data.qpos[self._qpos] = joints
        self._mujoco.mj_kinematics(model, data)
        parts = []
        for geom in self._geoms:
            mesh = model.geom_dataid[geom]
            start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            vertices = model.mesh_vert[start : start + count] @ data.geom_xmat[geom].reshape(3, 3).T
            vertices = vertices + data.geom_xpos[geom]
            first, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            parts.append(vertices[model.mesh_face[first : first + faces]])
        return np.concatenate(parts)

    def lowest_moving_point(self, joints: FloatArray) -> float:
        """Height [m] of the lowest point of links 3 and further at joint positions float64[9]."""
        self._data.qpos[self._qpos] = joints
        self._mujoco.mj_kinematics(self._model, self._data)
        heights = [
            self._data.geom_xpos[geom][2] - self._model.geom_rbound[geom]
            for geom in self._geoms
            if self._model.body(self._model.geom_bodyid[geom]).name not in ("fr3_link0", "fr3_link1", "fr3_link2")
        ]
        return float(min(heights))


def fill_triangles(corners: FloatArray, width: int, height: int) -> NDArray[np.bool_]:
    """Marks the pixels whose centre lies in one of many triangles.

    Args:
        corners: float64[N, 3, 2], pixel coordinates; triangles with NaN are left out.
        width: Picture width [px].
        height: Picture height [px].

    Returns:
        bool[H, W].
    """
    mask = np.zeros((height, width), dtype=bool)
    corners = corners[np.isfinite(corners).all(axis=(1, 2))]
    low = np.ceil(corners.min(axis=1)).astype(int).clip(0)
    high = np.minimum(np.floor(corners.max(axis=1)).astype(int), [width - 1, height - 1])
    extent = high - low
    hit = (extent >= 0).all(axis=1)
    corners, low, extent = corners[hit], low[hit], extent[hit]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    for dx in range(int(extent[:, 0].max(initial=-1)) + 1):
        wide = np.flatnonzero(extent[:, 0] >= dx)
        for dy in range(int(extent[wide, 1].max(initial=-1)) + 1):
            chosen = wide[extent[wide, 1] >= dy]
            point = low[chosen] + [dx, dy]
            sides = [
                (q[chosen, 0] - p[chosen, 0]) * (point[:, 1] - p[chosen, 1])
                - (q[chosen, 1] - p[chosen, 1]) * (point[:, 0] - p[chosen, 0])
                for p, q in ((a, b), (b, c), (c, a))
            ]
            inside = np.logical_and.reduce([s >= 0 for s in sides]) | np.logical_and.reduce([s <= 0 for s in sides])
            mask[point[inside, 1], point[inside, 0]] = True
    return mask


def silhouette(robot: MeshRobot, joints: FloatArray, camera: CameraModel, base_camera: Pose) -> NDArray[np.bool_]:
    """Returns bool[H, W], where the camera sees the robot."""
    inverse = base_camera.inverse()
    points = robot.triangles(joints) @ inverse.rotation.T + inverse.position
    return fill_triangles(camera.project(points), camera.width, camera.height)


@dataclass(frozen=True)
class MaskNoise:
    """How masks differ from the true silhouettes.

    Attributes:
        jitter_px: Standard deviation of the outline's displacement [px].
        correlation_px: Length over which the displacement is correlated (Gaussian smoothing) [px].
        dilation_px: Displacement common to all views [px].
    """

    jitter_px: float = 1.0
    correlation_px: float = 4.0
    dilation_px: float = 0.0

    def apply(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Returns the mask with its outline moved."""
        import cv2

        field = cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), self.correlation_px)
        field *= self.jitter_px / field.std()
        return np.asarray(signed_distance(mask) < field + self.dilation_px)


@dataclass(frozen=True)
class Scenario:
    """A synthetic calibration: what is given, and the truth.

    Attributes:
        views: Noisy views.
        truth: Pose of the colour optical frame in "base".
        guess: Where the search starts.
    """

    views: ViewSet
    truth: Pose
    guess: Pose


def random_pose_error(rng: np.random.Generator, pose: Pose, position_m: float, angle_deg: float) -> Pose:
    """Moves a pose by a distance and turns it by an angle, both in random directions."""
    shift, axis = (vector / np.linalg.norm(vector) for vector in rng.standard_normal((2, 3)))
    turn = Rotation.from_rotvec(axis * np.radians(angle_deg)).as_matrix()
    return Pose.from_rotation(pose.position + shift * position_m, pose.rotation @ turn)


def pose_error(estimate: Pose, truth: Pose) -> tuple[float, float]:
    """Distance between two poses: of their origins [m], and the angle between them [rad]."""
    turn = Rotation.from_matrix(truth.rotation.T @ estimate.rotation).magnitude()
    return float(np.linalg.norm(estimate.position - truth.position)), float(turn)


def random_camera(rng: np.random.Generator) -> Pose:
    """A camera in front of the robot that has all of it in view: 1.2–1.7 m from its middle, up to 60° aside."""
    target = np.array([0.25, 0.0, 0.38]) + rng.uniform(-0.08, 0.08, 3)
    distance, azimuth, elevation = rng.uniform(1.2, 1.7), rng.uniform(-60, 60), rng.uniform(5, 45)
    azimuth, elevation = np.radians([azimuth, elevation])
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    pose = look_at((target + distance * direction).tolist(), target.tolist())
    roll = Rotation.from_euler("z", rng.uniform(-5, 5), degrees=True).as_matrix()
    return Pose.from_rotation(pose.position, pose.rotation @ roll)


def random_joints(rng: np.random.Generator, robot: MeshRobot, joint_range: FloatArray) -> FloatArray:
    """Joint positions float64[9] about the ready pose, above the table, within the limits."""
    low, high = joint_range.T
    while True:
        joints = np.full(9, rng.uniform(0.0, 0.04))
        joints[:7] = READY_POSITIONS + rng.uniform(-1, 1, 7) * _JOINT_SPREAD
        if np.all((joints >= low) & (joints <= high)) and robot.lowest_moving_point(joints) > _LEAST_HEIGHT_M:
            return joints


def scenario(
    seed: int,
    robot: MeshRobot,
    joint_range: FloatArray,
    *,
    camera: CameraModel,
    views: int = 10,
    noise: MaskNoise | None = None,
    start_m: float = 0.05,
    start_deg: float = 5.0,
    pictures: bool = False,
) -> Scenario:
    """Draws a synthetic calibration.

    Args:
        seed: Same seed, same scenario.
        robot: The full meshes.
        joint_range: float64[9, 2], limits of the joints.
        camera: Intrinsics of the camera.
        views: Number of views.
        noise: Mask noise; by default 1 px.
        start_m: Distance of the guess from the truth.
        start_deg: Angle of the guess from the truth.
        pictures: Paint a grey picture to each view, for overlays.
    """
    rng = np.random.default_rng(seed)
    truth = random_camera(rng)
    noise = noise or MaskNoise()
    seen: list[View] = []
    while len(seen) < views:
        joints = random_joints(rng, robot, joint_range)
        exact = silhouette(robot, joints, camera, truth)
        mask = noise.apply(exact, rng)
        known = np.ones_like(mask)
        seen.append(View(f"{len(seen):03d}", joints, mask, known, _picture(exact, rng) if pictures else None))
    return Scenario(ViewSet(camera, tuple(seen)), truth, random_pose_error(rng, truth, start_m, start_deg))


def _picture(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A light robot before a darker wall, with noise."""
    grey = np.where(mask, 205.0, 105.0)[..., None] * np.array([1.0, 0.98, 0.94])
    return np.asarray(np.clip(grey + rng.normal(0, 6, (*mask.shape, 3)), 0, 255), dtype=np.uint8)
