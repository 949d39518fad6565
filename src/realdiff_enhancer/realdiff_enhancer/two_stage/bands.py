"""Octave bands of a residual, whose strengths are corrected one by one.

Few sampling steps lose variance unevenly: the middle wavelengths most. One gain for all of them then makes the longest
too strong, and leaves a grain that tells a sample from the camera. A factor a band keeps what the networks draw (where,
with which tails, how it goes with the scene) and corrects how rough it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .geometry import box_mean

#: Radii of the box means, applied twice, that part the bands [px]: they halve the amplitude of wavelengths of 7, 16 and
#: 34 px.
BAND_RADII = (1, 3, 7)
BANDS = len(BAND_RADII) + 1
#: Residuals beyond this many scales of the code belong to edges and gross errors: what exceeds it is in no band, lest a
#: factor rings around it.
_LIMIT_SCALES = 4.0


def _smooth(field: Tensor, radius: int) -> Tensor:
    return box_mean(box_mean(field, radius), radius)


def split(residual: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Bands of a residual, from the shortest wavelengths to the longest; they add up to it.

    Args:
        residual: [N,1,H,W].
        mask: [N,1,H,W], 1 where the residual is known; what isn't is filled from around it. None: everywhere.
    """
    bands, finer = [], residual
    for radius in BAND_RADII:
        smooth = _smooth(residual, radius)
        if mask is not None:
            smooth = _smooth(residual * mask, radius) / _smooth(mask, radius).clamp_min(1e-3)
        bands.append(finer - smooth)
        finer = smooth
    return [*bands, finer]


def small(residual: Tensor, scale_px: float) -> Tensor:
    """The residual [px] without what edges and gross errors have more than noise."""
    limit = _LIMIT_SCALES * scale_px
    return residual.clamp(-limit, limit)


def with_band_gains(residual: Tensor, gains: tuple[float, ...], scale_px: float) -> Tensor:
    """The residual [px] with every band times its factor.

    Args:
        residual: [N,1,H,W].
        gains: a factor for every band.
        scale_px: of the codec.
    """
    result = residual
    for band, gain in zip(split(small(residual, scale_px)), gains, strict=True):
        result = result + (gain - 1.0) * band
    return result


def band_strengths(residual: Tensor, mask: Tensor, scale_px: float) -> Tensor:
    """Mean square of every band [px²], and how many pixels it comes from: [BANDS + 1].

    Only pixels count whose surroundings are nearly all known, so that holes don't take part.

    Args:
        residual: [N,1,H,W].
        mask: [N,1,H,W], 1 where it is known and noise.
        scale_px: of the codec.
    """
    inside = (mask > 0) & (_smooth(mask, BAND_RADII[-1]) > 0.98)
    count = inside.sum()
    squares = [(band[inside] ** 2).sum() / count.clamp_min(1) for band in split(small(residual, scale_px), mask)]
    return torch.stack([*squares, count.to(residual.dtype)])
