"""Training targets of both stages, computed on the device from clean/noisy pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import depth_to_disparity, encode_residual, fill_invalid, masked_pool, upsample
from .conditioning import known_mask, style_values
from .config import CodecConfig, HoleConfig, TwoStageConfig
from .fgs import structural_noise
from .geometry import NEAR_4_PX, edge_proximity, half_disparity


@dataclass(frozen=True)
class PairTargets:
    """What a pair says about the noise, at full resolution.

    Attributes:
        code: residual code [N,1,H,W]; 0 where unknown.
        both: float [N,1,H,W], 1 where clean and noisy depth are valid.
        hole: float [N,1,H,W], 1 where the clean depth is known and the sensor has none.
        known: float [N,1,H,W], 1 where the clean depth is known and in range.
        field: hole field as the fine stage diffuses it, before scaling, [N,1,H/f,W/f] (`hole_field`).
        low: n_L on the coarse grid [N,1,h,w]; None until `with_structure` has added it.
        low_weight: its weight, same size.
    """

    code: Tensor
    both: Tensor
    hole: Tensor
    known: Tensor
    field: Tensor
    low: Tensor | None = None
    low_weight: Tensor | None = None


def hole_field(hole: Tensor, config: HoleConfig) -> Tensor:
    """Holes as the fine stage diffuses them.

    Args:
        hole: float [N,1,H,W], 1 in holes.
        config: "bits" gives ±1 a pixel; "distance" the signed distance to the outline in units of `reach_px`, positive
            inside, saturated at ±1 (octagonal metric), averaged over cells of `factor` pixels.

    Returns:
        float [N,1,H/factor,W/factor] in [-1,1].
    """
    if config.target == "bits":
        return hole * 2.0 - 1.0
    inside, outside = hole, 1.0 - hole
    depth_in, depth_out = inside, outside
    for ring in range(1, config.reach_px):
        # squares and crosses in turn make an octagon
        inside, outside = (_erode(mask, cross=ring % 2 == 0) for mask in (inside, outside))
        depth_in, depth_out = depth_in + inside, depth_out + outside
    field = (torch.where(hole > 0, depth_in - 0.5, 0.5 - depth_out) / (config.reach_px - 0.5)).clamp(-1, 1)
    return F.avg_pool2d(field, config.factor) if config.factor > 1 else field


def _erode(mask: Tensor, *, cross: bool) -> Tensor:
    rows = -F.max_pool2d(-mask, (3, 1), stride=1, padding=(1, 0))
    if cross:
        return torch.minimum(rows, -F.max_pool2d(-mask, (1, 3), stride=1, padding=(0, 1)))
    return -F.max_pool2d(-rows, (1, 3), stride=1, padding=(0, 1))


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
    hole = (known & ~valid).to(dtype).unsqueeze(1)
    return PairTargets(
        torch.where(both, code, torch.zeros_like(code)).unsqueeze(1),
        both.to(dtype).unsqueeze(1),
        hole,
        known.to(dtype).unsqueeze(1),
        hole_field(hole, config.holes),
    )


def with_structure(targets: PairTargets, config: TwoStageConfig) -> PairTargets:
    """Adds n_L, filtered on whole frames so that a crop's border changes nothing."""
    low, weight = coarse_target(targets, config)
    return replace(targets, low=low, low_weight=weight)


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
    """What the coarse sample leaves: residual cells and the hole field.

    Args:
        coarse_code: sampled n̂_L on the coarse grid [N,1,h,w].
        targets: the pair's targets.
        config: model settings.

    Returns:
        Target and weight, both [N, sum(fine_channels), H/stride, W/stride].
    """
    rest = targets.code - upsample(coarse_code, config.coarse.stride)
    cells, weight = masked_pool(rest, targets.both, config.residual_px)
    cells = fill_invalid(cells, weight)
    factor = config.fine.stride // config.residual_px
    hole_factor = config.fine.stride // config.holes.factor
    known = F.avg_pool2d(targets.known, config.holes.factor) if config.holes.factor > 1 else targets.known
    field = torch.where(known > 0, targets.field, torch.full_like(targets.field, -1.0)) * config.hole_scale
    target = torch.cat([F.pixel_unshuffle(cells, factor), F.pixel_unshuffle(field, hole_factor)], dim=1)
    weights = torch.cat([F.pixel_unshuffle(weight, factor), F.pixel_unshuffle(known, hole_factor)], dim=1)
    return target, weights


def frame_styles(targets: PairTargets, clean_m: Tensor, factor: Tensor, codec: CodecConfig) -> Tensor:
    """Styles of whole frames, measured: [N,3] as `style_values` codes them.

    Args:
        targets: of the frames.
        clean_m: clean depth [N,H,W] m.
        factor: f·B [px·m], [N].
        codec: settings.
    """
    known = known_mask(clean_m, codec)
    depth = torch.where(known, clean_m, torch.full_like(clean_m, codec.far_m))
    proximity = edge_proximity(half_disparity(depth_to_disparity(depth, factor).unsqueeze(1)))
    proximity = F.interpolate(proximity, scale_factor=2, mode="nearest")
    near, far = proximity >= NEAR_4_PX, proximity <= 1

    def rate(region: Tensor) -> Tensor:
        inside = targets.known * region
        return (targets.hole * region).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp_min(1.0)

    sigmas = []
    for code, mask in zip(targets.code, (targets.both > 0) & far, strict=True):
        values = code[mask]
        values = values[:: max(1, len(values) // 50_000)]
        centred = (values - values.median()).abs() if len(values) else values.new_full((1,), 0.6)
        # around zero the code is residual / scale
        sigmas.append(1.4826 * centred.median() * codec.scale_px)
    return style_values(rate(near), rate(far), torch.stack(sigmas), codec)
