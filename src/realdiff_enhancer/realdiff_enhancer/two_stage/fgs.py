"""Frequency-guided supervision: the structural part of the noise, n_L = F⁻¹(M · F(n)) (paper section 3.2).

The paper calls M a high-pass filter but describes its result as the middle and low frequencies; M is therefore a
Gaussian low-pass here, and the literal high-pass is kept as an ablation. Holes would leak into their surroundings
through a plain filter, so the filter is a normalised convolution: numerator and denominator are filtered alike.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import GuidanceConfig


def _gaussian_transfer(height: int, width: int, sigma_px: float, device: torch.device) -> Tensor:
    fy = torch.fft.fftfreq(height, device=device).view(-1, 1)
    fx = torch.fft.rfftfreq(width, device=device).view(1, -1)
    return torch.exp(-2.0 * (math.pi * sigma_px) ** 2 * (fx * fx + fy * fy))


def _filter(image: Tensor, sigma_px: float) -> Tensor:
    margin = math.ceil(3 * sigma_px)
    padded = F.pad(image, (margin, margin, margin, margin))
    height, width = padded.shape[-2:]
    transfer = _gaussian_transfer(height, width, sigma_px, image.device)
    result = torch.fft.irfft2(torch.fft.rfft2(padded.float()) * transfer, s=(height, width))
    return result[..., margin:-margin, margin:-margin].to(image.dtype)


def structural_noise(code: Tensor, mask: Tensor, config: GuidanceConfig) -> tuple[Tensor, Tensor]:
    """Structural part of a residual field.

    Args:
        code: residual [N,1,H,W] in code units; any value where `mask` is 0.
        mask: float [N,1,H,W], 1 where clean and real depth are both valid.
        config: filter and cut-off.

    Returns:
        n_L [N,1,H,W] (0 where there is no support) and its support [N,1,H,W] in [0,1]: the filtered mask.
    """
    code = code * mask
    if config.filter == "none":
        return code, mask
    weight = _filter(mask, config.sigma_px).clamp(0, 1)
    low = _filter(code, config.sigma_px) / weight.clamp_min(1e-3)
    low = torch.where(weight > 1e-2, low, torch.zeros_like(low))
    if config.filter == "high_pass":
        return (code - low) * mask, mask
    return low, weight
