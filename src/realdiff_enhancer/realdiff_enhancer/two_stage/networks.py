"""The two denoisers: compact U-Nets of diffusers' parts, or the U-Net of a local Stable Diffusion folder."""

from __future__ import annotations

from diffusers import UNet2DModel
from torch import Tensor, nn

from .adaptive import adapt_kernels
from .conditioning import condition_channels
from .config import NetworkConfig, TwoStageConfig
from .solver import Denoiser


def _network(config: NetworkConfig, in_channels: int, out_channels: int, labels: int) -> nn.Module:
    if config.kind == "control":
        from .control import ControlledDenoiser

        # the fine stage, the only one with this kind, has no auxiliary outputs
        unet = _compact(config, out_channels, out_channels, labels)
        return ControlledDenoiser(unet, out_channels, in_channels - out_channels)
    if config.kind == "stable_diffusion":
        from .stable_diffusion import StableDiffusionDenoiser

        return StableDiffusionDenoiser(config, in_channels, out_channels, labels)
    return _compact(config, in_channels, out_channels, labels)


def _compact(config: NetworkConfig, in_channels: int, out_channels: int, labels: int) -> UNet2DModel:
    levels = len(config.channels)
    last = ("AttnDownBlock2D", "AttnUpBlock2D") if config.attention else ("DownBlock2D", "UpBlock2D")
    unet = UNet2DModel(
        sample_size=None,
        in_channels=in_channels,
        out_channels=out_channels,
        layers_per_block=config.layers_per_block,
        block_out_channels=config.channels,
        down_block_types=("DownBlock2D",) * (levels - 1) + last[:1],
        up_block_types=last[1:] + ("UpBlock2D",) * (levels - 1),
        norm_num_groups=config.norm_groups,
        attention_head_dim=config.norm_groups,
        num_class_embeds=labels,
    )
    if config.adaptive_kernels > 1:
        adapt_kernels(unet, config.adaptive_kernels)
    return unet


def as_denoiser(network: nn.Module) -> Denoiser:
    """The network as a function (input, timestep, labels) -> output; works on wrapped and compiled networks too."""

    def call(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        output: Tensor = network(sample, timestep, class_labels=labels, return_dict=False)[0]
        return output

    return call


def coarse_channels() -> int:
    """Channels that the coarse stage diffuses: the structural noise n_L."""
    return 1


def fine_channels(config: TwoStageConfig) -> tuple[int, int]:
    """Channels that the fine stage diffuses: (residual cells, hole field), both unshuffled to its grid."""
    return (config.fine.stride // config.residual_px) ** 2, (config.fine.stride // config.holes.factor) ** 2


def label_count(config: TwoStageConfig) -> int:
    """Labels of the networks: every source, once for the base model and once for each distilled number of steps."""
    return len(config.sources) * (1 + len(config.few_steps))


def make_coarse(config: TwoStageConfig) -> nn.Module:
    """Coarse denoiser: [noisy n_L, condition] -> [v, discrepancy p̂ (before softplus)] on the coarse grid."""
    in_channels = coarse_channels() + condition_channels(config, config.coarse.stride, detailed=False)
    return _network(config.coarse, in_channels, coarse_channels() + 1, label_count(config))


def make_fine(config: TwoStageConfig) -> nn.Module:
    """Fine denoiser: [noisy residual and hole field, condition, coarse, D] -> v on the fine grid."""
    diffused = sum(fine_channels(config))
    in_channels = diffused + condition_channels(config, config.fine.stride, detailed=True) + 2
    return _network(config.fine, in_channels, diffused, label_count(config))
