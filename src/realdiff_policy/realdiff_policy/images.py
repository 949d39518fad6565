"""Images at the size that a policy sees: the same functions for training data, rollouts and the live camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_policy.contract import ImageContract

INTRINSICS_TOLERANCE = 0.02
"""Largest relative difference of focal lengths, and difference of the principal point in image widths."""


_RENDERED_WIDTH = 320
"""Least width of a simulated camera's images, that of recordings [px]."""


def rendered_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a simulated camera makes images for a policy: a multiple of the policy's own.

    A small image then is an average over a larger one, as in the recordings and from a real camera; rendered at its own
    size it would show stairs that the policy has never seen.

    Args:
        width: Of the policy's images [px].
        height: Of the policy's images [px].
    """
    factor = -(-_RENDERED_WIDTH // width)
    return factor * width, factor * height


def fit_colour(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Brings a colour image to a size, by areas (a smaller image is not aliased).

    Args:
        image: uint8[H, W, 3].
        width: Wanted width [px].
        height: Wanted height [px].

    Returns:
        uint8[height, width, 3].
    """
    if image.shape[:2] == (height, width):
        return image
    import cv2

    shrinks = image.shape[1] >= width and image.shape[0] >= height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def fit_depth(depth: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Brings a depth image to a size by picking the pixel nearest to each new pixel's centre.

    No value is mixed from two: a mean of an object's and its background's depth would be a surface that doesn't exist.

    Args:
        depth: [H, W] of any type.
        width: Wanted width [px].
        height: Wanted height [px].

    Returns:
        [height, width] of the same type.
    """
    if depth.shape == (height, width):
        return depth
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(int)
    return np.ascontiguousarray(depth[rows][:, columns])


def image_contract(topic: str, camera: CameraModel) -> ImageContract:
    """The contract of images from a camera."""
    return ImageContract(
        topic=topic, width=camera.width, height=camera.height, fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy
    )


def intrinsics_problem(contract: ImageContract, camera: CameraModel) -> str:
    """Tells how a camera differs from the one that a policy was trained with, or nothing.

    Args:
        contract: What the policy expects.
        camera: A camera; its intrinsics are scaled to the contract's size before they are compared.
    """
    shape, wanted = camera.width / camera.height, contract.width / contract.height
    if abs(shape / wanted - 1) > INTRINSICS_TOLERANCE:
        return f"its images have sides {camera.width}:{camera.height}, expected {contract.width}:{contract.height}"
    scaled = camera.scaled(contract.width, contract.height)
    for name in ("fx", "fy"):
        have, want = getattr(scaled, name), getattr(contract, name)
        if abs(have / want - 1) > INTRINSICS_TOLERANCE:
            return f"{name} is {have:.1f} px at {contract.width}×{contract.height}, expected {want:.1f} px"
    for name in ("cx", "cy"):
        have, want = getattr(scaled, name), getattr(contract, name)
        if abs(have - want) > INTRINSICS_TOLERANCE * contract.width:
            return f"{name} is {have:.1f} px at {contract.width}×{contract.height}, expected {want:.1f} px"
    return ""
