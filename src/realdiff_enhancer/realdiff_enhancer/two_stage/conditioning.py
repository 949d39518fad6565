"""What the networks see of a scene: features in fixed metric units, on each stage's grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.noise import FIXED_LAYERS
from .codec import depth_to_disparity
from .config import CodecConfig, StyleConfig, TwoStageConfig
from .geometry import GEOMETRY_CHANNELS, box_mean, edge_proximity, geometry_features, half_disparity

#: Padding of the image sides, so that every U-Net level of both stages divides evenly [px].
SIDE_MULTIPLE = 32
STYLE_CHANNELS = 3
COLOUR_CHANNELS = 3


@dataclass(frozen=True)
class Scene:
    """What a frame is generated from, on the device.

    Attributes:
        depth: clean depth [N,H,W] m, NaN unknown; sides multiples of `SIDE_MULTIPLE`.
        factor: f·B of the sensor's own stream [px·m], [N].
        label: kind of noise and, with distilled networks, number of steps: int64 [N].
        grey: luminance [N,H/2,W/2] in [0,1], NaN unknown; None without colour.
        style: the camera's setting as `style_values` codes it, float [N,3]; None without.
    """

    depth: Tensor
    factor: Tensor
    label: Tensor
    grey: Tensor | None = None
    style: Tensor | None = None

    def repeated(self, count: int) -> Scene:
        """Each frame `count` times in a row."""

        def again(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.repeat_interleave(count, dim=0)

        return replace(
            self,
            depth=self.depth.repeat_interleave(count, dim=0),
            factor=self.factor.repeat_interleave(count, dim=0),
            label=self.label.repeat_interleave(count, dim=0),
            grey=again(self.grey),
            style=again(self.style),
        )


@dataclass(frozen=True)
class SceneFeatures:
    """Features of a scene, shared by both stages.

    Attributes:
        full: [N,3,H,W].
        half: [N,K,H/2,W/2]; K is 0 where neither geometry nor colour is a condition.
        style: [N,S]; S is 0 without style.
        proximity: level of nearness to a depth edge [N,1,H/2,W/2] (`geometry.edge_proximity`).
    """

    full: Tensor
    half: Tensor
    style: Tensor
    proximity: Tensor


def pad_to_multiple(image: Tensor, value: float, multiple: int = SIDE_MULTIPLE) -> Tensor:
    """Pads [N,H,W] at the bottom and right to multiples of a number of pixels."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), value=value)


def surface_layers(depth_m: Tensor, size: tuple[int, int], cells: tuple[int, int], config: TwoStageConfig) -> Tensor:
    """Which of the noise's fixed fields every cell takes: the surface's disparity in steps, modulo their number.

    Args:
        depth_m: clean depth [N,H,W] m, NaN unknown (counted as infinitely far).
        size: of the sensor's own pixel grid, on which the noise arises.
        cells: height and width of the noise's grid, which covers that of the pixels, padded.
        config: f·B and the step.

    Returns:
        int64 [N,h,w] in [0, `FIXED_LAYERS`).
    """
    if size != tuple(depth_m.shape[-2:]):
        depth_m = F.interpolate(depth_m.unsqueeze(1), size=size, mode="nearest-exact").squeeze(1)
    padded = pad_to_multiple(depth_m, math.nan)
    stride = padded.shape[-2] // cells[0]
    centres = padded[..., stride // 2 :: stride, stride // 2 :: stride]
    disparity = torch.nan_to_num(config.codec.disparity_factor / centres, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.remainder(torch.floor(disparity / config.temporal.surface_step_px), FIXED_LAYERS).to(torch.int64)


def known_mask(depth_m: Tensor, config: CodecConfig) -> Tensor:
    """Pixels that the model may change: finite and within [near, far]. [N,H,W] bool."""
    return torch.isfinite(depth_m) & (depth_m >= config.near_m) & (depth_m <= config.far_m)


def style_values(edge_holes: Tensor, far_holes: Tensor, sigma_px: Tensor, codec: CodecConfig) -> Tensor:
    """Codes styles as numbers of about [-1,1]; [N] each in, [N,3] out. σ counts in the unit of the residual's code."""
    return torch.stack(
        [
            2.0 * edge_holes - 1.0,
            (torch.log10(far_holes + 1e-3) + 2.0) / 1.5,
            torch.log((sigma_px / style_unit_px(codec)).clamp(0.1, 50.0)),
        ],
        dim=-1,
    )


def style_unit_px(codec: CodecConfig) -> float:
    """The σ that a style codes as 0 [px of disparity]: 0.1 px for the scale of 0.15 px."""
    return codec.scale_px / 1.5


def style_tensor(style: StyleConfig, codec: CodecConfig, device: torch.device) -> Tensor:
    """A configured style as [1,3]."""
    edge, far, sigma = (torch.tensor([v], device=device) for v in (style.edge_holes, style.far_holes, style.sigma_px))
    return style_values(edge, far, sigma, codec)


def _filled_disparity(depth_m: Tensor, factor: Tensor, known: Tensor, config: CodecConfig) -> tuple[Tensor, Tensor]:
    depth = torch.where(known, depth_m, torch.full_like(depth_m, config.far_m))
    return depth, depth_to_disparity(depth, factor).unsqueeze(1)


def _colour_features(grey: Tensor) -> Tensor:
    """Luminance, horizontal texture (what stereo matching lives on) and availability: [N,3,h,w]."""
    known = torch.isfinite(grey).unsqueeze(1)
    image = torch.where(known, grey.unsqueeze(1), torch.full_like(grey.unsqueeze(1), 0.5))
    gradient = F.pad((image[..., 1:] - image[..., :-1]).abs(), (0, 1, 0, 0))
    texture = torch.log10(box_mean(gradient, 4) + 1e-3) / 1.5 + 1.0
    luminance = 2.0 * box_mean(image, 1) - 1.0
    available = known.to(image.dtype)
    return torch.cat([luminance * available, texture * available, available], dim=1)


def scene_features(scene: Scene, config: TwoStageConfig) -> SceneFeatures:
    """Features of a scene.

    The full-resolution ones are log depth scaled to [-1,1] over the metric range, the compressed difference of the
    disparity to its neighbourhood's mean (local relief, where edges and occlusions show) and validity.
    """
    codec = config.codec
    known = known_mask(scene.depth, codec)
    depth, disparity = _filled_disparity(scene.depth, scene.factor, known, codec)
    middle = 0.5 * math.log(codec.near_m * codec.far_m)
    half_range = 0.5 * math.log(codec.far_m / codec.near_m)
    log_depth = (torch.log(depth) - middle) / half_range
    # 33 px: about the footprint over which stereo matching mixes surfaces, twice over
    relief = torch.asinh(disparity - box_mean(disparity, 16)) / 3.0
    full = torch.cat([log_depth.unsqueeze(1), relief, known.to(depth.dtype).unsqueeze(1)], dim=1)
    small = half_disparity(disparity)
    parts: list[Tensor] = []
    if config.condition.geometry:
        parts.append(geometry_features(small, codec.native_fx_px))
        proximity = parts[0][:, 3:4] * 6.0
    else:
        proximity = edge_proximity(small)
    if config.condition.colour:
        grey = scene.grey if scene.grey is not None else torch.full_like(small[:, 0], math.nan)
        parts.append(_colour_features(grey))
    half = torch.cat(parts, dim=1) if parts else small[:, :0]
    style = small.new_zeros((len(small), 0))
    if config.condition.style:
        style = scene.style if scene.style is not None else style_tensor(config.style, codec, small.device)
        style = style.to(small.dtype).expand(len(small), -1)
    return SceneFeatures(full, half, style, proximity)


def condition(features: SceneFeatures, stride: int, *, detailed: bool) -> Tensor:
    """Features on a grid of `stride` pixels.

    Args:
        features: of the scene.
        stride: pixels per grid cell, even.
        detailed: True keeps every pixel (half-resolution features: every cell) as a channel by pixel unshuffle, False
            mean, minimum and maximum of a cell (half-resolution features: mean).

    Returns:
        float [N, condition_channels, H/stride, W/stride].
    """
    full, half = features.full, features.half
    if detailed:
        parts = [F.pixel_unshuffle(full, stride)]
        if half.shape[1]:
            parts.append(F.pixel_unshuffle(half, stride // 2))
    else:
        low = -F.max_pool2d(-full[:, :2], stride)
        parts = [F.avg_pool2d(full, stride), low, F.max_pool2d(full[:, :2], stride)]
        if half.shape[1]:
            parts.append(F.avg_pool2d(half, stride // 2))
    if features.style.shape[1]:
        size = parts[0].shape[-2:]
        parts.append(features.style[..., None, None].expand(-1, -1, *size))
    return torch.cat(parts, dim=1)


def condition_channels(config: TwoStageConfig, stride: int, *, detailed: bool) -> int:
    """Number of channels that `condition` returns."""
    conditions = config.condition
    half = GEOMETRY_CHANNELS * conditions.geometry + COLOUR_CHANNELS * conditions.colour
    per_cell = (3 * stride**2, half * (stride // 2) ** 2) if detailed else (3 + 2 + 2, half)
    return sum(per_cell) + STYLE_CHANNELS * conditions.style
