"""Recorded depth without its rounding: what the camera measured before it was rounded, as far as its surroundings tell.

A camera rounds disparity to a fraction of a pixel and depth to whole millimetres; at half a metre the millimetre alone
is a tenth of a pixel, as much as the noise. A model that learns rounded residuals learns white noise of that size, and
its samples are rounded once more: they come out with it twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Neighbours farther than so many rounding intervals belong to something else.
_NEIGHBOUR_INTERVALS = 4.0
_ITERATIONS = 64
_SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def dequantised(depth_m: Tensor, disparity_factor: float, disparity_step_px: float, unit_m: float) -> Tensor:
    """The smoothest depth within half a rounding step of the recorded one.

    Inverse depth goes to the mean of its neighbours again and again (planes have no curvature there), and never leaves
    half a step of the coarser rounding around the recorded value. What is larger than that stays.

    Args:
        depth_m: recorded depth [N,H,W] m, NaN for holes.
        disparity_factor: f·B of the camera's own depth stream [px·m].
        disparity_step_px: quantisation of its disparity [px]; 0 for none.
        unit_m: rounding of the recorded depth [m].

    Returns:
        Depth [N,H,W] m, NaN where it was.
    """
    valid = torch.isfinite(depth_m) & (depth_m > 0)
    inverse = torch.where(valid, 1.0 / depth_m, torch.zeros_like(depth_m))
    # of two roundings one after the other the coarser decides
    half = torch.clamp_min(0.5 * unit_m * inverse**2, 0.5 * disparity_step_px / disparity_factor)
    low, high, reach = inverse - half, inverse + half, 2 * _NEIGHBOUR_INTERVALS * half
    weights = [
        (((_shifted(inverse, *shift) - inverse).abs() <= reach) & _shifted(valid, *shift)).to(inverse.dtype)
        for shift in _SHIFTS
    ]
    total = 1.0 + sum(weights)
    smooth = inverse
    for _ in range(_ITERATIONS):
        around = sum(weight * _shifted(smooth, *shift) for weight, shift in zip(weights, _SHIFTS, strict=True))
        smooth = torch.minimum(torch.maximum((smooth + around) / total, low), high)
    return torch.where(valid, 1.0 / smooth, depth_m)


def _shifted(images: Tensor, rows: int, columns: int) -> Tensor:
    """Images [N,H,W] whose pixel (i, j) is the neighbour (i + rows, j + columns); 0 outside."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1))
    return padded[..., 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]
