"""Settings of a training run (config/policies/*.yaml)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from realdiff_core.config import Strict

from realdiff_policy.data.augment import Augmentation
from realdiff_policy.data.windows import DataSource
from realdiff_policy.policies.diffusion_policy.configuration_diffusion_policy import DiffusionPolicyConfig


class OptimiserConfig(Strict):
    """AdamW with a cosine schedule, and the average of the weights (the field's values, Chi et al. 2023)."""

    learning_rate: PositiveFloat = 1e-4
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = Field(default=1e-6, ge=0.0)
    warmup_steps: NonNegativeInt = 500
    gradient_norm: PositiveFloat = Field(default=1.0, description="longer gradients are shortened to this")
    ema_power: PositiveFloat = 0.75
    ema_limit: float = Field(default=0.9999, gt=0.0, lt=1.0)


class TrainConfig(Strict):
    """A training run.

    Attributes:
        policy: The policy's settings.
        data: Folders of episode bags and their shares.
        seed: Seed of weights, samples, variations and noise.
        steps: Optimiser steps.
        batch: Samples a step, over all GPUs.
        noise_draws: Noise and diffusion steps drawn for each sample. The images are encoded once for all of them, so
            that more draws cost little where the denoiser is small, and make the loss less noisy.
        validation_share: Share of each source's episodes that is kept for validation.
        augmentation: How training images are varied.
        optimiser: Optimiser and average of the weights.
        precision: "bf16" computes in bfloat16 where the device can; "no" in float32.
        execution: How the network runs on a GPU: "graphs" replays its kernels as CUDA graphs (no time is lost between
            them; small networks need it), "compile" uses torch.compile (a minute at the start), "eager" neither.
        memory: "device" keeps all frames in the GPU's memory, "mapped" reads them from disk, "auto" takes what fits.
        workers: Processes that read batches in "mapped" memory.
        log_every: Steps between two points of the curves.
        validate_every: Steps between two validations.
        checkpoint_every: Steps between two checkpoints.
    """

    policy: DiffusionPolicyConfig = DiffusionPolicyConfig()
    data: tuple[DataSource, ...] = ()
    seed: NonNegativeInt = 0
    steps: PositiveInt = 60_000
    batch: PositiveInt = 64
    noise_draws: PositiveInt = 1
    validation_share: float = Field(default=0.02, ge=0.0, lt=1.0)
    augmentation: Augmentation = Augmentation()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: Literal["bf16", "no"] = "bf16"
    execution: Literal["graphs", "compile", "eager"] = "graphs"
    memory: Literal["auto", "device", "mapped"] = "auto"
    workers: NonNegativeInt = 4
    log_every: PositiveInt = 50
    validate_every: PositiveInt = 2_000
    checkpoint_every: PositiveInt = 2_000

    @model_validator(mode="after")
    def _enough(self) -> TrainConfig:
        if self.optimiser.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.optimiser.warmup_steps}) must be fewer than steps ({self.steps})")
        return self
