"""Draws action rows from a trained denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(rows float[B, T, size], step int[B], condition float[B, C]) to the noise in the rows."""


def sample_rows(
    denoiser: Denoiser, condition: Tensor, shape: Sequence[int], scheduler: Any, generator: torch.Generator
) -> Tensor:
    """Draws normalised action rows by DDIM without added noise (Song et al. 2021).

    Args:
        denoiser: Predicts the noise.
        condition: float[B, C].
        shape: B, horizon, size.
        scheduler: A diffusers scheduler with its time steps set.
        generator: Source of the initial noise.

    Returns:
        float[B, horizon, size] in [-1, 1].
    """
    rows = torch.randn(tuple(shape), generator=generator, device=generator.device).to(condition)
    for step in scheduler.timesteps:
        steps = step.to(condition.device).expand(len(condition))
        rows = scheduler.step(denoiser(rows, steps, condition), step, rows).prev_sample
    return rows.clamp(-1.0, 1.0)
