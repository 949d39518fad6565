"""Stereo arithmetic that the models share: depth ↔ disparity and the range in which a camera measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import CameraProfile

__all__ = ["add_disparity_error", "disparity_to_depth", "keep_range"]


def disparity_to_depth(disparity: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Depth of a disparity.

    Args:
        disparity: float32, px.
        factor: fx·baseline, px·m.

    Returns:
        float32, metres; NaN where the disparity is not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(factor) / disparity
    depth[~(disparity > 0)] = np.nan
    return depth


def add_disparity_error(
    depth: NDArray[np.float32], error_px: NDArray[np.float32], camera: CameraModel, profile: CameraProfile
) -> NDArray[np.float32]:
    """Depth after an error of its disparity, within the range of the camera.

    Args:
        depth: float32 [N,H,W], metres, NaN invalid.
        error_px: float32 [N,H,W], px.
        camera: Intrinsics with baseline.
        profile: Camera: `near_m`, `far_m`.

    Returns:
        float32 [N,H,W], metres: nearer than `near_m` a hole (NaN), beyond `far_m` and invalid pixels unchanged.
    """
    factor = camera.disparity_factor
    with np.errstate(divide="ignore", invalid="ignore"):
        disparity = np.float32(factor) / depth
        disparity += error_px
        noisy = disparity_to_depth(disparity, factor)
    keep_range(depth, noisy, profile)
    return noisy


def keep_range(clean: NDArray[np.float32], noisy: NDArray[np.float32], profile: CameraProfile) -> None:
    """Limits what a model changes to the range in which the camera measures.

    Args:
        clean: float32 [...], metres, NaN invalid.
        noisy: float32 [...], metres, changed in place: where the clean depth is nearer than `near_m` it becomes a hole
            (NaN), where that is beyond `far_m` or invalid the clean value.
        profile: Camera: `near_m`, `far_m`.
    """
    with np.errstate(invalid="ignore"):
        noisy[clean < profile.near_m] = np.nan
        untouched = ~(clean <= profile.far_m)
    noisy[untouched] = clean[untouched]
