"""ResNet-18 with group normalisation instead of batch normalisation (which clashes with averaged weights)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS_PER_GROUP = 16


class _Norm(nn.GroupNorm):
    """Group normalisation in the input's own precision.

    Under autocast PyTorch's would turn every feature map to float32 and back, several times the work of the
    normalisation itself; its sums are in float32 either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], normalised."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def _norm(channels: int) -> nn.GroupNorm:
    return _Norm(max(1, channels // _CHANNELS_PER_GROUP), channels)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = _norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = _norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), _norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """The trunk of a ResNet-18, without pooling and classifier.

    Names of the parameters are torchvision's, so that a state dict of its resnet18 (trained on ImageNet) loads into
    the convolutions where `width` is 64.

    Args:
        channels_in: Channels of the image.
        width: Channels of the first stage; the last has 8 times as many.
    """

    def __init__(self, channels_in: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 7, 2, 3, bias=False)
        self.bn1 = _norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            nn.Sequential(BasicBlock(before, channels, stride), BasicBlock(channels, channels, 1))
            for before, channels, stride in zip(widths, widths[1:], (1, 2, 2, 2), strict=False)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = widths[-1]

    def forward(self, image: Tensor) -> Tensor:
        """float[N, C, H, W] to float[N, 8·width, ceil(H/32), ceil(W/32)]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        result: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return result


class SpatialSoftmax(nn.Module):
    """Expected image coordinates of K learned keypoints (Finn et al. 2016; Levine et al. 2016).

    Args:
        channels: Channels of the feature map.
        keypoints: K.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.heat = nn.Conv2d(channels, keypoints, 1)

    def forward(self, features: Tensor) -> Tensor:
        """float[N, C, h, w] to float[N, 2·K]: x and y in [-1, 1]."""
        heat = self.heat(features)
        share = torch.softmax(heat.flatten(2), dim=-1).unflatten(-1, heat.shape[-2:])
        x = torch.linspace(-1.0, 1.0, heat.shape[-1], device=heat.device, dtype=heat.dtype)
        y = torch.linspace(-1.0, 1.0, heat.shape[-2], device=heat.device, dtype=heat.dtype)
        return torch.cat([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], dim=1)


class ImageEncoder(nn.Module):
    """ResNet-18, spatial softmax and one linear layer: an image to a feature vector.

    Args:
        channels_in: Channels of the image.
        width: Channels of the first stage.
        keypoints: Keypoints of the spatial softmax.
        features: Length of the result.
    """

    def __init__(self, channels_in: int, width: int, keypoints: int, features: int) -> None:
        super().__init__()
        self.trunk = ResNet18(channels_in, width)
        self.pool = SpatialSoftmax(self.trunk.channels, keypoints)
        self.out = nn.Linear(2 * keypoints, features)

    def forward(self, image: Tensor) -> Tensor:
        """float[N, C, H, W] to float[N, features]."""
        result: Tensor = torch.relu(self.out(self.pool(self.trunk(image))))
        return result
