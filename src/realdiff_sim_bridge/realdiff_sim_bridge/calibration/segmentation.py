"""Masks of the robot from pictures of a scene in which nothing else moves.

A rough guess of the camera's pose says where the robot can be in each view: its rendered silhouette, widened by the
guess's error. A pixel outside is background. So most pixels are background in some view, which tells what lies behind
the robot in the others: there, the robot is what lies nearer than the background (or, without depth, what looks
different from it). What lies behind the robot in all views is continued from around it; where that leaves a doubt, and
in holes of the depth image, the mask stays unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.errors import OutputError, RealdiffError
from realdiff_core.output import StagedFolder

from realdiff_sim_bridge.calibration.from_bag import Shot
from realdiff_sim_bridge.calibration.overlay import contact_sheet, draw_overlay
from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer
from realdiff_sim_bridge.calibration.views import BACKGROUND, ROBOT, UNKNOWN, VIEWS_FILES
from realdiff_sim_bridge.geometry import Pose

Method = Literal["depth", "grabcut"]

_NEARER_M, _NEARER_PER_M2 = 0.015, 0.010
"""The robot is nearer than the background by this much, and more at a distance, as stereo noise grows with z² [m]."""

_DOUBT = 2.5
"""Where the background is only continued from around, what lies nearer by less than this factor (or by more than its
inverse) may be either."""

_COLOUR_DIFFERENCE = 40.0
"""Without depth: distance in RGB from the background."""

_SPECK_PX = 150
"""Smaller pieces are noise."""

_RIM_PX = 7
"""GrabCut decides within this distance of the outline found before; depth cameras misplace outlines by some pixels."""


def make_masks(
    shots: Sequence[Shot],
    camera: CameraModel,
    guess: Pose,
    *,
    margin_px: int = 60,
    method: Method = "depth",
    empty_depth_m: NDArray[np.float32] | None = None,
    renderer: RobotRenderer | None = None,
) -> list[NDArray[np.uint8]]:
    """Cuts the robot out of pictures.

    Args:
        shots: Pictures at known joint positions, camera and scene unmoved.
        camera: The colour camera.
        guess: Rough pose of the colour optical frame in "base".
        margin_px: How far the guess may misplace the robot in the picture.
        method: "depth" by the background alone; "grabcut" then lets colour decide along the outline.
        empty_depth_m: float32[H, W], depth of the scene without the robot; None: gathered from the views.
        renderer: A renderer for `camera`, to save making one.

    Returns:
        uint8[H, W] a view: 0 background, 255 robot, 128 unknown.

    Raises:
        RealdiffError: A view shows no robot where the guess looks.
    """
    import cv2

    own = renderer or RobotRenderer(camera, detail=0.2)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1,) * 2)
    try:
        zones = np.stack(
            [
                cv2.dilate(own.image_mask(own.render(own.articulate(shot.joints), guess)).astype(np.uint8), kernel) > 0
                for shot in shots
            ]
        )
    finally:
        if renderer is None:
            own.close()
    depths = [shot.depth_m for shot in shots]
    if all(depth is not None for depth in depths):
        found = _by_depth(np.stack([depth for depth in depths if depth is not None]), zones, empty_depth_m)
    else:
        found = _by_colour(np.stack([shot.picture for shot in shots]), zones)
    masks = []
    for index, (shot, mask) in enumerate(zip(shots, found, strict=True)):
        if method == "grabcut":
            mask = _grabcut(shot.picture, mask, zones[index])
        mask = _without_specks(mask)
        if np.count_nonzero(mask == ROBOT) < _SPECK_PX:
            raise RealdiffError(
                "no robot is found where the guess looks",
                where=f"picture {index} at {shot.stamp_ns} ns",
                expected="the robot within the widened silhouette",
                got=f"{np.count_nonzero(mask == ROBOT)} pixels",
                next_step="correct the guess, widen --margin, or give --empty-scene",
            )
        masks.append(mask)
    return masks


def _background(values: NDArray[np.float32], zones: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median over the views in which the robot can't be at a pixel; NaN where it can be in all of them.

    Args:
        values: float32[V, H, W] or [V, H, W, C].
        zones: bool[V, H, W], where the robot can be.
    """
    robot = zones if values.ndim == 3 else np.repeat(zones[..., None], values.shape[-1], axis=-1)
    masked = np.ma.masked_array(values, mask=robot | ~np.isfinite(values))
    return np.asarray(np.ma.median(masked, axis=0).filled(np.nan), dtype=np.float32)


def _continued(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fills NaN so that every filled pixel is the mean of its neighbours (Laplace's equation)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    missing = ~np.isfinite(values)
    if not missing.any() or missing.all():
        return values
    number = np.full(values.shape, -1)
    number[missing] = np.arange(np.count_nonzero(missing))
    rows, columns = np.nonzero(missing)
    own = number[rows, columns]
    right = np.zeros(len(own))
    degree = np.zeros(len(own))
    entries: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = rows + dy, columns + dx
        inside = (y >= 0) & (x >= 0) & (y < values.shape[0]) & (x < values.shape[1])
        y, x, this = y[inside], x[inside], own[inside]
        degree[this] += 1
        known = ~missing[y, x]
        right[this[known]] += values[y[known], x[known]]
        entries.append((this[~known], number[y[~known], x[~known]]))
    i = np.concatenate([own, *(pair[0] for pair in entries)])
    j = np.concatenate([own, *(pair[1] for pair in entries)])
    data = np.concatenate([degree, -np.ones(len(i) - len(own))])
    result = values.copy()
    result[missing] = spsolve(coo_matrix((data, (i, j))).tocsc(), right)
    return result


def _by_depth(
    depths: NDArray[np.float32], zones: NDArray[np.bool_], empty: NDArray[np.float32] | None
) -> list[NDArray[np.uint8]]:
    seen = _background(depths, zones) if empty is None else empty
    # Planes are linear in the inverse depth, and a harmonic function continues them as they are.
    background = 1.0 / np.maximum(_continued(1.0 / seen), 1e-3)
    nearer = _NEARER_M + _NEARER_PER_M2 * background**2
    doubt = np.where(np.isfinite(seen), 1.0, _DOUBT)
    masks = []
    for depth, zone in zip(depths, zones, strict=True):
        gap = (background - depth) / nearer
        mask = np.where(gap > doubt, ROBOT, np.where(gap < 1.0 / doubt, BACKGROUND, UNKNOWN))
        mask[~np.isfinite(depth)] = UNKNOWN
        masks.append(np.where(zone, mask, BACKGROUND).astype(np.uint8))
    return masks


def _by_colour(pictures: NDArray[np.uint8], zones: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    seen = _background(pictures.astype(np.float32), zones)
    background = np.stack([_continued(seen[..., channel]) for channel in range(3)], axis=-1)
    doubt = np.where(np.isfinite(seen).all(axis=-1), 1.0, _DOUBT)
    masks = []
    for picture, zone in zip(pictures, zones, strict=True):
        gap = np.linalg.norm(picture - background, axis=-1) / _COLOUR_DIFFERENCE
        mask = np.where(gap > doubt, ROBOT, np.where(gap < 1.0 / doubt, BACKGROUND, UNKNOWN))
        masks.append(np.where(zone, mask, BACKGROUND).astype(np.uint8))
    return masks


def _grabcut(picture: NDArray[np.uint8], mask: NDArray[np.uint8], zone: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Moves the outline to where the colours change, within a rim around it."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RIM_PX + 1,) * 2)
    robot, background = (mask == ROBOT).astype(np.uint8), (mask == BACKGROUND).astype(np.uint8)
    labels = np.where(robot > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(robot, kernel) > 0] = cv2.GC_FGD
    labels[cv2.erode(background, kernel) > 0] = cv2.GC_BGD
    rows, columns = np.nonzero(zone)
    top, left = max(rows.min() - 20, 0), max(columns.min() - 20, 0)
    crop = np.s_[top : rows.max() + 20, left : columns.max() + 20]
    part = np.ascontiguousarray(labels[crop])
    if not ((part == cv2.GC_FGD).any() and (part == cv2.GC_BGD).any()):
        return mask  # nothing to learn colours from
    cv2.grabCut(
        np.ascontiguousarray(picture[crop][..., ::-1]),
        part,
        (0, 0, 1, 1),
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        4,
        cv2.GC_INIT_WITH_MASK,
    )
    result = mask.copy()
    result[crop] = np.where(np.isin(part, (cv2.GC_FGD, cv2.GC_PR_FGD)), ROBOT, BACKGROUND)
    return result


def _without_specks(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gives small islands to what surrounds them: noise, and single unknown pixels, which would hide the contour.

    Unknown islands between robot and background stay: the contour runs somewhere through them.
    """
    import cv2

    result = mask.copy()
    for value, others in ((UNKNOWN, (ROBOT, BACKGROUND)), (ROBOT, (BACKGROUND,)), (BACKGROUND, (ROBOT,))):
        count, labels, statistics, _ = cv2.connectedComponentsWithStats((result == value).astype(np.uint8))
        small = statistics[:, cv2.CC_STAT_AREA] < _SPECK_PX
        small[0] = False  # everything else
        touching = {other: np.zeros(count, dtype=bool) for other in (ROBOT, BACKGROUND)}
        for other, touches in touching.items():
            beside = cv2.dilate((result == other).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            touches[np.unique(labels[beside])] = True
        for other in others:
            opposite = ROBOT if other == BACKGROUND else BACKGROUND
            alone = touching[other] & ~touching[opposite] if value == UNKNOWN else touching[other]
            result[(small & alone)[labels]] = other
    return result


def write_views(folder: Path, shots: Sequence[Shot], masks: Sequence[NDArray[np.uint8]], camera: CameraModel) -> None:
    """Writes a folder of views for `calibrate fit`, with a contact sheet to check the masks by.

    Raises:
        OutputError: The folder exists already.
    """
    import yaml

    staged = StagedFolder(folder)
    try:
        work = staged.begin()
        for name in ("masks", "colour"):
            (work / name).mkdir(parents=True)
        entries, pictures = [], []
        for index, (shot, mask) in enumerate(zip(shots, masks, strict=True)):
            _write(work / "masks" / f"{index:03d}.png", mask)
            _write(work / "colour" / f"{index:03d}.png", shot.picture[..., ::-1])
            joints = [round(float(value), 6) for value in shot.joints]
            entries.append({"mask": f"masks/{index:03d}.png", "picture": f"colour/{index:03d}.png", "joints": joints})
            shown = draw_overlay(shot.picture, mask == ROBOT)
            shown[mask == UNKNOWN] = (255, 220, 0)
            pictures.append(shown)
        sheet = contact_sheet(pictures, [f"{index:03d}" for index in range(len(pictures))])
        _write(work / "contact_sheet.png", sheet[..., ::-1])
        numbers = {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy", "frame_id")}
        content = {"camera": {**numbers, "distortion": list(camera.distortion)}, "views": entries}
        (work / VIEWS_FILES[0]).write_text(yaml.safe_dump(content, sort_keys=False, width=200), encoding="utf-8")
        staged.complete()
    except BaseException:
        staged.abort()
        raise


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    import cv2

    done, data = cv2.imencode(".png", image)
    if not done:
        raise OutputError("picture can't be encoded", where=path)
    path.write_bytes(data.tobytes())
