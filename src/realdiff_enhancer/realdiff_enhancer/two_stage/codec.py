"""Codec between metric depth and the residual code that the diffusion models.

Stereo noise is close to uniform in disparity d = f·B/z and grows as z² in depth, so residuals are taken in disparity
pixels. Their distribution has heavy tails (flying pixels of many pixels beside jitter of a tenth): asinh compresses the
tails, is linear around zero, smooth, and exactly invertible. The range is fixed by the camera, never by the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import CodecConfig


def depth_to_disparity(depth_m: Tensor, disparity_factor: Tensor) -> Tensor:
    """Returns f·B/z in pixels; [N,H,W] and [N] in, [N,H,W] out. Invalid depth (NaN or 0) gives a non-finite value."""
    return disparity_factor.view(-1, 1, 1) / depth_m


def encode_residual(residual_px: Tensor, config: CodecConfig) -> Tensor:
    """Compresses disparity residuals [px] to code units: asinh(n / scale)."""
    return torch.asinh(residual_px.clamp(-config.limit_px, config.limit_px) / config.scale_px)


def decode_residual(code: Tensor, config: CodecConfig) -> Tensor:
    """Inverse of `encode_residual`, code units to disparity pixels."""
    return (torch.sinh(code) * config.scale_px).clamp(-config.limit_px, config.limit_px)


def masked_pool(values: Tensor, mask: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Average of the valid values in each factor×factor block.

    Args:
        values: float [N,C,H,W]; H and W multiples of `factor`.
        mask: float [N,C,H,W] or [N,1,H,W], 1 where valid.
        factor: block side [px].

    Returns:
        The averages [N,C,H/factor,W/factor] (0 where no pixel is valid) and the share of valid pixels, same size.
    """
    weight = F.avg_pool2d(mask, factor)
    mean = F.avg_pool2d(values * mask, factor) / weight.clamp_min(1e-6)
    return torch.where(weight > 0, mean, torch.zeros_like(mean)), weight


def fill_invalid(values: Tensor, weight: Tensor, levels: int = 6) -> Tensor:
    """Fills entries of zero weight smoothly from their valid neighbours (push-pull pyramid).

    The network must see something at holes; a constant would put edges where there are none.

    Args:
        values: float [N,C,h,w].
        weight: float, same size, 0 where nothing is known.
        levels: pyramid levels.
    """
    if levels == 0 or min(values.shape[-2:]) < 2:
        total = weight.sum((-2, -1), keepdim=True).clamp_min(1e-6)
        return torch.where(weight > 0, values, (values * weight).sum((-2, -1), keepdim=True) / total)
    height, width = values.shape[-2:]
    pad = (0, width % 2, 0, height % 2)
    small_weight = F.avg_pool2d(F.pad(weight, pad), 2)
    small = F.avg_pool2d(F.pad(values * weight, pad), 2) / small_weight.clamp_min(1e-6)
    coarse = fill_invalid(small, (small_weight > 0).to(weight), levels - 1)
    up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(weight > 0, values, up)


def upsample(field: Tensor, factor: int) -> Tensor:
    """Bilinear upsampling by an integer factor; the inverse of pooling for band-limited fields. [N,C,h,w]."""
    if factor == 1:
        return field
    return F.interpolate(field, scale_factor=factor, mode="bilinear", align_corners=False)


def round_trip_error_mm(
    clean_m: Tensor,
    noisy_m: Tensor,
    disparity_factor: Tensor,
    config: CodecConfig,
    fine_factor: int,
    bins: tuple[float, ...],
) -> list[dict[str, float]]:
    """Error of coding a real residual on the fine stage's grid and decoding it, by depth bin.

    The code itself is exact; what is lost is detail finer than the residual grid. The error is compared with the
    residual that the code has to carry; a trainer refuses data where the first isn't small beside the second.

    Args:
        clean_m: float [N,H,W] m, NaN unknown.
        noisy_m: float [N,H,W] m, NaN hole.
        disparity_factor: f·B [px·m], [N].
        config: codec settings.
        fine_factor: pixels per cell of the finest residual grid.
        bins: edges of the depth bins [m].

    Returns:
        One dict per non-empty bin: depth_from_m, depth_to_m, error_mm and residual_mm (median absolute), pixels.
    """
    valid = torch.isfinite(clean_m) & torch.isfinite(noisy_m) & (clean_m >= config.near_m) & (clean_m <= config.far_m)
    clean = torch.where(valid, clean_m, torch.ones_like(clean_m))
    noisy = torch.where(valid, noisy_m, torch.ones_like(noisy_m))
    residual_px = depth_to_disparity(noisy, disparity_factor) - depth_to_disparity(clean, disparity_factor)
    mask = valid.to(clean.dtype).unsqueeze(1)
    pooled, weight = masked_pool(encode_residual(residual_px, config).unsqueeze(1), mask, fine_factor)
    code = upsample(fill_invalid(pooled, weight), fine_factor).squeeze(1)
    disparity = depth_to_disparity(clean, disparity_factor) + decode_residual(code, config)
    decoded = disparity_factor.view(-1, 1, 1) / disparity.clamp_min(1e-3)
    rows = []
    for low, high in zip(bins[:-1], bins[1:], strict=True):
        cell = valid & (clean >= low) & (clean < high)
        if cell.any():
            rows.append(
                {
                    "depth_from_m": low,
                    "depth_to_m": high,
                    "error_mm": float((decoded - noisy)[cell].abs().median() * 1e3),
                    "residual_mm": float((noisy - clean)[cell].abs().median() * 1e3),
                    "pixels": int(cell.sum()),
                }
            )
    return rows
