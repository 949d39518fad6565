"""Variations of training images, on the device, one draw for all steps and both streams of a sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from realdiff_core.config import Strict
from torch import Tensor


class Augmentation(Strict):
    """How far images are varied; 0 switches a variation off.

    Attributes:
        crop: Take a random window instead of the middle one.
        brightness: Largest relative change of the brightness.
        contrast: Largest relative change of the contrast.
        saturation: Largest relative change of the saturation.
        camera_shift: Largest shift of the image as from a moved camera, in image widths.
        camera_rotation_deg: Largest rotation about the image's centre [°].
        camera_scale: Largest relative change of scale.

    The camera's defaults are about what `calibrate` leaves (5 mm, 0.3°): where an object is must be read off its place
    in the picture, and a window that wanders by centimetres of the table hides it.
    """

    crop: bool = True
    brightness: float = Field(default=0.2, ge=0.0, le=0.9)
    contrast: float = Field(default=0.2, ge=0.0, le=0.9)
    saturation: float = Field(default=0.2, ge=0.0, le=0.9)
    camera_shift: float = Field(default=0.004, ge=0.0, le=0.2)
    camera_rotation_deg: float = Field(default=0.3, ge=0.0, le=30.0)
    camera_scale: float = Field(default=0.004, ge=0.0, le=0.5)


def augment(
    colour: Tensor, depth: Tensor, crop: tuple[int, int], settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Varies and crops a batch of images.

    Args:
        colour: float[B, T, 3, H, W] in [0, 1].
        depth: float[B, T, H, W] in metres, 0 for holes.
        crop: Height and width of the result [px].
        settings: How far images are varied.
        generator: Source of the variations, on the images' device.

    Returns:
        Colour float[B, T, 3, h, w] in [0, 1] and depth float[B, T, h, w].
    """
    colour, depth = _window(colour, depth, crop, settings, generator)
    return _jitter_colour(colour, settings, generator), depth


def _uniform(count: int, largest: float, generator: torch.Generator, device: torch.device) -> Tensor:
    return (torch.rand(count, generator=generator, device=device) * 2.0 - 1.0) * largest


def _window(
    colour: Tensor, depth: Tensor, crop: tuple[int, int], settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cuts a window; with camera jitter it is shifted by fractions of pixels, turned and scaled.

    Colour is interpolated. Depth takes the nearest pixel: a mean of two surfaces would be a third that doesn't exist.
    """
    count, steps = colour.shape[:2]
    height, width = colour.shape[-2:]
    room_y, room_x = height - crop[0], width - crop[1]
    device = colour.device
    if settings.crop:
        # Whole pixels, so that an upright window needs no interpolation.
        top = torch.randint(0, room_y + 1, (count,), generator=generator, device=device)
        left = torch.randint(0, room_x + 1, (count,), generator=generator, device=device)
    else:
        top = torch.full((count,), room_y // 2, device=device)
        left = torch.full((count,), room_x // 2, device=device)
    rows = torch.arange(crop[0], device=device)[None, :, None] + top[:, None, None]
    columns = torch.arange(crop[1], device=device)[None, None, :] + left[:, None, None]
    if not (settings.camera_shift or settings.camera_rotation_deg or settings.camera_scale):
        sample = torch.arange(count, device=device)[:, None, None]
        picked = colour.permute(0, 3, 4, 1, 2)[sample, rows, columns]  # [B, h, w, T, 3]
        return picked.permute(0, 3, 4, 1, 2), depth.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2)
    angle = _uniform(count, math.radians(settings.camera_rotation_deg), generator, device)[:, None, None]
    scale = 1.0 + _uniform(count, settings.camera_scale, generator, device)[:, None, None]
    shift_y, shift_x = (
        _uniform(count, settings.camera_shift * width, generator, device)[:, None, None] for _ in range(2)
    )
    y = rows - (height - 1) / 2
    x = columns - (width - 1) / 2
    source_y = scale * (torch.cos(angle) * y + torch.sin(angle) * x) + shift_y
    source_x = scale * (torch.cos(angle) * x - torch.sin(angle) * y) + shift_x
    # grid_sample's coordinates: -1 and 1 are the centres of the outermost pixels (align_corners).
    grid = torch.stack([source_x / ((width - 1) / 2), source_y / ((height - 1) / 2)], dim=-1).float()
    moved = F.grid_sample(
        colour.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=True
    ).unflatten(1, (steps, 3))
    holes_outside = F.grid_sample(depth, grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved, holes_outside


def _jitter_colour(colour: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    count, device = len(colour), colour.device

    def factor(largest: float) -> Tensor:
        return 1.0 + _uniform(count, largest, generator, device).view(-1, 1, 1, 1, 1)

    if settings.brightness:
        colour = colour * factor(settings.brightness)
    if settings.contrast:
        mean = colour.mean(dim=(1, 2, 3, 4), keepdim=True)
        colour = (colour - mean) * factor(settings.contrast) + mean
    if settings.saturation:
        # Rec. 601 luma
        weights = torch.tensor((0.299, 0.587, 0.114), device=device).view(3, 1, 1)
        grey = (colour * weights).sum(dim=2, keepdim=True)
        colour = (colour - grey) * factor(settings.saturation) + grey
    return colour.clamp(0.0, 1.0)
