"""Coloured point clouds from an oblique view, drawn with a small software splatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_experiments.report.html import Figure
from realdiff_experiments.report.images import png

_BACKGROUND = (238, 240, 242)
_SUPERSAMPLING = 2
#: Strength of the shading by neighbouring depth, which gives a cloud without normals its shape.
_SHADING = 60.0
_MAX_SPLAT = 5


@dataclass(frozen=True)
class View:
    """An oblique look at what the camera saw.

    Attributes:
        pivot: point that stays in the middle, metres, camera optical frame.
        yaw_deg: positive moves the eye to the right of the camera.
        pitch_deg: positive moves the eye above the camera.
        zoom: 1 keeps the camera's own focal length.
        width: pixels.
        height: pixels.
    """

    pivot: tuple[float, float, float]
    yaw_deg: float = 28.0
    pitch_deg: float = 16.0
    zoom: float = 0.95
    width: int = 880
    height: int = 620

    def rotation(self) -> NDArray[np.float64]:
        """Return the matrix from camera optical axes to the view's."""
        yaw, pitch = np.radians(self.yaw_deg), np.radians(self.pitch_deg)
        about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        return about_x @ about_y


def view_of(depth: NDArray[np.floating], camera: CameraModel, **options: float) -> View:
    """Choose a view around the middle of a depth image.

    Args:
        depth: [H, W], metres, NaN invalid; the clean depth, so that before and after share the view.
        camera: its intrinsics.
        options: fields of :class:`View` to set.

    Returns:
        The view.
    """
    points = camera.back_project(depth)
    valid = np.isfinite(points[..., 2])
    pivot = np.median(points[valid], axis=0) if valid.any() else np.array([0.0, 0.0, 1.0])
    return View(pivot=(float(pivot[0]), float(pivot[1]), float(pivot[2])), **options)  # type: ignore[arg-type]


def render_cloud(
    depth: NDArray[np.floating], rgb: NDArray[np.uint8] | None, camera: CameraModel, view: View
) -> NDArray[np.uint8]:
    """Draw the points of a depth image.

    Args:
        depth: [H, W], metres, NaN invalid.
        rgb: uint8 [H, W, 3] on the same pixels, or None to colour by depth.
        camera: intrinsics of both.
        view: where to look from.

    Returns:
        uint8 [view.height, view.width, 3], RGB.
    """
    import cv2

    valid = np.isfinite(depth) & (depth > 0)
    points = camera.back_project(depth)[valid].astype(np.float64)
    colours = (rgb if rgb is not None else _by_depth(depth))[valid]
    pivot = np.asarray(view.pivot)
    # The eye keeps the camera's distance to the pivot, so that the picture keeps the camera's scale.
    turned = (points - pivot) @ view.rotation().T + [0.0, 0.0, float(np.linalg.norm(pivot))]
    ahead = turned[:, 2] > 0.05
    turned, colours, source_z = turned[ahead], colours[ahead], points[ahead, 2]
    width, height = view.width * _SUPERSAMPLING, view.height * _SUPERSAMPLING
    focal = view.zoom * camera.fx * width / camera.width
    u = np.rint(focal * turned[:, 0] / turned[:, 2] + width / 2).astype(np.int64)
    v = np.rint(focal * turned[:, 1] / turned[:, 2] + height / 2).astype(np.int64)
    # A splat covers the surface patch that its pixel saw, a little enlarged against gaps.
    size = np.clip(np.ceil(1.15 * focal * source_z / camera.fx / turned[:, 2]), 1, _MAX_SPLAT).astype(np.int64)
    image, nearest = _splat(u, v, size, turned[:, 2], colours, width, height)
    image = _shade(image, nearest)
    return np.asarray(cv2.resize(image, (view.width, view.height), interpolation=cv2.INTER_AREA))


def cloud_figure(
    depth: NDArray[np.floating],
    rgb: NDArray[np.uint8] | None,
    camera: CameraModel,
    view: View,
    title: str,
    caption: str = "",
) -> Figure:
    """Draw a cloud (see :func:`render_cloud`) and wrap it as a figure."""
    return Figure(png(render_cloud(depth, rgb, camera, view)), title, caption)


def _by_depth(depth: NDArray[np.floating]) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    low, high = np.nanpercentile(depth, (1, 99)) if np.isfinite(depth).any() else (0.0, 1.0)
    scaled = np.nan_to_num((depth - low) / max(high - low, 1e-6))
    return np.asarray(colormaps["viridis"](np.clip(scaled, 0, 1), bytes=True))[..., :3]


def _splat(
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    size: NDArray[np.int64],
    z: NDArray[np.float64],
    colours: NDArray[np.uint8],
    width: int,
    height: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw squares, the nearest on top; return the picture and its depth (inf where empty)."""
    near_to_far = np.argsort(z, kind="stable")
    u, v, size = u[near_to_far], v[near_to_far], size[near_to_far]
    rank = np.arange(len(z), dtype=np.int32)
    # Each pixel keeps the smallest rank that reaches it; the rank after the last point means "empty".
    owner = np.full(height * width, len(z), dtype=np.int32)
    for dv in range(_MAX_SPLAT):
        for du in range(_MAX_SPLAT):
            x, y = u + du - size // 2, v + dv - size // 2
            drawn = (size > max(du, dv)) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            np.minimum.at(owner, y[drawn] * width + x[drawn], rank[drawn])
    palette = np.concatenate([colours[near_to_far], np.array([_BACKGROUND], dtype=np.uint8)])
    depths = np.concatenate([z[near_to_far], [np.inf]])
    return palette[owner].reshape(height, width, 3), depths[owner].reshape(height, width)


def _shade(image: NDArray[np.uint8], depth: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Darken pixels that lie behind their neighbours (eye-dome lighting)."""
    filled = np.isfinite(depth)
    log_depth = np.log(np.where(filled, depth, 1.0))
    obscured = np.zeros(depth.shape)
    reach = 2 * _SUPERSAMPLING
    for dy, dx in ((0, reach), (0, -reach), (reach, 0), (-reach, 0)):
        neighbour = np.roll(log_depth, (dy, dx), (0, 1))
        both = filled & np.roll(filled, (dy, dx), (0, 1))
        obscured += np.where(both, np.clip(log_depth - neighbour, 0, 0.03), 0)
    light = np.where(filled, np.exp(-_SHADING * obscured / 4), 1.0)
    return np.rint(image * light[..., None]).astype(np.uint8)
