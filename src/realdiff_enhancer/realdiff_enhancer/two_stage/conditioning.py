"""What the networks see of the clean depth: features on a coarse grid, in fixed metric units."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import depth_to_disparity
from .config import CodecConfig

#: Padding of the image sides, so that every U-Net level of both stages divides evenly [px].
SIDE_MULTIPLE = 32


def pad_to_multiple(image: Tensor, value: float) -> Tensor:
    """Pads [N,H,W] at the bottom and right to multiples of `SIDE_MULTIPLE`."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % SIDE_MULTIPLE, 0, -height % SIDE_MULTIPLE), value=value)


def known_mask(depth_m: Tensor, config: CodecConfig) -> Tensor:
    """Pixels that the model may change: finite and within [near, far]. [N,H,W] bool."""
    return torch.isfinite(depth_m) & (depth_m >= config.near_m) & (depth_m <= config.far_m)


def features(depth_m: Tensor, disparity_factor: Tensor, config: CodecConfig) -> Tensor:
    """Per-pixel features of the clean depth.

    Args:
        depth_m: float [N,H,W] m, NaN unknown.
        disparity_factor: f·B [px·m], [N].
        config: codec settings (metric range).

    Returns:
        float [N,3,H,W]: log depth scaled to [-1,1] over the metric range; compressed difference of the disparity to its
        neighbourhood's mean (local relief, where edges and occlusions show); validity.
    """
    known = known_mask(depth_m, config)
    depth = torch.where(known, depth_m, torch.full_like(depth_m, config.far_m))
    middle = 0.5 * math.log(config.near_m * config.far_m)
    half_range = 0.5 * math.log(config.far_m / config.near_m)
    log_depth = (torch.log(depth) - middle) / half_range
    disparity = depth_to_disparity(depth, disparity_factor).unsqueeze(1)
    window = 33  # about the footprint over which stereo matching mixes surfaces, twice over
    mean = F.avg_pool2d(F.pad(disparity, (window // 2,) * 4, mode="replicate"), window, stride=1)
    relief = torch.asinh(disparity - mean) / 3.0
    return torch.cat([log_depth.unsqueeze(1), relief, known.to(depth.dtype).unsqueeze(1)], dim=1)


def condition(depth_m: Tensor, disparity_factor: Tensor, config: CodecConfig, stride: int, *, detailed: bool) -> Tensor:
    """Features on a grid of `stride` pixels.

    Args:
        depth_m: float [N,H,W] m, NaN unknown; sides multiples of `stride`.
        disparity_factor: f·B [px·m], [N].
        config: codec settings.
        stride: pixels per grid cell.
        detailed: True keeps every pixel as a channel (pixel unshuffle), False mean, minimum and maximum of a cell.

    Returns:
        float [N, condition_channels(stride, detailed), H/stride, W/stride].
    """
    full = features(depth_m, disparity_factor, config)
    if detailed:
        return F.pixel_unshuffle(full, stride)
    low = -F.max_pool2d(-full[:, :2], stride)
    return torch.cat([F.avg_pool2d(full, stride), low, F.max_pool2d(full[:, :2], stride)], dim=1)


def condition_channels(stride: int, *, detailed: bool) -> int:
    """Number of channels that `condition` returns."""
    return 3 * stride * stride if detailed else 3 + 2 + 2
