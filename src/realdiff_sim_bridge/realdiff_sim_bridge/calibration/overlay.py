"""Pictures of an alignment: the rendered robot's outline over what the camera saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.calibration.views import View

Picture = NDArray[np.uint8]

RENDERED, OBSERVED = (235, 60, 50), (40, 190, 80)
"""Colours (RGB) of the rendered and of the observed outline."""

_TINT = 0.25


def draw_overlay(picture: Picture, rendered: NDArray[np.bool_], observed: NDArray[np.bool_] | None = None) -> Picture:
    """Draws outlines over a picture.

    Args:
        picture: uint8[H, W, 3], RGB; it isn't changed.
        rendered: bool[H, W], the rendered silhouette: tinted, outlined in red.
        observed: bool[H, W], the observed mask, outlined in green.

    Returns:
        uint8[H, W, 3], RGB.
    """
    import cv2

    result = picture.copy()
    tint = np.array(RENDERED, dtype=np.float32)
    result[rendered] = ((1 - _TINT) * result[rendered] + _TINT * tint).astype(np.uint8)
    for mask, colour in ((observed, OBSERVED), (rendered, RENDERED)):
        if mask is not None:
            outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(result, outlines, -1, colour, 1, cv2.LINE_AA)
    return result


def view_picture(view: View) -> Picture:
    """Returns the view's picture; where it has none, its mask in grey."""
    if view.picture is not None:
        return view.picture
    grey = np.where(view.mask, 205, 90) + np.where(view.known, 0, 30)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def contact_sheet(pictures: Sequence[Picture], names: Sequence[str], columns: int = 4, width: int = 400) -> Picture:
    """Lays pictures of one size out in a grid, each with its name."""
    import cv2

    height = round(pictures[0].shape[0] * width / pictures[0].shape[1])
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(small, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
    return sheet
