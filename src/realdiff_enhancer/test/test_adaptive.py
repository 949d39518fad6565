"""Sample-adaptive kernels against explicit convolutions, sample by sample."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from realdiff_enhancer.two_stage.adaptive import AdaptiveConv2d  # noqa: E402
from realdiff_enhancer.two_stage.config import NetworkConfig, TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.networks import as_denoiser, fine_channels, make_fine  # noqa: E402
from torch import Tensor  # noqa: E402


def bank(layer: AdaptiveConv2d) -> tuple[Tensor, Tensor]:
    """Weights and biases of all kernels."""
    assert layer.bank.bias is not None
    return layer.bank.weight, layer.bank.bias


def layer_and_input(kernels: int) -> tuple[AdaptiveConv2d, Tensor]:
    """Samples whose means differ so much that each selects another mixture."""
    torch.manual_seed(0)
    layer = AdaptiveConv2d(6, 5, kernels)
    values = torch.randn((4, 6, 9, 7)) + 2.0 * torch.randn((4, 6, 1, 1))
    return layer, values


def by_hand(layer: AdaptiveConv2d, values: Tensor) -> tuple[Tensor, Tensor]:
    """Results [N,out,h,w] with the mixed kernel of each sample, and those kernels."""
    weight, bias_bank = bank(layer)
    kernels, biases = weight.reshape(layer.kernels, 5, 6, 3, 3), bias_bank.reshape(layer.kernels, 5)
    results, mixed = [], []
    for sample in values:
        scores = torch.stack([row @ sample.mean((1, 2)) for row in layer.select.weight]) + layer.select.bias
        share = torch.exp(scores) / torch.exp(scores).sum()
        kernel = sum(s * k for s, k in zip(share, kernels, strict=True))
        bias = sum(s * b for s, b in zip(share, biases, strict=True))
        results.append(F.conv2d(sample[None], kernel, bias, padding=1)[0])
        mixed.append(kernel)
    return torch.stack(results), torch.stack(mixed)


@pytest.mark.parametrize("kernels", [2, 3])
def test_every_sample_is_convolved_with_its_own_mixed_kernel(kernels: int) -> None:
    layer, values = layer_and_input(kernels)
    expected, mixed = by_hand(layer, values)
    assert (mixed[0] - mixed[1:]).abs().amax((1, 2, 3, 4)).min() > 0.02  # they do differ
    got = layer(values)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    weights = [*layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(got.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(layer(values[2:3])[0], got[2], rtol=1e-5, atol=1e-5)


def test_a_bank_of_equal_kernels_is_an_ordinary_convolution() -> None:
    layer, values = layer_and_input(3)
    weight, bias = bank(layer)
    with torch.no_grad():
        weight.copy_(weight[:5].repeat(3, 1, 1, 1))
        bias.copy_(bias[:5].repeat(3))
    expected = F.conv2d(values, weight[:5], bias[:5], padding=1)
    torch.testing.assert_close(layer(values), expected, rtol=1e-5, atol=1e-5)


def test_precision_and_layout_of_the_network_are_kept() -> None:
    layer, values = layer_and_input(2)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(values.contiguous(memory_format=torch.channels_last))
    assert got.dtype == torch.bfloat16
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.float(), by_hand(layer, values)[0], rtol=0.03, atol=0.05)


def test_all_resnet_blocks_of_the_compact_network_have_adaptive_kernels() -> None:
    def model(kernels: int) -> TwoStageConfig:
        fine = NetworkConfig(stride=4, channels=(8, 8), norm_groups=4, adaptive_kernels=kernels)
        return TwoStageConfig(stages="one", fine=fine)

    plain, adaptive = make_fine(model(1)), make_fine(model(3))
    replaced = {name for name, module in adaptive.named_modules() if isinstance(module, AdaptiveConv2d)}
    assert replaced == {name for name, _ in plain.named_modules() if name.endswith((".conv1", ".conv2"))}
    assert len(replaced) == 2 * (2 + 2 + 4)  # two levels down, the middle, two levels up with two blocks each
    channels = adaptive.state_dict()["conv_in.weight"].shape[1]
    sample, zeros = torch.randn((2, channels, 16, 16)), torch.zeros(2, dtype=torch.int64)
    assert as_denoiser(adaptive)(sample, zeros, zeros).shape == (2, sum(fine_channels(model(3))), 16, 16)


@pytest.mark.parametrize("kind", ["control", "stable_diffusion"])
def test_adaptive_kernels_in_another_network_are_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match=f'adaptive_kernels 2 needs kind "compact", got kind "{kind}"'):
        NetworkConfig.model_validate({"kind": kind, "adaptive_kernels": 2})
    assert NetworkConfig.model_validate({"kind": kind}).adaptive_kernels == 1
