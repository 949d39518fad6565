"""Sampling of both stages on a device, from given initial noise; the same code serves training and use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .conditioning import SceneFeatures, condition
from .config import GuidanceConfig, TwoStageConfig
from .networks import coarse_channels, fine_channels
from .solver import Denoiser, Plan, ddim_plan, multistep_plan, solve


@dataclass(frozen=True)
class CoarseSample:
    """Result of the coarse stage.

    Attributes:
        code: structural noise n̂_L on the coarse grid [N,1,h,w], code units.
        discrepancy: region map D in [0,1] on the block grid [N,1,H/B,W/B].
    """

    code: Tensor
    discrepancy: Tensor


def region_map(predicted: Tensor, stride: int, config: GuidanceConfig) -> Tensor:
    """Block means of the per-cell discrepancy, normalised to [0,1] by the saved scale (paper 3.2).

    Args:
        predicted: p̂ [N,1,h,w] in code units on a grid of `stride` pixels.
        stride: pixels per cell.
        config: block side and scale.
    """
    blocks = F.avg_pool2d(predicted, max(1, config.block_px // stride), ceil_mode=True)
    return (blocks / config.discrepancy_scale).clamp(0, 1)


def plan_for(config: TwoStageConfig, steps: int) -> tuple[Plan, int]:
    """The sampler for a number of steps a stage and what to add to the source labels.

    A number of steps that distilled networks exist for runs as DDIM, which they were distilled for, under the label of
    that number; any other as DPM-Solver++(2M).
    """
    if steps in config.few_steps:
        return ddim_plan(config.schedule, steps), len(config.sources) * (1 + config.few_steps.index(steps))
    return multistep_plan(config.schedule, steps), 0


def coarse_condition(features: SceneFeatures, config: TwoStageConfig) -> Tensor:
    """Condition of stage I on its grid."""
    return condition(features, config.coarse.stride, detailed=False)


def sample_coarse(
    network: Denoiser,
    plan: Plan,
    features: SceneFeatures,
    labels: Tensor,
    noise: Tensor,
    config: TwoStageConfig,
    first: int = 0,
) -> CoarseSample:
    """Stage I: structural noise and discrepancy.

    Args:
        network: coarse denoiser.
        plan: sampler.
        features: of padded scenes.
        labels: int64 [N].
        noise: [N,1,h,w], or a sample noised to step `first`.
        config: model settings.
        first: index of the first step to run.
    """
    code, auxiliary = solve(network, plan, noise, coarse_condition(features, config), labels, first)
    discrepancy = region_map(F.softplus(auxiliary[:, :1]), config.coarse.stride, config.guidance)
    return CoarseSample(code, discrepancy)


def no_coarse(features: SceneFeatures, config: TwoStageConfig) -> CoarseSample:
    """What stands for the coarse stage in a single-stage model: no structure, every region alike."""
    full = features.full
    cells, blocks = (
        full.new_zeros((len(full), 1, *(side // px for side in full.shape[-2:])))
        for px in (config.coarse.stride, config.guidance.block_px)
    )
    return CoarseSample(cells, blocks)


def fine_condition(features: SceneFeatures, coarse: CoarseSample, config: TwoStageConfig) -> Tensor:
    """Condition of stage II: detailed clean features, coarse residual and D, all on the fine grid."""
    clean = condition(features, config.fine.stride, detailed=True)
    size = clean.shape[-2:]
    code = F.interpolate(coarse.code, size=size, mode="bilinear", align_corners=False)
    region = F.interpolate(coarse.discrepancy, size=size, mode="nearest")
    if not config.guidance.discrepancy:
        region = torch.zeros_like(region)
    return torch.cat([clean, code, region], dim=1)


def sample_fine(
    network: Denoiser,
    plan: Plan,
    features: SceneFeatures,
    labels: Tensor,
    noise: Tensor,
    coarse: CoarseSample,
    config: TwoStageConfig,
) -> Tensor:
    """Stage II: residual cells and hole field [N, sum(fine_channels), h, w]."""
    return solve(network, plan, noise, fine_condition(features, coarse, config), labels)[0]


def noise_shapes(height: int, width: int, config: TwoStageConfig) -> tuple[tuple[int, int, int], ...]:
    """Shapes [C,h,w] of the initial noise of the stages for a padded image."""
    fine = (sum(fine_channels(config)), height // config.fine.stride, width // config.fine.stride)
    if config.stages == "one":
        return (fine,)
    return ((coarse_channels(), height // config.coarse.stride, width // config.coarse.stride), fine)
