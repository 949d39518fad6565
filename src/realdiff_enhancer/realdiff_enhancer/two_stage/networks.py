"""The two denoisers: compact U-Nets of diffusers' parts."""

from __future__ import annotations

from diffusers import UNet2DModel
from torch import nn

from .conditioning import condition_channels
from .config import NetworkConfig, TwoStageConfig

#: Pixels per cell of the fine residual field: the real residual carries next to nothing finer.
FINE_RESIDUAL_FACTOR = 2


def _unet(config: NetworkConfig, in_channels: int, out_channels: int, sources: int) -> UNet2DModel:
    levels = len(config.channels)
    return UNet2DModel(
        sample_size=None,
        in_channels=in_channels,
        out_channels=out_channels,
        layers_per_block=config.layers_per_block,
        block_out_channels=config.channels,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=config.norm_groups,
        attention_head_dim=config.norm_groups,
        num_class_embeds=sources,
    )


def coarse_channels() -> int:
    """Channels that the coarse stage diffuses: the structural noise n_L."""
    return 1


def fine_channels(config: TwoStageConfig) -> tuple[int, int]:
    """Channels that the fine stage diffuses: (residual cells, hole bits), both unshuffled to its grid."""
    return (config.fine.stride // FINE_RESIDUAL_FACTOR) ** 2, config.fine.stride**2


def make_coarse(config: TwoStageConfig) -> nn.Module:
    """Coarse denoiser: [noisy n_L, condition] -> [v, discrepancy p̂ (before softplus)] on the coarse grid."""
    in_channels = coarse_channels() + condition_channels(config.coarse.stride, detailed=False)
    return _unet(config.coarse, in_channels, coarse_channels() + 1, len(config.sources))


def make_fine(config: TwoStageConfig) -> nn.Module:
    """Fine denoiser: [noisy residual and hole bits, condition, coarse, D] -> v on the fine grid."""
    diffused = sum(fine_channels(config))
    in_channels = diffused + condition_channels(config.fine.stride, detailed=True) + 2
    return _unet(config.fine, in_channels, diffused, len(config.sources))
