"""From sampled fields to depth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .bands import with_band_gains
from .codec import decode_residual, depth_to_disparity, encode_residual, upsample
from .conditioning import known_mask
from .config import StepCalibration, TwoStageConfig
from .geometry import box_mean
from .networks import fine_channels


def native_size(height: int, width: int, fx: float, native_fx: float) -> tuple[int, int]:
    """Size of an image on the sensor's own pixel grid.

    The sensor's errors arise on the pixels of its own depth stream: blobs of 10 to 20 of its pixels, σ as a share of
    its disparity. An image that was aligned to the colour camera or rescaled has other pixels but the same errors.

    Args:
        height: image rows.
        width: image columns.
        fx: the image's focal length [px].
        native_fx: focal length of the sensor's own depth stream [px].
    """
    scale = min(native_fx / fx, 4.0)
    if abs(scale - 1.0) < 0.02:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def decode_fields(
    coarse_code: Tensor,
    fine_sample: Tensor,
    config: TwoStageConfig,
    calibration: StepCalibration | None = None,
    proximity: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled tensors as images of the padded native grid.

    Args:
        coarse_code: n̂_L on the coarse grid.
        fine_sample: residual cells and hole field on the fine grid.
        config: model settings.
        calibration: correction for the number of steps; None corrects nothing.
        proximity: level of nearness to an edge [N,1,H/2,W/2]; needed with a calibration.

    Returns:
        Structural code, whole code, hole field (a hole where it is positive), [N,1,H,W] each.
    """
    cells, _ = fine_channels(config)
    low = upsample(coarse_code, config.coarse.stride)
    rest = F.pixel_shuffle(fine_sample[:, :cells], config.fine.stride // config.residual_px)
    hole = F.pixel_shuffle(fine_sample[:, cells:], config.fine.stride // config.holes.factor)
    hole = upsample(hole, config.holes.factor)
    if config.holes.smooth_px:
        hole = box_mean(hole, config.holes.smooth_px)
    total = low + upsample(rest, config.residual_px)
    if calibration is not None and proximity is not None:
        # in pixels: a factor on the compressed code would be a power of the residual, and throw its tails far out
        residual = calibration.gain * decode_residual(total, config.codec)
        if calibration.band_gain:
            residual = with_band_gains(residual, calibration.band_gain, config.codec.scale_px)
        total = encode_residual(residual, config.codec)
        offset = torch.zeros_like(proximity)
        for level, value in enumerate(calibration.hole_offset):
            offset = torch.where(proximity.round() == level, torch.full_like(offset, value), offset)
        hole = hole - F.interpolate(offset, scale_factor=2, mode="nearest")
    return low, total, hole


def apply_residual(
    clean: Tensor,
    factors: Tensor,
    fields: tuple[Tensor, Tensor, Tensor],
    config: TwoStageConfig,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Adds sampled residuals and holes to clean depth, quantised as the sensor quantises.

    Args:
        clean: clean depth [N,H,W] m, NaN unknown.
        factors: f·B of the sensor's own stream [px·m], [N].
        fields: of `decode_fields`.
        config: model settings.
        size: rows and columns of the native image without padding; None if they are the clean depth's own.

    Returns:
        Coarse and final depth [N,H,W] m. Pixels that are unknown or beyond the range are the input's own; pixels nearer
        than the sensor's near limit become NaN in the final depth.
    """
    codec = config.codec
    known = known_mask(clean, codec)
    rows, columns = size or clean.shape[-2:]
    images = torch.cat(fields, dim=1)[..., :rows, :columns]
    if (rows, columns) != tuple(clean.shape[-2:]):
        images = F.interpolate(images, size=clean.shape[-2:], mode="bilinear", align_corners=False)
    low, total, hole = images[:, 0], images[:, 1], images[:, 2] > 0
    disparity = depth_to_disparity(torch.where(known, clean, torch.ones_like(clean)), factors)

    def to_depth(code: Tensor, step: float) -> Tensor:
        noisy = disparity + decode_residual(code, codec)
        if step > 0:
            noisy = torch.round(noisy / step) * step
        return factors.view(-1, 1, 1) / noisy.clamp_min(1e-3)

    coarse = torch.where(known, to_depth(low, 0.0), clean)
    noisy = to_depth(total, codec.disparity_step_px)
    lost = hole | (noisy < codec.near_m) | (noisy > 4.0 * codec.far_m)
    noisy = torch.where(lost, torch.full_like(noisy, float("nan")), noisy)
    too_near = torch.isfinite(clean) & (clean < codec.near_m)
    final = torch.where(known, noisy, clean)
    return coarse, torch.where(too_near, torch.full_like(final, float("nan")), final)
