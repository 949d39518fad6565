"""Silhouettes of the robot: rendered masks, their contours, and the points in space behind a contour."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.errors import RenderingError
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.rendering import select_gl
from realdiff_sim_bridge.scene.build import NEAR_M, add_camera
from realdiff_sim_bridge.scene.objects import COLLISION_GROUP
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS, robot_spec

if TYPE_CHECKING:
    import mujoco

JOINTS = (*ARM_JOINTS, *FINGER_JOINTS)
"""Joints of a view: seven of the arm [rad], two fingers [m]."""

DETAIL = 1.0
"""Share of the robot's triangles: with half of them its outline lies 0.3 to 0.5 px too far inside."""

_CAMERA = "calibrated"
_FAR_M = 20.0
_MARGIN_PX = 8
"""The picture is rendered this much larger on every side, so that no contour inside the image is cut by its border."""

_OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])


_NORMAL_BLUR_PX = 1.5
"""Smoothing of a rendered mask before its outline's direction is taken."""


class Contour(NamedTuple):
    """The rim of a rendered robot.

    Attributes:
        pixels: float64[N, 2], (x, y) in the rendered picture.
        points: float64[N, 3], points of the robot in the camera's optical frame [m].
        normals: float64[N, 2], unit vectors in the picture that point away from the robot.
    """

    pixels: FloatArray
    points: FloatArray
    normals: FloatArray


@dataclass(frozen=True)
class Silhouette:
    """A rendered robot.

    Attributes:
        camera: The pinhole camera of the rendering (larger than the real image by a margin, possibly scaled).
        mask: bool[H, W], where the robot is.
        depth_m: float32[H, W], distance along the optical axis, meaningless off the robot.
    """

    camera: CameraModel
    mask: NDArray[np.bool_]
    depth_m: NDArray[np.float32]

    def contour(self) -> Contour:
        """Returns the rim of the robot.

        Contour points lie half-way between neighbouring pixels of which one is on the robot: over many of them that is
        unbiased. Their depth is that of the pixel on the robot.
        """
        import cv2

        pixels, inside = contour_pixels(self.mask)
        z = self.depth_m[inside[:, 1], inside[:, 0]].astype(np.float64)
        camera = self.camera
        x = (pixels[:, 0] - camera.cx) / camera.fx
        y = (pixels[:, 1] - camera.cy) / camera.fy
        smooth = cv2.GaussianBlur(self.mask.astype(np.float32), (0, 0), _NORMAL_BLUR_PX)
        column, row = inside.T
        slopes = [cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, ksize=3)[row, column] for dx in (1, 0)]
        normals = -np.stack(slopes, axis=1).astype(np.float64)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return Contour(pixels, np.stack([x * z, y * z, z], axis=1), normals)


def contour_pixels(mask: NDArray[np.bool_]) -> tuple[FloatArray, NDArray[np.intp]]:
    """Finds the borders between pixels inside and outside a mask.

    Args:
        mask: bool[H, W].

    Returns:
        float64[N, 2], points (x, y) half-way between two neighbouring pixels that differ, and intp[N, 2], the pixel
        (x, y) of the two that is inside.
    """
    rows, columns = np.nonzero(mask[:, 1:] != mask[:, :-1])
    across = np.stack([columns + 0.5, rows.astype(np.float64)], axis=1)
    across_inside = np.stack([np.where(mask[rows, columns], columns, columns + 1), rows], axis=1)
    rows, columns = np.nonzero(mask[1:] != mask[:-1])
    down = np.stack([columns.astype(np.float64), rows + 0.5], axis=1)
    down_inside = np.stack([columns, np.where(mask[rows, columns], rows, rows + 1)], axis=1)
    return np.concatenate([across, down]), np.concatenate([across_inside, down_inside])


class RobotRenderer:
    """Renders silhouettes of the robot for one camera. Not thread-safe; use it in the thread that made it.

    Args:
        camera: Intrinsics of the real camera; its distortion only widens the margin, since OpenGL draws pinhole
            pictures.
        detail: Share of the robot's triangles to keep, in (0, 1].
        aligned_to: With 4, pictures can be rendered at 1/2 and 1/4 of the size without cutting pixels.
    """

    def __init__(self, camera: CameraModel, *, detail: float = DETAIL, aligned_to: int = 4) -> None:
        """Compiles the robot; OpenGL starts with the first picture."""
        select_gl()
        import mujoco

        self._mujoco = mujoco
        self.camera = _with_margin(camera, aligned_to)
        spec = robot_spec(detail=detail)
        spec.stat.extent, spec.stat.center = 1.0, [0.4, 0.0, 0.4]
        spec.visual.map.znear, spec.visual.map.zfar = NEAR_M, _FAR_M
        spec.visual.quality.offsamples = 0  # one sample at the pixel's centre: multisampled depth lies beside it
        spec.visual.quality.shadowsize = 0
        frame = spec.visual.global_
        frame.offwidth, frame.offheight = self.camera.width, self.camera.height
        add_camera(spec, _CAMERA, self.camera, np.zeros(3), np.eye(3))
        self._model = spec.compile()
        self._real_camera = camera
        self._to_image: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._qpos = np.array([self._model.joint(name).qposadr[0] for name in JOINTS])
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0
        self._camera_id = self._model.camera(_CAMERA).id
        self._renderers: dict[int, Any] = {}

    @property
    def joint_range(self) -> FloatArray:
        """float64[9, 2], lower and upper limits of the joints, [rad] and [m]."""
        return np.array([self._model.joint(name).range for name in JOINTS], dtype=np.float64)

    def articulate(self, joints: FloatArray) -> mujoco.MjData:
        """Returns the robot at joint positions float64[9] ([rad], [m])."""
        data = self._mujoco.MjData(self._model)
        data.qpos[self._qpos] = joints
        self._mujoco.mj_kinematics(self._model, data)
        self._mujoco.mj_comPos(self._model, data)
        return data

    def link_poses(self, data: mujoco.MjData) -> dict[str, Pose]:
        """Returns the poses of the links in "base", by the URDF's names."""
        names = [self._model.body(index).name for index in range(self._model.nbody)]
        return {
            name: Pose.from_wxyz(data.xpos[index], data.xquat[index])
            for index, name in enumerate(names)
            if name.startswith("fr3_")
        }

    def render(self, data: mujoco.MjData, base_camera: Pose, shrink: int = 1) -> Silhouette:
        """Renders the robot.

        Args:
            data: From `articulate`.
            base_camera: Pose of the camera's optical frame in "base".
            shrink: Divides the picture's width and height: 1, 2 or 4.

        Raises:
            RenderingError: OpenGL doesn't start.
        """
        renderer = self._renderers.get(shrink) or self._open(shrink)
        data.cam_xpos[self._camera_id] = base_camera.position
        data.cam_xmat[self._camera_id] = (base_camera.rotation @ _OPTICAL_TO_MUJOCO).ravel()
        renderer.update_scene(data, camera=self._camera_id, scene_option=self._option)
        depth = np.asarray(renderer.render(), dtype=np.float32)
        camera = self.camera.scaled(depth.shape[1], depth.shape[0])
        return Silhouette(camera, depth < 0.99 * _FAR_M, depth)

    def image_mask(self, silhouette: Silhouette) -> NDArray[np.bool_]:
        """Returns the silhouette in the real image's pixels (lens distortion included), bool[H, W] of the camera."""
        import cv2

        width = silhouette.camera.width
        if width not in self._to_image:
            rays, camera = self._real_camera.rays(), silhouette.camera
            columns, rows = rays[..., 0] * camera.fx + camera.cx, rays[..., 1] * camera.fy + camera.cy
            self._to_image[width] = (columns.astype(np.float32), rows.astype(np.float32))
        mask = silhouette.mask.astype(np.uint8)
        return np.asarray(cv2.remap(mask, *self._to_image[width], cv2.INTER_NEAREST) > 0)

    def _open(self, shrink: int) -> Any:
        try:
            renderer = self._mujoco.Renderer(self._model, self.camera.height // shrink, self.camera.width // shrink)
        except Exception as error:
            # MuJoCo, PyOpenGL and ctypes each raise their own types here; none says what a user can do.
            raise RenderingError(
                "off-screen rendering doesn't start on this machine",
                got=f"{type(error).__name__}: {error}",
                next_step="sudo apt-get install -y libegl1 libgl1-mesa-dri (or libosmesa6, and MUJOCO_GL=osmesa)",
            ) from error
        renderer.enable_depth_rendering()
        self._renderers[shrink] = renderer
        return renderer

    def close(self) -> None:
        """Frees the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def _with_margin(camera: CameraModel, aligned_to: int) -> CameraModel:
    """The undistorted pinhole camera that sees everything the real camera sees, and a little more."""
    columns, rows = np.arange(camera.width), np.arange(camera.height)
    border = np.concatenate(
        [
            np.stack([columns, np.full(camera.width, value)], axis=1)
            for value in (0, camera.height - 1)
        ]
        + [np.stack([np.full(camera.height, value), rows], axis=1) for value in (0, camera.width - 1)]
    )  # fmt: skip
    rays = camera.undistort(border)
    ideal = rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    low = np.floor(ideal.min(axis=0)).astype(int) - _MARGIN_PX
    size = np.ceil(ideal.max(axis=0)).astype(int) + _MARGIN_PX + 1 - low
    size += -size % aligned_to
    return replace(
        camera,
        width=int(size[0]),
        height=int(size[1]),
        cx=float(camera.cx - low[0]),
        cy=float(camera.cy - low[1]),
        distortion=(0.0,) * 5,
    )
