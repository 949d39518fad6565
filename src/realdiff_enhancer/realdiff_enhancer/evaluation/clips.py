"""Clips of a camera at rest: how its noise persists, beside what a model makes of the same scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile
from realdiff_core.errors import RealdiffError
from realdiff_core.seeds import frame_seed, stream_seed
from realdiff_core.topics import ALIGNED_DEPTH_IMAGE

from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.static_camera import fuse_static
from realdiff_enhancer.evaluation.runner import REAL
from realdiff_enhancer.metrics.temporal import TemporalStatistics, temporal_statistics_of_clip
from realdiff_enhancer.models.base import DepthFrames, DepthModel

#: Between exposures at 30 Hz.
_PERIOD_NS = 33_333_333


@dataclass(frozen=True)
class ClipResult:
    """What was measured on a clip.

    Attributes:
        name: label.
        path: the clip.
        sigma_px: σ of the whole error, pixels of disparity; None where it is unknown.
        sources: statistics of the camera and of every model, by name.
        model_sigma_px: σ of every model's whole error against its clean input, pixels.
    """

    name: str
    path: Path
    sigma_px: float | None
    sources: dict[str, TemporalStatistics]
    model_sigma_px: dict[str, float]

    def sigma_of(self, name: str) -> float | None:
        """σ of a source's whole error, pixels: the camera's is given, a model's follows from its clean input."""
        return self.sigma_px if name == REAL else self.model_sigma_px.get(name)


def measure_clip(
    name: str,
    path: Path,
    sequence: DepthSequence,
    profile: CameraProfile,
    models: Sequence[DepthModel],
    sigma_px: float | None,
    seed: int,
) -> ClipResult:
    """Measure a clip of a camera at rest, and models on its fused depth.

    Args:
        name: label.
        path: where it came from.
        sequence: its frames, evenly spaced.
        profile: camera that recorded it.
        models: made for that profile.
        sigma_px: σ of the camera's whole error, from pairs; None where unknown.
        seed: seed of the models.

    Raises:
        DepthError: the camera moved, or the clip is too short.
        RealdiffError: a model needs colour, which clips come without.
    """
    scene = fuse_static(sequence)
    camera = clip_camera(sequence, profile)
    still = ~np.asarray(scene.moving.any(axis=0))
    usable = still & scene.flat
    factor = camera.disparity_factor
    sources = {REAL: _statistics(sequence.depths_m, factor, usable, still)}
    sigmas: dict[str, float] = {}
    for model in models:
        try:
            depth = enhanced_clip(model, scene.clean_m, camera, sequence.numbers, seed)
        except RealdiffError as refusal:
            raise refusal.at(path) from None
        sources[model.name] = _statistics(depth, factor, usable, still)
        error = np.stack([factor / image - factor / scene.clean_m for image in depth])[:, usable]
        error = error[np.isfinite(error) & (np.abs(error) < 1.0)]
        sigmas[model.name] = float(error.std()) if error.size else float("nan")
    return ClipResult(name, path, sigma_px, sources, sigmas)


def _statistics(
    depths: Sequence[NDArray[np.floating]], factor: float, usable: NDArray[np.bool_], still: NDArray[np.bool_]
) -> TemporalStatistics:
    return temporal_statistics_of_clip([factor / depth for depth in depths], usable, still)


def clip_camera(sequence: DepthSequence, profile: CameraProfile) -> CameraModel:
    """The clip's intrinsics with the profile's baseline."""
    height, width = sequence.depths_m[0].shape
    matrix = sequence.K
    return CameraModel(
        width, height, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], baseline_m=profile.baseline_m
    )


def enhanced_clip(
    model: DepthModel, clean: NDArray[np.float32], camera: CameraModel, numbers: Sequence[int], seed: int
) -> list[NDArray[np.float32]]:
    """The clean scene, enhanced as some of the exposures of a stream and rounded to whole mm like recorded depth.

    Args:
        model: the model.
        clean: float32 [H, W], m.
        camera: its camera.
        numbers: of the exposures, ascending. Those between them get seeds, too: noise decays over the real time.
        seed: of the stream.

    Returns:
        float32 [H, W] each, m, NaN = hole.

    Raises:
        RealdiffError: the model needs colour, which clips come without.
    """
    fixed = stream_seed(seed, ALIGNED_DEPTH_IMAGE)
    images = []
    for number in numbers:
        first = max(numbers[0], number - model.history)
        seeds = [frame_seed(seed, ALIGNED_DEPTH_IMAGE, n * _PERIOD_NS) for n in range(first, number + 1)]
        frames = DepthFrames(clean[None], None, camera, (seeds[-1],), tuple(seeds[:-1]), fixed)
        images.append((np.round(model.enhance(frames).depth[0] * 1000) / 1000).astype(np.float32))
    return images
