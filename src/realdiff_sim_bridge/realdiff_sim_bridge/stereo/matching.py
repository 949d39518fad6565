"""Disparity from two infrared images: semi-global matching, the checks that make holes, post filter, quantisation."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.stereo.settings import StereoSettings

Float = NDArray[np.float32]


def match(
    left: NDArray[np.uint8], right: NDArray[np.uint8], settings: StereoSettings, focal_px: float, noise_sigma: float
) -> Float:
    """Match rectified images.

    Args:
        left: uint8 [H,W].
        right: uint8 [H,W].
        settings: matching settings.
        focal_px: fx of both imagers (pixels); with baseline and near limit it sets the search range.
        noise_sigma: image noise (1 sigma, grey levels), the scale of `settings.noise_floor`.

    Returns:
        Disparity float32 [H,W] in pixels of the left image, a multiple of `settings.step_px`; NaN = hole.
    """
    raw = _semi_global(left, right, settings, focal_px)
    disparity, confident = _refine_and_check(left, right, raw, settings, noise_sigma)
    disparity = _remove_islands(np.where(confident, disparity, np.float32(np.nan)), settings)
    # After the islands are gone: a stray match must not cut a disc out of a good surface.
    disparity[_near_jump(disparity, settings)] = np.nan
    disparity = _smooth(disparity, settings)
    largest = focal_px * settings.baseline_m / settings.near_m
    smallest = focal_px * settings.baseline_m / settings.far_m
    step = np.float32(settings.step_px)
    disparity = np.rint(disparity / step) * step
    return np.where((disparity >= smallest) & (disparity <= largest), disparity, np.float32(np.nan)).astype(np.float32)


def _semi_global(left: NDArray[np.uint8], right: NDArray[np.uint8], settings: StereoSettings, focal_px: float) -> Float:
    """Semi-global matching on images stretched ×2 along the rows.

    The stretch halves the step at which sub-pixel interpolation is drawn to whole pixels, and makes OpenCV's 1/16 px
    steps 1/32 px of the imager. Padding by the search range keeps the left columns, which OpenCV would drop.
    """
    width = left.shape[1]
    search = math.ceil(2 * focal_px * settings.baseline_m / settings.near_m / 16) * 16
    stretched = []
    for image in (left, right):
        wide = cv2.resize(image, None, fx=2, fy=1, interpolation=cv2.INTER_CUBIC)
        stretched.append(cv2.copyMakeBorder(wide, 0, 0, search, 0, cv2.BORDER_REPLICATE))
    area = settings.block_px**2
    matcher = cv2.StereoSGBM_create(  # type: ignore[attr-defined]
        minDisparity=0,
        numDisparities=search,
        blockSize=settings.block_px,
        P1=round(8 * area * settings.smoothness),
        P2=round(40 * area * settings.smoothness),
        disp12MaxDiff=round(2 * settings.left_right_px),
        preFilterCap=63,
        uniquenessRatio=settings.uniqueness,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    fixed_point = matcher.compute(stretched[0], stretched[1])[:, search:]
    fixed_point = fixed_point.reshape(left.shape[0], width, 2)
    # Pixel x of the imager lies between columns 2x and 2x+1: their mean is the disparity at its centre.
    both = (fixed_point > 0).all(axis=2) & (np.abs(fixed_point[..., 0] - fixed_point[..., 1]) < 32)
    disparity = fixed_point.mean(axis=2, dtype=np.float32) / np.float32(32)
    columns = np.arange(width, dtype=np.float32)[None, :]
    both &= columns - disparity >= 0  # the right imager doesn't see what lies left of its image
    return np.where(both, disparity, np.float32(np.nan)).astype(np.float32)


def _refine_and_check(
    left: NDArray[np.uint8], right: NDArray[np.uint8], disparity: Float, settings: StereoSettings, noise_sigma: float
) -> tuple[Float, NDArray[np.bool_]]:
    """Refine disparities to sub-pixels; find windows whose texture correlates, exceeds the noise and isn't saturated.

    One Gauss-Newton step per pixel on the windowed squared difference of the images, which undoes most of the pull of
    semi-global matching towards whole steps.
    """
    height, width = left.shape
    sigma = settings.confidence_window_px / 4  # a round window: the edges of holes are round, not blocky
    grid_y, grid_x = np.mgrid[0:height, 0:width].astype(np.float32)
    a = cv2.GaussianBlur(left, (0, 0), 0.6).astype(np.float32)
    source = cv2.GaussianBlur(right, (0, 0), 0.6).astype(np.float32)
    b = cv2.remap(source, grid_x - np.nan_to_num(disparity), grid_y, cv2.INTER_CUBIC)

    def mean(values: NDArray[Any]) -> Float:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), dtype=np.float32)

    mean_a, mean_b = mean(a), mean(b)
    var_a = np.maximum(mean(a * a) - mean_a * mean_a, 0)
    var_b = np.maximum(mean(b * b) - mean_b * mean_b, 0)
    covariance = mean(a * b) - mean_a * mean_b
    floor = np.float32((settings.noise_floor * noise_sigma) ** 2)
    correlation = covariance / (np.sqrt(var_a * var_b) + floor)
    saturated = mean((left >= 254).astype(np.float32))
    confident = (correlation >= settings.confidence) & (saturated <= settings.saturation_share)
    if settings.refinement > 0:
        slope = cv2.Sobel((a + b) / 2, cv2.CV_32F, 1, 0, ksize=1) / 2
        step = mean(slope * (b - mean_b - a + mean_a)) / (mean(slope * slope) + np.float32((0.3 * noise_sigma) ** 2))
        step = np.float32(settings.refinement) * np.clip(step, -0.4, 0.4)
        disparity = np.asarray(disparity + step, dtype=np.float32)
    return disparity, np.asarray(confident)


def _near_jump(disparity: Float, settings: StereoSettings) -> NDArray[np.bool_]:
    """Pixels within `edge_margin_px` of a disparity jump of more than 1.5 px."""
    radius = int(settings.edge_margin_px)
    if radius < 2:
        return np.zeros(disparity.shape, bool)
    valid = np.isfinite(disparity)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    highest = cv2.dilate(np.where(valid, disparity, np.float32(-1e4)).astype(np.float32), kernel)
    lowest = cv2.erode(np.where(valid, disparity, np.float32(1e4)).astype(np.float32), kernel)
    return np.asarray(valid & (highest - lowest > 1.5 + 0.1 * radius))


def _remove_islands(disparity: Float, settings: StereoSettings) -> Float:
    if settings.speckle_px == 0:
        return disparity
    fixed_point = np.where(np.isfinite(disparity), np.rint(disparity * 16), -16).astype(np.int16)
    cv2.filterSpeckles(fixed_point, -16, settings.speckle_px, 16)
    return np.where(fixed_point >= 0, disparity, np.float32(np.nan)).astype(np.float32)


def _smooth(disparity: Float, settings: StereoSettings) -> Float:
    """Average over a window wide along the rows, holes left out, where the disparity is continuous.

    The camera's residual is band-limited: blobs of 10-20 px, elongated along the rows. Beside a jump only a median is
    taken.
    """
    if settings.smooth_x_px <= 0 or settings.smooth_y_px <= 0:
        return disparity
    valid = np.isfinite(disparity)
    filled = np.where(valid, disparity, 0).astype(np.float32)
    mask = valid.astype(np.float32)

    def blurred(values: NDArray[Any]) -> Float:
        return np.asarray(
            cv2.GaussianBlur(values, (0, 0), sigmaX=settings.smooth_x_px, sigmaY=settings.smooth_y_px), dtype=np.float32
        )

    weight = np.maximum(blurred(mask), 1e-6)
    average = blurred(filled) / weight
    # Smoothing the remainder once more and adding it cancels the pull that slanted surfaces suffer beside holes.
    average += blurred((filled - average) * mask) / weight
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    highest = cv2.dilate(np.where(valid, disparity, np.float32(-1e4)).astype(np.float32), cross)
    lowest = cv2.erode(np.where(valid, disparity, np.float32(1e4)).astype(np.float32), cross)
    reach = np.ones((2 * round(1.5 * settings.smooth_y_px) + 1, 2 * round(1.5 * settings.smooth_x_px) + 1), np.uint8)
    jump = cv2.dilate((valid & (highest - lowest > 2.0)).astype(np.uint8), reach).astype(bool)
    beside_jump = cv2.medianBlur(np.where(valid, disparity, average).astype(np.float32), 5)  # keeps the jump
    return np.where(valid, np.where(jump, beside_jump, average), np.float32(np.nan)).astype(np.float32)
