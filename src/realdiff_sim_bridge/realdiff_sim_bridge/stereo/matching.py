"""Disparity from two infrared images: semi-global matching, the checks that make holes, post filter, quantisation.

Written once for both back ends (`arrays`). Census and semi-global matching are integer arithmetic and bit-exact; the
steps after them are float32 and agree to rounding.
"""

from __future__ import annotations

import math

from realdiff_sim_bridge.stereo.arrays import Array, Arrays
from realdiff_sim_bridge.stereo.settings import StereoSettings

_ASPECT = 0.8  # height of the refinement's window over its width: the camera's residual is elongated along the rows
_JUMP_PX = 1.5  # steps between neighbours that count as a depth edge


def match(arrays: Arrays, left: Array, right: Array, settings: StereoSettings, focal_px: float, noise: Array) -> Array:
    """Match rectified images.

    Args:
        arrays: the back end.
        left: float32 [B,H,W], whole numbers 0…255.
        right: the same of the right imager.
        settings: matching settings.
        focal_px: fx of both imagers (pixels); with baseline and near limit it sets the search range.
        noise: image noise (1 sigma, grey levels) [B,1,1], the scale of `settings.noise_floor`.

    Returns:
        Disparity float32 [B,H,W] in pixels of the left image, a multiple of `settings.step_px`; NaN = hole.
    """
    xp = arrays.xp
    largest = focal_px * settings.baseline_m / settings.near_m
    smallest = focal_px * settings.baseline_m / settings.far_m
    coarse, valid = arrays.semi_global(
        arrays.byte(left),
        arrays.byte(right),
        math.ceil(largest / 8) * 8 + 8,  # a little further: the limit itself is not the edge of the search
        settings.census_threshold,
        (settings.small_penalty, settings.large_penalty),
        settings.uniqueness,
        settings.left_right_px,
    )
    # Smoothed before it is refined: the refinement corrects whatever is smooth, and would keep the census's own grain.
    disparity = _smooth(arrays, coarse, valid, settings)
    disparity, confident = _refine(arrays, left, right, disparity, valid, settings, noise)
    valid = valid & confident
    if settings.island_px > 0:
        valid = valid & ~arrays.islands(disparity, valid, settings.island_px)
    # After the islands are gone: a stray match must not cut a piece out of a good surface.
    valid = valid & ~_near_jump(arrays, disparity, valid, settings)
    disparity = xp.round(disparity / settings.step_px) * settings.step_px
    columns = arrays.counting(left.shape[2])
    # What lies left of the right image's border can't have been matched.
    valid = valid & (disparity >= smallest) & (disparity <= largest) & (columns >= disparity)
    return xp.where(valid, disparity, math.nan)


def _refine(
    arrays: Arrays, left: Array, right: Array, disparity: Array, valid: Array, settings: StereoSettings, noise: Array
) -> tuple[Array, Array]:
    """Refine disparities to sub-pixels; find windows whose texture correlates, exceeds the noise and isn't saturated.

    One Gauss–Newton step on the windowed squared difference of the images (Lucas and Kanade, IJCAI 1981), which undoes
    most of the pull of semi-global matching towards whole pixels.

    Returns:
        Refined disparity float32 [B,H,W], and whether the window can be trusted, bool [B,H,W].
    """
    xp = arrays.xp
    sigma = settings.confidence_window_px / 4  # a round window: the edges of holes are round, not blocky
    count = len(left)

    def means(*images: Array) -> list[Array]:
        blurred = arrays.blur(xp.concatenate(images, 0), sigma, _ASPECT * sigma)
        return [blurred[i * count : (i + 1) * count] for i in range(len(images))]

    both = arrays.blur(xp.concatenate([left, right], 0), 0.6, 0.6)
    a, source = both[:count], both[count:]
    b = arrays.sample_rows(source, disparity)
    saturated = arrays.real(left >= 254)
    mean_a, mean_b, mean_aa, mean_bb, mean_ab, share = means(a, b, a * a, b * b, a * b, saturated)
    var_a = xp.clip(mean_aa - mean_a * mean_a, 0, None)
    var_b = xp.clip(mean_bb - mean_b * mean_b, 0, None)
    floor = xp.square(settings.noise_floor * noise) + settings.texture_floor**2
    correlation = (mean_ab - mean_a * mean_b) / (xp.sqrt(var_a * var_b) + floor)
    confident = (correlation >= settings.confidence) & (share <= settings.saturation_share)

    weight = arrays.real(valid)
    middle = (a + b) / 2
    slope = weight * _central_difference(arrays, middle)
    across, energy = means(slope * (b - mean_b - a + mean_a), slope * slope)
    step = across / (energy + xp.square(0.3 * noise))
    return disparity + settings.refinement * xp.clip(step, -0.6, 0.6), confident


def _central_difference(arrays: Arrays, images: Array) -> Array:
    inner = (images[:, :, 2:] - images[:, :, :-2]) / 2
    return arrays.xp.concatenate([inner[:, :, :1], inner, inner[:, :, -1:]], 2)


def _spread(arrays: Arrays, disparity: Array, valid: Array, radius_x: int, radius_y: int) -> Array:
    """Highest minus lowest valid disparity in a window; negative where nothing is valid."""
    xp = arrays.xp
    both = [xp.where(valid, disparity, -1e4), xp.where(valid, -disparity, -1e4)]
    highest = arrays.highest(xp.concatenate(both, 0), radius_x, radius_y)
    return highest[: len(disparity)] + highest[len(disparity) :]


def _near_jump(arrays: Arrays, disparity: Array, valid: Array, settings: StereoSettings) -> Array:
    """Pixels within `edge_margin_px` of a disparity jump (an octagon around it)."""
    radius = int(settings.edge_margin_px)
    if radius < 2:
        return valid & ~valid
    limit = _JUMP_PX + 0.1 * radius
    narrow = max(1, round(0.5 * radius))
    wide = _spread(arrays, disparity, valid, radius, narrow) > limit
    return valid & (wide | (_spread(arrays, disparity, valid, narrow, radius) > limit))


def _smooth(arrays: Arrays, disparity: Array, valid: Array, settings: StereoSettings) -> Array:
    """Average over a window wide along the rows, holes left out, where the disparity is continuous.

    The camera's residual is band-limited: blobs of 10-20 px, elongated along the rows. Beside a jump only the 3 × 3
    neighbours on the same side of it are averaged.
    """
    xp = arrays.xp
    sigma_x, sigma_y = settings.smooth_x_px, settings.smooth_y_px
    if sigma_x <= 0 or sigma_y <= 0:
        return disparity
    count = len(disparity)
    mask = arrays.real(valid)
    filled = xp.where(valid, disparity, 0.0)
    sums = arrays.blur(xp.concatenate([filled, mask], 0), sigma_x, sigma_y)
    weight = xp.clip(sums[count:], 1e-6, None)
    average = sums[:count] / weight
    # Smoothing the remainder once more and adding it cancels the pull that slanted surfaces suffer beside holes.
    average = average + arrays.blur((filled - average) * mask, sigma_x, sigma_y) / weight
    jump = arrays.real(_spread(arrays, disparity, valid, 1, 1) > 2.0)
    beside = arrays.highest(jump, round(1.5 * sigma_x), round(1.5 * sigma_y)) > 0
    return xp.where(beside, arrays.same_side(disparity, valid), average)
