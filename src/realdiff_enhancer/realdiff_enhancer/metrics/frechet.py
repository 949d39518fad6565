"""Fréchet distance between the features of real and generated crops.

Two Gaussians are fitted to the features; the distance is ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) (Dowson and Landau 1982;
used on network features by Heusel et al. 2017). Two views of a depth image are compared, each as a grey image:

- ``residual``: measured minus clean disparity, ±1 px over the grey range, holes black: the noise by itself;
- ``depth``: inverse depth over the camera's fixed range, holes black: what a viewer of the depth image sees.

With few crops the distance is biased upwards, alike for every model on the same crops; numbers of different scenes or
crop counts can't be compared. The camera's own row (odd against even frames) says what this scene can resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bootstrap import BLOCK_FRAMES, Estimate
from realdiff_enhancer.metrics.crops import grid_corners
from realdiff_enhancer.metrics.frames import Measurement, disparity_px

if TYPE_CHECKING:
    import torch

#: Residual at which the grey range ends, disparity pixels.
RESIDUAL_RANGE_PX = 1.0
VIEWS = ("residual", "depth")


def view_image(measurement: Measurement, view: str, range_m: tuple[float, float]) -> NDArray[np.float32]:
    """Draw a depth image as the extractor sees it.

    Args:
        measurement: the frame; pixels without clean depth are grey in every source alike.
        view: one of :data:`VIEWS`.
        range_m: near and far limit of the camera, m.

    Returns:
        float32 [H, W] in [0, 1]; holes 0.
    """
    context = measurement.context
    if view == "residual":
        grey = 0.5 + 0.5 * np.clip(measurement.residual_px / RESIDUAL_RANGE_PX, -1.0, 1.0)
    else:
        near, far = (context.camera.disparity_factor / limit for limit in range_m)
        disparity = disparity_px(np.where(context.known, measurement.depth, np.nan), context.camera)
        grey = np.clip((disparity - far) / (near - far), 0.0, 1.0)
    grey = np.where(measurement.hole, 0.0, grey)
    return np.where(context.known, grey, 0.5).astype(np.float32)


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features.

    The square root's trace is the nuclear norm of A·Bᵀ with AᵀA = Σ₁ and BᵀB = Σ₂, which needs no square root of a
    matrix that few samples leave singular.

    Args:
        first: [N, D], N ≥ 2.
        second: [M, D], M ≥ 2.

    Returns:
        The squared distance, ≥ 0.
    """
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (np.asarray(first, float), np.asarray(second, float))]
    mean = float(((first.mean(0) - second.mean(0)) ** 2).sum())
    factors = [np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x for x in centred]
    cross = float(np.linalg.svd(factors[0] @ factors[1].T, full_matrices=False, compute_uv=False).sum())
    return max(0.0, mean + float((centred[0] ** 2).sum() + (centred[1] ** 2).sum()) - 2 * cross)


def frechet_estimate(
    real: NDArray[np.floating],
    generated: NDArray[np.floating],
    real_frame: NDArray[np.integer],
    generated_frame: NDArray[np.integer],
) -> Estimate:
    """Return the distance with a 95 % interval from a jackknife over blocks of consecutive frames.

    Resampling with repetition would change the distance itself, whose bias depends on the number of different crops.

    Args:
        real: [N, D] features.
        generated: [M, D].
        real_frame: [N], frame of each crop.
        generated_frame: [M].
    """
    value = frechet_distance(real, generated)
    frames = np.unique(np.concatenate([real_frame, generated_frame]))
    size = max(1, min(BLOCK_FRAMES, len(frames) // 4))
    blocks = np.array_split(frames, max(1, len(frames) // size))
    if len(blocks) < 3:
        return Estimate(value, float("nan"), float("nan"), len(frames))
    left_out = np.array(
        [
            frechet_distance(real[~np.isin(real_frame, block)], generated[~np.isin(generated_frame, block)])
            for block in blocks
        ]
    )
    error = float(np.sqrt((len(blocks) - 1) * left_out.var()))
    return Estimate(value, max(0.0, value - 1.96 * error), value + 1.96 * error, len(frames))


class FrechetTest:
    """Features of a scene's real frames, against which models are measured.

    Args:
        network: feature extractor.
        real: real frames in temporal order.
        range_m: near and far limit of the camera, m.
    """

    def __init__(self, network: torch.nn.Module, real: Sequence[Measurement], range_m: tuple[float, float]) -> None:
        """Compute the features of the real frames."""
        self._network, self._range = network, range_m
        self._corners = [grid_corners(measurement.context.known) for measurement in real]
        self._real = {view: self._features(real, view) for view in VIEWS}

    def of(self, generated: Sequence[Measurement]) -> dict[str, Estimate]:
        """Measure a model on the same frames: distance by view."""
        result = {}
        for view in VIEWS:
            features, frame = self._features(generated, view)
            result[view] = frechet_estimate(self._real[view][0], features, self._real[view][1], frame)
        return result

    def of_camera(self) -> dict[str, Estimate]:
        """Measure the camera's odd against its even frames: the scene's own spread, on half of the crops."""
        result = {}
        for view in VIEWS:
            features, frame = self._real[view]
            odd = frame % 2 == 1
            result[view] = frechet_estimate(features[odd], features[~odd], frame[odd], frame[~odd])
        return result

    def _features(
        self, measurements: Sequence[Measurement], view: str
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from realdiff_enhancer.metrics.image_features import crop_features

        images = [view_image(measurement, view, self._range) for measurement in measurements]
        return crop_features(self._network, images, self._corners)
