"""Scenes made of planes and boxes by ray casting in NumPy: views for tests and timings without any renderer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.infrared import ImagerView

Float = NDArray[np.float32]

_WALL_M, _TABLE_M = 1.8, 0.45  # the wall's distance, and how far the table lies below the camera
_BOXES = 12


def desk_views(
    camera: CameraModel, baseline_m: float, projector_offset_m: float, seed: int = 0
) -> tuple[ImagerView, ImagerView, Float]:
    """A desk with boxes of mixed materials before a wall, one of them of glass.

    Args:
        camera: intrinsics of the imagers.
        baseline_m: left to right imager.
        projector_offset_m: left imager to projector.
        seed: of the boxes.

    Returns:
        Left view, right view, z-depth float32 [H,W] from the projector.
    """
    boxes = _boxes(np.random.default_rng([seed, 0xDE5C]))
    left, right = (_view(camera, x, boxes) for x in (0.0, baseline_m))
    depth, _ = _cast(camera, projector_offset_m, boxes[boxes[:, 8] == 0])
    return left, right, depth


def _boxes(rng: np.random.Generator) -> NDArray[np.float64]:
    """One row a box: least and largest corner [6], albedo, gloss, transmission."""
    size = rng.uniform([0.03, 0.05, 0.03], [0.2, 0.3, 0.15], (_BOXES, 3))
    x, z = rng.uniform(-0.7, 0.7, _BOXES), rng.uniform(0.6, 1.5, _BOXES)
    low = np.stack((x - size[:, 0] / 2, _TABLE_M - size[:, 1], z), axis=1)
    surface = np.stack((rng.uniform(0.02, 0.9, _BOXES), rng.uniform(0, 1, _BOXES) ** 3, np.zeros(_BOXES)), axis=1)
    surface[0] = (0.05, 0.95, 0.85)
    return np.concatenate((low, low + size, surface), axis=1)


def _view(camera: CameraModel, x_m: float, boxes: NDArray[np.float64]) -> ImagerView:
    opaque = boxes[boxes[:, 8] == 0]
    behind = ImagerView(*_maps(camera, x_m, opaque)[:3])
    depth, albedo, gloss, transmission = _maps(camera, x_m, boxes)
    return ImagerView(depth, albedo, gloss, transmission, behind)


def _maps(camera: CameraModel, x_m: float, boxes: NDArray[np.float64]) -> tuple[Float, Float, Float, Float]:
    depth, hit = _cast(camera, x_m, boxes)
    table = np.concatenate((boxes[:, 6:], [[0.6, 0.0, 0.0], [0.45, 0.05, 0.0]]))  # wall, table
    surface = table[hit].astype(np.float32)
    albedo, gloss, transmission = (np.ascontiguousarray(surface[..., i]) for i in range(3))
    return depth, albedo, gloss, transmission


def _cast(camera: CameraModel, x_m: float, boxes: NDArray[np.float64]) -> tuple[Float, NDArray[np.int64]]:
    """z-depth float32 [H,W] and index of what is hit: a box, or after them wall, table."""
    direction = np.ones((camera.height, camera.width, 3))
    direction[..., 0] = (np.arange(camera.width)[None, :] - camera.cx) / camera.fx
    direction[..., 1] = (np.arange(camera.height)[:, None] - camera.cy) / camera.fy
    direction[direction == 0] = 1e-12
    origin = np.array([x_m, 0.0, 0.0])
    depth = np.full(direction.shape[:2], _WALL_M)
    hit = np.full(depth.shape, len(boxes))
    table = np.where(direction[..., 1] > 0, _TABLE_M / direction[..., 1], np.inf)
    hit[table < depth] = len(boxes) + 1
    depth = np.minimum(depth, table)
    for index, box in enumerate(boxes):
        near, far = (box[:3] - origin) / direction, (box[3:6] - origin) / direction
        enter, leave = np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)
        seen = (enter <= leave) & (enter > 0) & (enter < depth)
        depth[seen], hit[seen] = enter[seen], index
    return depth.astype(np.float32), hit
