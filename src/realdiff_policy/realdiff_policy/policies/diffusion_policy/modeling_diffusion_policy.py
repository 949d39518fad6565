"""The network of Diffusion Policy: image streams and proprioception to a condition, the condition to action rows."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from realdiff_policy.contract import STATE_SIZE
from realdiff_policy.policies.diffusion_policy.configuration_diffusion_policy import (
    DiffusionConfig,
    DiffusionPolicyConfig,
    EncoderConfig,
)
from realdiff_policy.policies.resnet import ImageEncoder
from realdiff_policy.policies.unet1d import ConditionalUnet1d


class ObservationEncoder(nn.Module):
    """Colour, depth and state of all observation steps to one condition vector."""

    def __init__(self, config: DiffusionPolicyConfig) -> None:
        super().__init__()

        def encoder(channels: int, settings: EncoderConfig) -> ImageEncoder:
            return ImageEncoder(channels, settings.width, settings.keypoints, settings.features)

        self.colour = encoder(3, config.colour)
        self.depth = encoder(2, config.depth) if config.depth is not None else None
        features = config.colour.features + (config.depth.features if config.depth is not None else 0)
        self.size = config.action.observation_steps * (features + STATE_SIZE)

    def forward(self, colour: Tensor, state: Tensor, depth: Tensor | None = None) -> Tensor:
        """Encodes observations as the processor makes them.

        Args:
            colour: float[B, To, 3, h, w].
            state: float[B, To, 8], normalised.
            depth: float[B, To, 2, h, w], scaled depth and validity; None without a depth stream.

        Returns:
            float[B, size].
        """
        batch, steps = colour.shape[:2]
        parts = [self.colour(colour.flatten(0, 1))]
        if self.depth is not None:
            assert depth is not None
            parts.append(self.depth(depth.flatten(0, 1)))
        features = torch.cat([*parts, state.flatten(0, 1)], dim=-1)
        return features.view(batch, steps * features.shape[-1])


class DiffusionPolicyModel(nn.Module):
    """Encoder and denoiser.

    Args:
        config: The policy's settings.
    """

    def __init__(self, config: DiffusionPolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ObservationEncoder(config)
        denoiser = config.denoiser
        self.denoiser = ConditionalUnet1d(
            config.action.size,
            self.encoder.size,
            denoiser.channels,
            denoiser.kernel,
            denoiser.groups,
            denoiser.step_embedding,
        )

    def forward(self, rows: Tensor, step: Tensor, colour: Tensor, state: Tensor, depth: Tensor | None = None) -> Tensor:
        """Predicts the noise in normalised action rows, float[B * draws, horizon, size].

        The rows of one observation follow each other; `draws` is however many there are for each.
        """
        condition = self.encoder(colour, state, depth)
        draws = rows.shape[0] // colour.shape[0]
        result: Tensor = self.denoiser(rows, step, condition.repeat_interleave(draws, dim=0))
        return result


def noise_scheduler(config: DiffusionConfig) -> Any:
    """The noise schedule of the training."""
    return DDPMScheduler(
        num_train_timesteps=config.train_steps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
    )


def sampling_scheduler(config: DiffusionConfig, steps: int | None = None) -> Any:
    """The sampler, with its time steps set.

    Args:
        config: The policy's diffusion settings.
        steps: DDIM steps; None: the configuration's.
    """
    scheduler = DDIMScheduler(
        num_train_timesteps=config.train_steps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(steps or config.sampling_steps)
    return scheduler
