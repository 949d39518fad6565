"""Training targets of both stages, computed on the device from clean/noisy pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import depth_to_disparity, encode_residual, fill_invalid, masked_pool, upsample
from .conditioning import known_mask
from .config import TwoStageConfig
from .fgs import structural_noise
from .networks import FINE_RESIDUAL_FACTOR


@dataclass(frozen=True)
class PairTargets:
    """What a pair says about the noise, at full resolution.

    Attributes:
        code: residual code [N,1,H,W]; 0 where unknown.
        both: float [N,1,H,W], 1 where clean and noisy depth are valid.
        hole: float [N,1,H,W], 1 where the clean depth is known and the sensor has none.
        known: float [N,1,H,W], 1 where the clean depth is known and in range.
    """

    code: Tensor
    both: Tensor
    hole: Tensor
    known: Tensor


def pair_targets(clean_m: Tensor, noisy_m: Tensor, disparity_factor: Tensor, config: TwoStageConfig) -> PairTargets:
    """Residual code and hole mask of clean/noisy pairs [N,H,W] (m, NaN unknown / hole)."""
    known = known_mask(clean_m, config.codec)
    valid = torch.isfinite(noisy_m) & (noisy_m > 0)
    both = known & valid
    one = torch.ones_like(clean_m)
    clean = depth_to_disparity(torch.where(both, clean_m, one), disparity_factor)
    noisy = depth_to_disparity(torch.where(both, noisy_m, one), disparity_factor)
    code = encode_residual(noisy - clean, config.codec)
    dtype = clean_m.dtype
    return PairTargets(
        torch.where(both, code, torch.zeros_like(code)).unsqueeze(1),
        both.to(dtype).unsqueeze(1),
        (known & ~valid).to(dtype).unsqueeze(1),
        known.to(dtype).unsqueeze(1),
    )


def coarse_target(targets: PairTargets, config: TwoStageConfig) -> tuple[Tensor, Tensor]:
    """n_L on the coarse grid and its weight, both [N,1,h,w]; unsupported cells are filled smoothly and weigh little."""
    low, support = structural_noise(targets.code, targets.both, config.guidance)
    pooled, weight = masked_pool(low, (support > 0.05).to(low.dtype), config.coarse.stride)
    return fill_invalid(pooled, weight), weight


def discrepancy_target(code: Tensor, targets: PairTargets, config: TwoStageConfig) -> tuple[Tensor, Tensor]:
    """|coarse − real| on the coarse grid, holes at the limit; and the share of known pixels. [N,1,h,w] each."""
    limit = config.guidance.discrepancy_limit
    error = (upsample(code, config.coarse.stride) - targets.code).abs().clamp_max(limit)
    error = error * targets.both + limit * targets.hole
    return masked_pool(error, targets.known, config.coarse.stride)


def fine_target(coarse_code: Tensor, targets: PairTargets, config: TwoStageConfig) -> tuple[Tensor, Tensor]:
    """What the coarse sample leaves: residual cells and analog hole bits.

    Args:
        coarse_code: sampled n̂_L on the coarse grid [N,1,h,w].
        targets: the pair's targets.
        config: model settings.

    Returns:
        Target and weight, both [N, sum(fine_channels), H/stride, W/stride].
    """
    rest = targets.code - upsample(coarse_code, config.coarse.stride)
    cells, weight = masked_pool(rest, targets.both, FINE_RESIDUAL_FACTOR)
    cells = fill_invalid(cells, weight)
    factor = config.fine.stride // FINE_RESIDUAL_FACTOR
    bits = (targets.hole * 2.0 - 1.0) * config.hole_scale
    bits = torch.where(targets.known > 0, bits, torch.full_like(bits, -config.hole_scale))
    target = torch.cat([F.pixel_unshuffle(cells, factor), F.pixel_unshuffle(bits, config.fine.stride)], dim=1)
    weights = torch.cat(
        [F.pixel_unshuffle(weight, factor), F.pixel_unshuffle(targets.known, config.fine.stride)], dim=1
    )
    return target, weights
