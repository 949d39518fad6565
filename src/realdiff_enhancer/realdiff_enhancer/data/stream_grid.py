"""The depth stream that recorded depth comes from, told by the steps of its values.

Aligning depth to colour, or resizing it, moves pixels but keeps their values, and those are f·B / (k/32 px), k whole:
their inverses stand in a comb whose spacing tells f·B of the stream that the camera matched on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from realdiff_enhancer.data.pairs import NOISY_UNIT_M

#: Nearer than this the steps of large D400 streams are finer than the millimetre that depth is recorded in [mm].
_NEAR_MM, _FAR_MM = 1000, 4000
#: Depths are weighed by how often they occur among their neighbours, of so many mm, not among all: where the scene
#: stands says nothing.
_WINDOW_MM = 101
_LEAST_COUNT = 5
#: Steps of disparity between the nearest and the farthest depth, at least: n of them tell the spacing to 1 / n.
_LEAST_LEVELS = 50
#: From a D405 at 480×270 to a D455 at 1280×720, with room.
_FACTORS_PX_M = (4.0, 100.0)
#: 0.70 to 0.95 on five recordings, right on all whose stream is known; 0.54 on one where it came out wrong.
_LEAST_COHERENCE = 0.6
#: A comb of half the spacing (twice f·B) fits as well as the right one; the wider one is taken from this share on.
_OVERTONE = 0.9


def stream_factor(images_mm: Iterable[NDArray[np.uint16]], disparity_step_px: float) -> float | None:
    """f·B of the camera's own depth stream [px·m], by the periodogram of inverse depth.

    Args:
        images_mm: recorded depth uint16 [H,W], mm, 0 for holes.
        disparity_step_px: the camera's quantisation of disparity [px].

    Returns:
        f·B; None where the steps don't tell: nothing is farther than a metre, filters have blurred the steps, or the
        camera doesn't round disparity.
    """
    counts = np.zeros(_FAR_MM, np.float64)
    for image in images_mm:
        counts += np.bincount(image.ravel(), minlength=_FAR_MM)[:_FAR_MM]
    counts = counts[_NEAR_MM:]
    around = uniform_filter1d(counts, _WINDOW_MM, mode="nearest")
    seen = around >= _LEAST_COUNT
    if disparity_step_px <= 0 or not seen.any():
        return None
    depth_m = np.arange(_NEAR_MM, _FAR_MM)[seen] * NOISY_UNIT_M
    weight = counts[seen] / around[seen]

    def coherence(factor: float) -> float:
        levels = factor / disparity_step_px / depth_m
        left = np.sinc(levels * NOISY_UNIT_M / depth_m)  # by the rounding to mm, of a comb of this spacing
        total = np.abs(weight * left).sum()
        return float(np.abs((weight * left * np.exp(2j * np.pi * levels)).sum()) / max(total, 1e-9))

    span = 1 / depth_m[0] - 1 / depth_m[-1]
    least_factor = _LEAST_LEVELS * disparity_step_px / max(span, 1e-9)
    if least_factor > _FACTORS_PX_M[1]:
        return None
    factors = np.arange(*_FACTORS_PX_M, 0.25 * disparity_step_px / span)
    found = np.array([coherence(factor) for factor in factors])
    best = int(found.argmax())
    factor = float(factors[best])
    for divisor in (4, 3, 2):
        near = np.abs(factors * divisor / factors[best] - 1) < 0.02
        if near.any() and found[near].max() >= _OVERTONE * found[best]:
            factor = float(factors[near][found[near].argmax()])
            break
    return factor if found[best] >= _LEAST_COHERENCE and factor >= least_factor else None
