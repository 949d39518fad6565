"""Geometry of the clean depth that decides how stereo fails there; computed at half the resolution, on the device.

Everything is relative to the disparity or in pixels of the sensor's grid and independent of the position in the image,
so that it means the same in a crop and in a whole frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Channels that `geometry_features` returns.
GEOMETRY_CHANNELS = 7
#: Levels of `edge_proximity`: 0 is farther than 64 px from an edge, 6 within 2 px.
PROXIMITY_LEVELS = 7
#: The level from which a pixel counts as near an edge (8 px) in weights, and in styles (4 px).
NEAR_8_PX, NEAR_4_PX = 4, 5

_EDGE_JUMP_PX, _EDGE_JUMP_RELATIVE = 1.0, 0.04
_SHADOW_REACH = 32  # cells of two pixels


def _dilate(field: Tensor, radius: int) -> Tensor:
    """Maximum over a square of side 2·radius + 1; separable."""
    rows = F.max_pool2d(field, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(rows, (1, 2 * radius + 1), stride=1, padding=(0, radius))


def box_mean(field: Tensor, radius: int) -> Tensor:
    """Mean over a square of side 2·radius + 1, borders replicated; separable."""
    padded = F.pad(field, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (2 * radius + 1, 1), stride=1), (1, 2 * radius + 1), stride=1)


def half_disparity(disparity: Tensor) -> Tensor:
    """Disparity at half the resolution, the nearer surface where two meet. [N,1,H,W] -> [N,1,H/2,W/2]."""
    return F.max_pool2d(disparity, 2)


def edge_proximity(disparity: Tensor) -> Tensor:
    """How near a depth edge is, in octaves.

    An edge is a step of more than one pixel and 4 % of the disparity between neighbouring cells.

    Args:
        disparity: float [N,1,h,w] at half resolution [px of full resolution].

    Returns:
        float [N,1,h,w]: 6 within 2 px, 5 within 4, 4 within 8, 3 within 16, 2 within 32, 1 within 64, 0 farther.
    """
    near, far = _dilate(disparity, 1), -_dilate(-disparity, 1)
    edge = ((near - far) > torch.clamp(_EDGE_JUMP_RELATIVE * near, min=_EDGE_JUMP_PX)).to(disparity.dtype)
    level, reached = edge, edge
    for radius in (1, 2, 4, 8, 16):
        reached = _dilate(reached, radius)
        level = level + reached
    return level


def geometry_features(disparity: Tensor, native_fx_px: float) -> Tensor:
    """Seven features of a disparity image.

    Args:
        disparity: float [N,1,h,w] at half resolution [px of full resolution], positive everywhere.
        native_fx_px: focal length of the full resolution [px].

    Returns:
        float [N,7,h,w], about [-1,1]: slope along columns and rows (asinh of the tangent), cosine of the incidence,
        proximity to an edge, how much nearer and how much farther the neighbourhood is, margin by which the second
        imager's view is blocked (positive: in the occlusion shadow, which lies left of near objects).
    """
    smooth = box_mean(disparity, 1)
    # z = c/d, so f·dz/dx / z = -f·dd/dx / d; cells are two pixels wide and the difference spans two cells
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    scale = native_fx_px / 4.0
    slope_x = scale * (padded[..., 1:-1, :-2] - padded[..., 1:-1, 2:]) / smooth
    slope_y = scale * (padded[..., :-2, 1:-1] - padded[..., 2:, 1:-1]) / smooth
    cosine = torch.rsqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    nearer = _dilate(disparity, 8) - disparity
    farther = disparity + _dilate(-disparity, 8)
    columns = 2.0 * torch.arange(disparity.shape[-1], device=disparity.device, dtype=disparity.dtype)
    # A cell is hidden from the second imager if one k px to its right has more than k px more disparity.
    shifted = disparity - columns
    ahead = F.pad(shifted[..., 1:], (0, _SHADOW_REACH), value=-1e4)
    blocked = F.max_pool2d(ahead, (1, _SHADOW_REACH), stride=1) - shifted
    return torch.cat(
        [
            torch.asinh(slope_x) / 3.0,
            torch.asinh(slope_y) / 3.0,
            cosine,
            edge_proximity(disparity) / (PROXIMITY_LEVELS - 1),
            torch.asinh(nearer) / 3.0,
            torch.asinh(farther) / 3.0,
            torch.asinh(blocked.clamp(-8.0, 64.0)) / 3.0,
        ],
        dim=1,
    )
