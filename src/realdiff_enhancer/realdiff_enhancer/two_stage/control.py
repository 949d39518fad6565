"""ControlNet conditioning (Zhang et al. 2023) on the compact U-Net: the baseline beside concatenated conditions.

A base U-Net learns the noise without any condition and is frozen. A copy of its encoder sees the condition too, and
layers that start at zero add what it finds to the base's skip connections and bottleneck.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn


class BaseDenoiser(nn.Module):
    """The base U-Net, which sees only the noised sample: the condition channels of its input are dropped.

    Args:
        unet: takes `diffused` channels.
        diffused: channels of the noised sample.
    """

    def __init__(self, unet: UNet2DModel, diffused: int) -> None:
        super().__init__()
        self.unet: Any = unet
        self.diffused = diffused

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = False
    ) -> tuple[Tensor, ...]:
        """v of a sample with condition [N,C+K,h,w]; a tuple of one."""
        return tuple(self.unet(sample[:, : self.diffused], timestep, class_labels=class_labels, return_dict=False))


class ControlledDenoiser(nn.Module):
    """A frozen base U-Net steered by a trainable copy of its encoder.

    Args:
        unet: the base; takes `diffused` channels.
        diffused: channels of the noised sample; the rest of the input is the condition.
        condition: channels of the condition.
    """

    def __init__(self, unet: UNet2DModel, diffused: int, condition: int) -> None:
        super().__init__()
        self.base = BaseDenoiser(unet, diffused)
        first: nn.Conv2d = self.base.unet.conv_in
        self.hint = nn.Sequential(
            nn.Conv2d(condition, first.out_channels, 3, padding=1),
            nn.SiLU(),
            _zero(nn.Conv2d(first.out_channels, first.out_channels, 3, padding=1)),
        )
        self.start_control()
        widths = [first.out_channels]
        for block in self.base.unet.down_blocks:
            widths += [resnet.out_channels for resnet in block.resnets]
            if block.downsamplers is not None:
                widths.append(widths[-1])
        self.joints = nn.ModuleList(_zero(nn.Conv2d(width, width, 1)) for width in [*widths, widths[-1]])

    def start_control(self) -> None:
        """Makes the control branch a copy of the base's encoder as it is now."""
        unet = self.base.unet
        parts = (unet.conv_in, unet.time_embedding, unet.class_embedding, unet.down_blocks, unet.mid_block)
        self.conv_in, self.time, self.labels, self.down, self.middle = (copy.deepcopy(part) for part in parts)

    def freeze(self) -> None:
        """Takes the base out of the training."""
        self.base.requires_grad_(False)

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = False
    ) -> tuple[Tensor, ...]:
        """v of a sample with condition [N,C+K,h,w]; a tuple of one."""
        unet, diffused = self.base.unet, self.base.diffused
        noised, condition = sample[:, :diffused], sample[:, diffused:]
        waves = unet.time_proj(timestep.expand(len(sample))).to(sample.dtype)
        control = self.conv_in(noised) + self.hint(condition)
        steer = _encode(control, self.time(waves) + self.labels(class_labels).to(sample.dtype), self.down, self.middle)
        embedding = unet.time_embedding(waves) + unet.class_embedding(class_labels).to(sample.dtype)
        skips = _encode(unet.conv_in(noised), embedding, unet.down_blocks, unet.mid_block)
        *skips, state = [own + joint(other) for own, other, joint in zip(skips, steer, self.joints, strict=True)]
        for block in unet.up_blocks:
            count = len(block.resnets)
            state = block(state, tuple(skips[-count:]), embedding)
            del skips[-count:]
        return (unet.conv_out(unet.conv_act(unet.conv_norm_out(state))),)


def _encode(state: Tensor, embedding: Tensor, down: Any, middle: Any) -> list[Tensor]:
    """Outputs of an encoder for the skip connections, and of the bottleneck last."""
    skips = [state]
    for block in down:
        state, outputs = block(hidden_states=state, temb=embedding)
        skips += outputs
    return [*skips, middle(state, embedding)]


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    return layer
