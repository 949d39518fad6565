"""The network of the strong two-sample test. Importing this module imports torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanAndLogVariance(nn.Module):
    """Pools [N, C, H, W] to [N, 2C]: each channel's mean and the logarithm of its variance over the crop."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return torch.cat([features.mean((2, 3)), torch.log(features.var((2, 3)) + 1e-3)], dim=1)


def build_network(channels: int = 5) -> nn.Module:
    """Build the classifier: four convolutions, mean and log-variance over the crop, one logit; about 85 k parameters.

    Two choices make it sharp-eyed within a few hundred steps. There is no normalisation between the convolutions: it
    would divide out the residual's amplitude, which is half of the question. And the variance is pooled beside the
    mean: with linear filters before it, that is the power in a learnt frequency band.

    Pixels are first folded 2×2 into channels: nothing of the full resolution is lost, at a quarter of the cost. A unit
    of the last layer sees 34 px.

    Args:
        channels: input channels.

    Returns:
        Module from [N, channels, H, W] to logits [N, 1].
    """
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * channels, 32, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(32, 48, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(48, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1, 1),
        MeanAndLogVariance(),
        nn.BatchNorm1d(128),
        nn.Dropout(0.1),
        nn.Linear(128, 1),
    )
