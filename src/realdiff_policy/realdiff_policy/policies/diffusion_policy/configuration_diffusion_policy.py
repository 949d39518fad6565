"""Settings of Diffusion Policy; the defaults are the field's (Chi et al. 2023), the depth stream is the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from realdiff_core.config import Strict

from realdiff_policy.contract import ActionContract


class EncoderConfig(Strict):
    """One image stream: ResNet-18, spatial softmax, linear layer.

    Attributes:
        width: Channels of ResNet-18's first stage.
        keypoints: Keypoints of the spatial softmax.
        features: Length of the feature vector.
    """

    width: PositiveInt = 64
    keypoints: PositiveInt = 32
    features: PositiveInt = 64


class DenoiserConfig(Strict):
    """The conditional U-Net over the action rows."""

    channels: tuple[PositiveInt, ...] = (512, 1024, 2048)
    kernel: PositiveInt = 5
    groups: PositiveInt = 8
    step_embedding: PositiveInt = 128


class DiffusionConfig(Strict):
    """Diffusion: squared-cosine schedule, ε-prediction, clipped samples; DDIM at run time.

    Attributes:
        train_steps: Diffusion steps in training.
        sampling_steps: DDIM steps at run time.
    """

    train_steps: PositiveInt = 100
    sampling_steps: PositiveInt = 16


class DiffusionPolicyConfig(Strict):
    """Everything that defines a Diffusion Policy, besides its weights and statistics.

    Attributes:
        image: Height and width of the images in the array store [px].
        crop: Height and width that the network sees: a random window in training, the middle one at run time [px].
        colour: Encoder of the colour image.
        depth: Encoder of depth and validity; None: the policy takes colour alone.
        depth_range_m: Depth within it is valid, the rest counts as a hole [m].
    """

    policy: Literal["diffusion_policy"] = "diffusion_policy"
    action: ActionContract = ActionContract(rate_hz=10.0, observation_steps=2, horizon=16, execute=8)
    image: tuple[PositiveInt, PositiveInt] = (240, 320)
    crop: tuple[PositiveInt, PositiveInt] = (216, 288)
    colour: EncoderConfig = EncoderConfig()
    depth: EncoderConfig | None = EncoderConfig()
    depth_range_m: tuple[PositiveFloat, PositiveFloat] = (0.28, 2.0)
    denoiser: DenoiserConfig = DenoiserConfig()
    diffusion: DiffusionConfig = Field(default_factory=DiffusionConfig)

    @model_validator(mode="after")
    def _fits(self) -> DiffusionPolicyConfig:
        if any(part > whole for part, whole in zip(self.crop, self.image, strict=True)):
            raise ValueError(f"the crop {self.crop} is larger than the image {self.image}")
        factor = 2 ** (len(self.denoiser.channels) - 1)
        if self.action.horizon % factor:
            raise ValueError(f"the horizon ({self.action.horizon}) must be a multiple of {factor} for this denoiser")
        if any(width % self.denoiser.groups for width in self.denoiser.channels):
            raise ValueError(f"the denoiser's channels must be multiples of its {self.denoiser.groups} groups")
        if self.depth_range_m[0] >= self.depth_range_m[1]:
            raise ValueError(f"the depth range {self.depth_range_m} is empty")
        if self.diffusion.sampling_steps > self.diffusion.train_steps:
            raise ValueError("sampling_steps exceeds train_steps")
        return self
