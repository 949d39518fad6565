"""Sampling of both stages on a device, from given initial noise; the same code serves training and use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor, nn

from .conditioning import condition
from .config import GuidanceConfig, TwoStageConfig
from .networks import coarse_channels


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


def denoise(
    network: nn.Module,
    scheduler: DPMSolverMultistepScheduler,
    noise: Tensor,
    fixed: Tensor,
    labels: Tensor,
    steps: int,
    start: tuple[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Runs the deterministic sampler.

    Args:
        network: denoiser; its first output channels are v, the rest auxiliary.
        scheduler: sampler of `make_sampler`.
        noise: initial standard normal noise [N,C,h,w].
        fixed: condition channels [N,K,h,w].
        labels: source labels int64 [N].
        steps: number of network evaluations from pure noise.
        start: (index of the first step, sample to start from, already noised to that step) to run only the end.

    Returns:
        The sample [N,C,h,w] and the auxiliary channels of the last evaluation.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    sample, first = (noise, 0) if start is None else (start[1], start[0])
    channels = noise.shape[1]
    auxiliary = noise[:, :0]
    for timestep in scheduler.timesteps[first:]:
        output = network(torch.cat([sample, fixed], dim=1), timestep, class_labels=labels).sample.float()
        auxiliary = output[:, channels:]
        sample = scheduler.step(output[:, :channels], timestep, sample).prev_sample
    return sample, auxiliary


def sample_coarse(
    network: nn.Module,
    scheduler: DPMSolverMultistepScheduler,
    depth_m: Tensor,
    disparity_factor: Tensor,
    labels: Tensor,
    noise: Tensor,
    config: TwoStageConfig,
    steps: int,
    start: tuple[int, Tensor] | None = None,
) -> CoarseSample:
    """Stage I: structural noise and discrepancy for padded clean depth [N,H,W] (m, NaN unknown)."""
    fixed = condition(depth_m, disparity_factor, config.codec, config.coarse.stride, detailed=False)
    code, auxiliary = denoise(network, scheduler, noise, fixed, labels, steps, start)
    discrepancy = region_map(F.softplus(auxiliary[:, :1]), config.coarse.stride, config.guidance)
    return CoarseSample(code, discrepancy)


def fine_condition(depth_m: Tensor, disparity_factor: Tensor, coarse: CoarseSample, config: TwoStageConfig) -> Tensor:
    """Condition of stage II: detailed clean features, coarse residual and D, all on the fine grid."""
    clean = condition(depth_m, disparity_factor, config.codec, config.fine.stride, detailed=True)
    size = clean.shape[-2:]
    code = F.interpolate(coarse.code, size=size, mode="bilinear", align_corners=False)
    region = F.interpolate(coarse.discrepancy, size=size, mode="nearest")
    return torch.cat([clean, code, region], dim=1)


def sample_fine(
    network: nn.Module,
    scheduler: DPMSolverMultistepScheduler,
    depth_m: Tensor,
    disparity_factor: Tensor,
    labels: Tensor,
    noise: Tensor,
    coarse: CoarseSample,
    config: TwoStageConfig,
    steps: int,
) -> Tensor:
    """Stage II: residual cells and hole bits [N, sum(fine_channels), h, w]."""
    fixed = fine_condition(depth_m, disparity_factor, coarse, config)
    sample, _ = denoise(network, scheduler, noise, fixed, labels, steps)
    return sample


def noise_shapes(
    height: int, width: int, config: TwoStageConfig, fine_channel_count: int
) -> tuple[tuple[int, int, int], ...]:
    """Shapes [C,h,w] of the initial noise of both stages for a padded image."""
    return (
        (coarse_channels(), height // config.coarse.stride, width // config.coarse.stride),
        (fine_channel_count, height // config.fine.stride, width // config.fine.stride),
    )
