"""The paper's backbone: the U-Net of a local Stable Diffusion v2.1 folder, its first and last layer widened.

It denoises the same residual cells and hole field as the compact U-Net, brought to the grid of its latents (8 px) by
pixel unshuffle. The folder's VAE is not used: its code error is several times a D435's own noise, and residual cells of
8 px need no learned code. The weights are not ours to ship: the folder is the user's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from realdiff_core.errors import ConfigError
from torch import Tensor, nn

from .config import NetworkConfig

#: Where the weights can be had, for messages.
SOURCE = "huggingface-cli download stabilityai/stable-diffusion-2-1 --local-dir FOLDER (or a mirror of it)"
LATENT_STRIDE = 8


def _part(folder: str | None, name: str, kind: Any) -> Any:
    root = Path(folder) if folder else None
    if root is None or not (root / name / "config.json").is_file():
        raise ConfigError(
            "the Stable Diffusion folder is not there",
            where=str(folder),
            expected=f"a local folder in diffusers' layout with {name}/config.json and its safetensors",
            got="no folder" if root is None or not root.is_dir() else f"no {name}/config.json",
            next_step=f"get it with: {SOURCE}; then set model.coarse.folder and model.fine.folder",
        )
    try:
        return kind.from_pretrained(str(root), subfolder=name, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            "the Stable Diffusion folder can't be loaded",
            where=f"{root / name}",
            expected="weights as safetensors",
            got=str(error).splitlines()[0][:200],
            next_step=f"get it again with: {SOURCE}",
        ) from error


def widened_input(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A first layer with more input channels: the old ones keep their weights, the new ones start at zero."""
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, padding=old.padding)  # type: ignore[arg-type]
    weight = torch.zeros_like(new.weight)
    kept = min(channels, old.in_channels)
    weight[:, :kept] = old.weight.detach()[:, :kept]
    new.load_state_dict({"weight": weight, "bias": old.state_dict()["bias"]})
    return new


def widened_output(old: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A last layer with other output channels: the first ones keep their weights, further ones start at zero."""
    new = nn.Conv2d(old.in_channels, channels, old.kernel_size, padding=old.padding)  # type: ignore[arg-type]
    state = {name: torch.zeros_like(values) for name, values in new.state_dict().items()}
    kept = min(channels, old.out_channels)
    for name, values in old.state_dict().items():
        state[name][:kept] = values[:kept]
    new.load_state_dict(state)
    return new


class StableDiffusionDenoiser(nn.Module):
    """Stable Diffusion's U-Net as a denoiser of one of our stages.

    The U-Net works on latents of `LATENT_STRIDE` px. A stage's grid is brought there by pixel unshuffle (a grid of 4 px
    becomes four channels a cell) and back; a grid of 8 px is taken as it is. The text condition is the embedding of the
    empty prompt where the folder has one (empty_prompt.safetensors, key "embedding"), else zeros. Labels (kind of
    noise, number of steps) are an embedding added to the time's.

    Args:
        config: `folder` and `stride`.
        in_channels: of the stage's input, on its grid.
        out_channels: of its output.
        labels: number of labels.
    """

    def __init__(self, config: NetworkConfig, in_channels: int, out_channels: int, labels: int) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        if LATENT_STRIDE % config.stride:
            raise ConfigError(
                "the grid doesn't fit Stable Diffusion's latents",
                where="key stride",
                expected="1, 2, 4 or 8",
                got=str(config.stride),
                next_step="set stride to 8",
            )
        self.factor = LATENT_STRIDE // config.stride
        self.unet: Any = _part(config.folder, "unet", UNet2DConditionModel)
        cells = self.factor**2
        self.unet.conv_in = widened_input(self.unet.conv_in, in_channels * cells)
        self.unet.conv_out = widened_output(self.unet.conv_out, out_channels * cells)
        width: int = self.unet.time_embedding.linear_2.out_features
        self.class_embedding = nn.Embedding(labels, width)
        nn.init.zeros_(self.class_embedding.weight)
        # The label's embedding joins the time's through the U-Net's own class input.
        self.unet.class_embedding = nn.Identity()
        self.prompt: Tensor
        self.register_buffer("prompt", _empty_prompt(config.folder, self.unet.config["cross_attention_dim"]))

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool = False
    ) -> tuple[Tensor, ...]:
        """v of a sample [N,C,h,w] on the stage's grid; a tuple of one, as diffusers' models return it."""
        inputs = F.pixel_unshuffle(sample, self.factor)
        output = self.unet(
            inputs,
            timestep,
            encoder_hidden_states=self.prompt.to(inputs.dtype).expand(len(inputs), -1, -1),
            class_labels=self.class_embedding(class_labels),
            return_dict=False,
        )[0]
        return (F.pixel_shuffle(output, self.factor),)


def _empty_prompt(folder: str | None, width: int) -> Tensor:
    from safetensors.torch import load_file

    file = Path(folder or "") / "empty_prompt.safetensors"
    if file.is_file():
        return load_file(file)["embedding"].float().reshape(1, -1, width)
    return torch.zeros((1, 1, width))
