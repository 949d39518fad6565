"""Deterministic samplers as fixed linear steps: no state, no look-ups and nothing that waits for the device.

All coefficients are known before sampling starts, so a run is a chain of network evaluations and weighted sums, which a
CUDA graph can record. `multistep_plan` is DPM-Solver++(2M) (Lu et al. 2022), equal to diffusers' implementation with
trailing steps and a first-order last step; `ddim_plan` is its first-order form, DDIM (Song et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import ScheduleConfig
from .schedule import make_noise_scheduler

#: A denoiser: (input [N,C+K,h,w], timestep [N] int64, labels [N] int64) -> output [N,C+A,h,w].
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]

_SMALLEST_ALPHA_BAR = 2.0**-24  # stands for zero SNR where a logarithm is needed, as in diffusers


@dataclass(frozen=True)
class SolverStep:
    """One evaluation at `timestep`, where z = alpha·x + sigma·ε; then z' = keep·z + new·x̂ + old·x̂_previous."""

    timestep: int
    alpha: float
    sigma: float
    keep: float
    new: float
    old: float


Plan = tuple[SolverStep, ...]


def trailing_timesteps(train_steps: int, steps: int) -> list[int]:
    """Timesteps that end at the noisiest one (Lin et al. 2024)."""
    return [round(train_steps - i * train_steps / steps) - 1 for i in range(steps)]


def alpha_sigma(config: ScheduleConfig, timestep: int) -> tuple[float, float]:
    """Signal and noise amplitude at a timestep; -1 is the clean sample."""
    if timestep < 0:
        return 1.0, 0.0
    alpha_bar = max(_alphas_cumprod(config)[timestep], _SMALLEST_ALPHA_BAR)
    return math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)


_CACHE: dict[ScheduleConfig, list[float]] = {}


def _alphas_cumprod(config: ScheduleConfig) -> list[float]:
    if config not in _CACHE:
        _CACHE[config] = [float(a) for a in make_noise_scheduler(config).alphas_cumprod.double()]
    return _CACHE[config]


def ddim_step(config: ScheduleConfig, timestep: int, after: int) -> SolverStep:
    """One first-order step from a timestep to a less noisy one (-1: to the clean sample)."""
    alpha, sigma = alpha_sigma(config, timestep)
    alpha_after, sigma_after = alpha_sigma(config, after)
    keep = sigma_after / sigma
    return SolverStep(timestep, alpha, sigma, keep, alpha_after - keep * alpha, 0.0)


def ddim_plan(config: ScheduleConfig, steps: int) -> Plan:
    """DDIM with a number of trailing steps."""
    times = trailing_timesteps(config.train_steps, steps)
    return tuple(ddim_step(config, t, after) for t, after in zip(times, [*times[1:], -1], strict=True))


def multistep_plan(config: ScheduleConfig, steps: int) -> Plan:
    """DPM-Solver++(2M) with a number of trailing steps, first and last of first order."""
    times = trailing_timesteps(config.train_steps, steps)
    plan = list(ddim_plan(config, steps))
    log_snr = [math.log(a / s) for a, s in (alpha_sigma(config, t) for t in times)]
    for i in range(1, steps - 1):
        step = plan[i]
        h, before = log_snr[i + 1] - log_snr[i], log_snr[i] - log_snr[i - 1]
        # z' = keep·z + c·(x̂ + (x̂ − x̂_previous)·h / (2·before)), c = first-order coefficient
        correction = 0.5 * step.new * h / before
        plan[i] = SolverStep(step.timestep, step.alpha, step.sigma, step.keep, step.new + correction, -correction)
    return tuple(plan)


def solve(
    network: Denoiser, plan: Plan, sample: Tensor, fixed: Tensor, labels: Tensor, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Runs a plan.

    Args:
        network: denoiser of v; output channels after the sample's are auxiliary.
        plan: the steps.
        sample: noise [N,C,h,w], or a sample already noised to step `first`.
        fixed: condition channels [N,K,h,w].
        labels: int64 [N].
        first: index of the first step to run.

    Returns:
        The clean sample [N,C,h,w] and the auxiliary channels of the last evaluation.
    """
    channels = sample.shape[1]
    previous: Tensor | None = None
    auxiliary = sample[:, :0]
    for step in plan[first:]:
        timestep = torch.full((len(sample),), step.timestep, device=sample.device, dtype=torch.int64)
        output = network(torch.cat([sample, fixed], dim=1), timestep, labels).float()
        auxiliary = output[:, channels:]
        clean = step.alpha * sample - step.sigma * output[:, :channels]
        if previous is None and step.old != 0.0:
            previous = clean  # a run that starts in the middle: first order
        sample = step.keep * sample + step.new * clean
        if step.old != 0.0 and previous is not None:
            sample = sample + step.old * previous
        previous = clean
    return sample, auxiliary
