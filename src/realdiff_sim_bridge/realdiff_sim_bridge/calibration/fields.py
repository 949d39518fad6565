"""Distance fields of the observed masks: how far, and on which side, a point lies from the observed contour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.geometry import FloatArray

FloatImage = NDArray[np.float32]


def signed_distance(mask: NDArray[np.bool_]) -> FloatImage:
    """Returns the signed distance to a mask's contour, float32[H, W] in px: negative inside, zero between the pixels.

    A mask that covers nothing or everything has no contour: the distance is ± the picture's diagonal.
    """
    import cv2

    if mask.all() or not mask.any():
        return np.full(mask.shape, np.hypot(*mask.shape) * (-1 if mask.any() else 1), np.float32)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Either is the distance to the nearest pixel centre on the other side; the contour runs half a pixel before it.
    return np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """Distances at points of several views.

    Attributes:
        distance: float64[N], signed distance to the observed contour [px], positive outside; 0 where unknown.
        gradient: float64[N, 2], its derivative by the pixel coordinates; 0 where unknown.
        known: bool[N], whether the picture tells: inside the image, and nearer to the observed contour than to
            anything that wasn't observed.
    """

    distance: FloatArray
    gradient: FloatArray
    known: NDArray[np.bool_]


class MaskFields:
    """Signed distances of all views' masks.

    Args:
        masks: bool[V, H, W], where the robot was seen.
        known: bool[V, H, W], where the mask says anything.
    """

    def __init__(self, masks: Sequence[NDArray[np.bool_]], known: Sequence[NDArray[np.bool_]]) -> None:
        """Computes the fields."""
        self.shape = masks[0].shape
        self.masks = np.stack(masks).astype(np.float32)
        self.distance = np.stack([signed_distance(mask) for mask in masks])
        self.trust = np.stack([_distance_to_unknown(area) for area in known])

    def sample(self, views: NDArray[np.intp], pixels: FloatArray) -> Sample:
        """Looks up the distance to the nearest point of the observed contours.

        Args:
            views: intp[N], the view of each point.
            pixels: float64[N, 2], (x, y); NaN and points outside the image count as unknown.
        """
        x, y, in_image = self._inside(pixels)
        column, row = x.astype(np.intp), y.astype(np.intp)
        a, b = x - column, y - row
        field = self.distance
        f00, f01 = field[views, row, column], field[views, row, column + 1]
        f10, f11 = field[views, row + 1, column], field[views, row + 1, column + 1]
        top, bottom = f00 + a * (f01 - f00), f10 + a * (f11 - f10)
        distance = top + b * (bottom - top)
        gradient = np.stack([(1 - b) * (f01 - f00) + b * (f11 - f10), bottom - top], axis=1)
        # Beyond the image's border or in an area marked unknown there may be a nearer contour.
        known = in_image & (np.abs(distance) + 1.0 < self.trust[views, row, column])
        return Sample(np.where(known, distance, 0.0), np.where(known[:, None], gradient, 0.0), known)

    def sample_along(self, views: NDArray[np.intp], pixels: FloatArray, normals: FloatArray, reach: int) -> Sample:
        """Looks up the distance to the observed contours along given directions, by the mask's share of the way.

        Unlike the distance to the nearest point it isn't shortened by a ragged outline: an outline displaced by noise
        of mean zero gives distances of mean zero, and one displaced by 1 px gives 1 px.

        Args:
            views: intp[N], the view of each point.
            pixels: float64[N, 2], (x, y).
            normals: float64[N, 2], unit vectors that point away from the robot.
            reach: Pixels looked at to either side; longer distances are cut off there.
        """
        import cv2

        x, y, in_image = self._inside(pixels)
        known = in_image & (self.trust[views, y.astype(np.intp), x.astype(np.intp)] > reach + 1)
        offsets = np.arange(-reach, reach + 1)
        total = np.zeros(len(x))
        for view in np.unique(views):
            rows = np.flatnonzero(views == view)
            map_x = (x[rows, None] + normals[rows, :1] * offsets).astype(np.float32)
            map_y = (y[rows, None] + normals[rows, 1:] * offsets).astype(np.float32)
            total[rows] = cv2.remap(self.masks[view], map_x, map_y, cv2.INTER_LINEAR).sum(axis=1)
        distance = reach + 0.5 - total
        return Sample(np.where(known, distance, 0.0), np.where(known[:, None], normals, 0.0), known)

    def _inside(self, pixels: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        height, width = self.shape
        x, y = np.nan_to_num(pixels, nan=-1.0, posinf=-1.0, neginf=-1.0).T
        in_image = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
        return np.where(in_image, x, 0.0), np.where(in_image, y, 0.0), in_image


def _distance_to_unknown(known: NDArray[np.bool_]) -> FloatImage:
    """Distance of every pixel to the nearest one that wasn't observed; outside the image nothing was."""
    import cv2

    padded = np.pad(known, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance[1:-1, 1:-1], dtype=np.float32)
