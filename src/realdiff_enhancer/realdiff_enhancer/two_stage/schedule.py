"""Noise schedule, on a scheduler of diffusers; the samplers are in `solver`."""

from __future__ import annotations

import math

import torch
from diffusers import DDIMScheduler

from .config import ScheduleConfig


def shifted_cosine_betas(config: ScheduleConfig) -> list[float]:
    """Betas of a cosine schedule with its log-SNR shifted by `log_snr_shift` (simple diffusion, Hoogeboom 2023)."""
    steps = torch.arange(config.train_steps + 1, dtype=torch.float64) / config.train_steps
    # log-SNR of the cosine schedule, kept finite at both ends
    angle = (steps * 0.5 * math.pi).clamp(1e-3, 0.5 * math.pi - 1e-4)
    log_snr = -2.0 * torch.log(torch.tan(angle)) + config.log_snr_shift
    alpha_bar = torch.sigmoid(log_snr)
    alpha_bar = alpha_bar / alpha_bar[0]
    betas = 1.0 - alpha_bar[1:] / alpha_bar[:-1]
    return [float(b) for b in betas.clamp(1e-8, 0.9999)]


def make_noise_scheduler(config: ScheduleConfig) -> DDIMScheduler:
    """Noises training targets: v-prediction, zero terminal SNR (Lin et al. 2024)."""
    return DDIMScheduler(
        num_train_timesteps=config.train_steps,
        trained_betas=shifted_cosine_betas(config),
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=True,
    )
