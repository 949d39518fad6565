"""Conditional one-dimensional U-Net over action rows (Janner et al. 2022; Chi et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn


def _block(channels_in: int, channels: int, kernel: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels, kernel, padding=kernel // 2), nn.GroupNorm(groups, channels), nn.Mish()
    )


class ConditionalResidualBlock(nn.Module):
    """Two convolutions; between them the condition scales and shifts every channel (FiLM, Perez et al. 2018)."""

    def __init__(self, channels_in: int, channels: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = _block(channels_in, channels, kernel, groups)
        self.second = _block(channels, channels, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * channels))
        self.shortcut = nn.Conv1d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """float[B, C_in, T] and float[B, condition] to float[B, C, T]."""
        scale, bias = self.film(condition).unsqueeze(-1).chunk(2, dim=1)
        out: Tensor = self.second(self.first(x) * scale + bias) + self.shortcut(x)
        return out


class _Level(nn.Module):
    """Two residual blocks at one resolution."""

    def __init__(self, channels_in: int, channels: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = ConditionalResidualBlock(channels_in, channels, condition, kernel, groups)
        self.second = ConditionalResidualBlock(channels, channels, condition, kernel, groups)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x, condition), condition)
        return out


class ConditionalUnet1d(nn.Module):
    """Predicts the noise in a sequence of action rows.

    Args:
        size: Numbers in a row.
        condition: Length of the condition vector.
        channels: Channels of each resolution; each further one halves the number of rows.
        kernel: Kernel of the convolutions.
        groups: Groups of the group normalisation.
        step_embedding: Length of the diffusion step's embedding.
    """

    def __init__(
        self, size: int, condition: int, channels: Sequence[int], kernel: int, groups: int, step_embedding: int
    ) -> None:
        super().__init__()
        self.step = nn.Sequential(
            Timesteps(step_embedding, flip_sin_to_cos=False, downscale_freq_shift=1),
            nn.Linear(step_embedding, 4 * step_embedding),
            nn.Mish(),
            nn.Linear(4 * step_embedding, step_embedding),
        )
        total = condition + step_embedding

        def level(channels_in: int, channels_out: int) -> _Level:
            return _Level(channels_in, channels_out, total, kernel, groups)

        widths = list(zip([size, *channels[:-1]], channels, strict=True))
        self.down = nn.ModuleList(level(before, after) for before, after in widths)
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, 2, 1) for width in channels[:-1])
        self.middle = level(channels[-1], channels[-1])
        self.up = nn.ModuleList(level(2 * after, before) for before, after in reversed(widths[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(before, before, 4, 2, 1) for before, _ in reversed(widths[1:]))
        self.out = nn.Sequential(_block(channels[0], channels[0], kernel, groups), nn.Conv1d(channels[0], size, 1))

    def forward(self, rows: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Predicts the noise.

        Args:
            rows: float[B, T, size]; T a multiple of 2 to the number of resolutions less one.
            step: int[B], diffusion step.
            condition: float[B, condition].

        Returns:
            float[B, T, size].
        """
        embedded = torch.cat([self.step(step).to(condition.dtype), condition], dim=-1)
        x = rows.transpose(1, 2)
        kept = []
        for index, down in enumerate(self.down):
            x = down(x, embedded)
            kept.append(x)
            if index < len(self.shrink):
                x = self.shrink[index](x)
        x = self.middle(x, embedded)
        for up, grow in zip(self.up, self.grow, strict=True):
            x = grow(up(torch.cat([x, kept.pop()], dim=1), embedded))
        result: Tensor = self.out(x).transpose(1, 2)
        return result
