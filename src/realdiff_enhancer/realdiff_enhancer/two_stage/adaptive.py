"""Convolutions whose kernel is chosen for each sample (GigaGAN, Kang et al. 2023: sample-adaptive kernel selection)."""

from __future__ import annotations

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn


class AdaptiveConv2d(nn.Module):
    """Convolution with, for each sample, a mixture of a bank of kernels: K = Σₙ softmax(A·m + a)ₙ Kₙ, bias likewise.

    GigaGAN selects by its style vector w. There is none here: m is the spatial mean of the layer's own input.

    A convolution is linear in its kernel, so mixing what all kernels of the bank respond equals convolving with the
    mixed kernel. That is one ordinary convolution for the whole batch, as fast as one of the bank's number of
    parameters, and nothing in it depends on the data's values (CUDA graphs, torch.compile, export).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernels: in the bank.
        kernel_size: side of the kernels [cells], odd; the output has the size of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.kernels = kernels
        self.bank = nn.Conv2d(in_channels, kernels * out_channels, kernel_size, padding=kernel_size // 2)
        self.select = nn.Linear(in_channels, kernels)

    def forward(self, values: Tensor) -> Tensor:
        """[N,in,h,w] -> [N,out,h,w], in the precision of the convolution (also under autocast)."""
        responses = self.bank(values).unflatten(1, (self.kernels, -1))
        selection = self.select(values.mean((2, 3))).softmax(1).to(responses.dtype)
        # term by term: a sum over the dimension would lose the layout (channels last), and autocast would widen it
        first, *others = (
            response * weight[:, None, None, None]
            for response, weight in zip(responses.unbind(1), selection.unbind(1), strict=True)
        )
        mixed: Tensor = first
        for other in others:
            mixed = mixed + other
        return mixed


def adapt_kernels(network: nn.Module, kernels: int) -> None:
    """Replaces the 3x3 convolutions of all ResNet blocks of a U-Net by adaptive ones.

    Args:
        network: a U-Net of diffusers' blocks, with its initial weights; changed in place.
        kernels: in each bank.
    """
    for block in network.modules():
        if isinstance(block, ResnetBlock2D):
            for name in ("conv1", "conv2"):
                plain: nn.Conv2d = getattr(block, name)
                setattr(block, name, AdaptiveConv2d(plain.in_channels, plain.out_channels, kernels))
