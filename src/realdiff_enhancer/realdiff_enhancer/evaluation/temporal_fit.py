"""How much of a model's noise must never change, so that its error persists as a real camera's does.

The networks and the rounding to mm bend the noise's correlation on its way to the depth's error, and part of the error
follows from the scene alone. So the way is measured: a model whose noise has the correlation c in every pair of frames
shows an error of correlation g(c). The camera's correlations over the lags, taken back through g, are what the noise
must have; s + (1 − s)·aᵏ is fitted to them. Camera and model are measured by the same means: the error on locally flat
surfaces against the plane through the median over time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError, DepthError

from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.static_camera import evened_error, fuse_static
from realdiff_enhancer.evaluation.clips import clip_camera, enhanced_clip
from realdiff_enhancer.metrics.temporal import TEMPORAL_LAGS, FixedAndAr1, error_correlation, fit_fixed_and_ar1
from realdiff_enhancer.models.base import DepthModel

#: Correlations of the noise at which the model's response is measured, and frames for each.
_CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
_RESPONSE_FRAMES = 10
#: Frames on which the model is measured with its own and with the fitted setting.
_CHECK_FRAMES = 24


@runtime_checkable
class TemporalModel(Protocol):
    """A model whose noise has a fixed part and an AR(1) part."""

    def with_temporal(self, static_share: float, correlation: float) -> DepthModel:
        """The same model with another behaviour over time."""
        ...


@dataclass(frozen=True)
class TemporalFit:
    """What was fitted, and how well.

    Attributes:
        clip: label of the clip.
        model: name of the model.
        lags: int [L], exposures.
        camera: float64 [L], correlation of the camera's error.
        noise: float64 [C], correlations of the noise from 0 to 1.
        response: float64 [C], correlation of the model's error at each.
        needed: float64 [L], correlation that the noise must have.
        setting: the fit to `needed`.
        halves: fits to the clip's first and second half of frames alone.
        before: float64 [L], correlation of the model's error as the model is.
        after: float64 [L], the same with the setting.
    """

    clip: str
    model: str
    lags: NDArray[np.int64]
    camera: NDArray[np.float64]
    noise: NDArray[np.float64]
    response: NDArray[np.float64]
    needed: NDArray[np.float64]
    setting: FixedAndAr1
    halves: tuple[FixedAndAr1, FixedAndAr1]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def misfit(self) -> tuple[float, float]:
        """Root mean square error of the correlation over the lags, before and after."""
        before, after = (float(np.sqrt(np.nanmean((found - self.camera) ** 2))) for found in (self.before, self.after))
        return before, after


def fit_temporal(
    clip: str,
    sequence: DepthSequence,
    profile: CameraProfile,
    model: DepthModel,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> TemporalFit:
    """Fit a model's fixed share and AR(1) coefficient to a clip of a camera at rest.

    Args:
        clip: its label.
        sequence: its frames, evenly spaced; their numbers count exposures.
        profile: camera that recorded it.
        model: made for that profile.
        seed: of the model.
        report: called with a line of text before each longer step.

    Raises:
        ConfigError: the model's noise has no such settings.
        DepthError: the camera moved, the clip is too short or unevenly spaced, or shows no flat surface.
    """
    if not isinstance(model, TemporalModel):
        raise ConfigError(
            f"the noise of the model {model.name!r} has no settings over time that could be fitted",
            expected="two_stage, a model trained like it, or disparity",
            got=model.name,
            next_step="leave it out, or leave --fit-temporal out",
        )
    spacing = np.unique(np.diff(sequence.numbers))
    lags = [lag for lag in TEMPORAL_LAGS if 2 * lag < len(sequence.depths_m)]
    if len(spacing) != 1 or len(lags) < 2:
        raise DepthError(
            "the clip can't show how noise persists",
            where=clip,
            expected="at least 5 frames, evenly spaced",
            got=f"{len(sequence.depths_m)} frames, {' and '.join(map(str, spacing[:4]))} exposures apart",
            next_step="choose a part of the recording without missing frames",
        )
    scene = fuse_static(sequence)
    camera = clip_camera(sequence, profile)
    usable = scene.flat & ~np.asarray(scene.moving.any(axis=0))
    clean = scene.clean_m
    exposures = np.array(lags, np.int64) * int(spacing[0])
    recorded = _error(sequence.depths_m, camera, usable)
    half = len(recorded) // 2
    measured = [
        error_correlation(part, [lag for lag in lags if lag < len(part)])
        for part in (recorded, recorded[:half], recorded[half:])
    ]

    report(f"{clip}: {model.name}: response to the noise's correlation")
    response = []
    for value in _CORRELATIONS:
        images = enhanced_clip(model.with_temporal(value, 0.0), clean, camera, range(_RESPONSE_FRAMES), seed)
        every = error_correlation(_error(images, camera, usable), range(1, _RESPONSE_FRAMES))
        response.append(float(np.average(every, weights=np.arange(_RESPONSE_FRAMES - 1, 0, -1))))
    noise, found = np.array((*_CORRELATIONS, 1.0)), np.maximum.accumulate((*response, 1.0))
    needed = [np.interp(values, found, noise) for values in measured]
    fits = [fit_fixed_and_ar1(exposures[: len(values)], values) for values in needed]

    def check(candidate: DepthModel) -> NDArray[np.float64]:
        images = enhanced_clip(candidate, clean, camera, sequence.numbers[:_CHECK_FRAMES], seed)
        error = _error(images, camera, usable)
        own = error_correlation(error, [lag for lag in lags if lag < len(error)])
        return np.pad(own, (0, len(lags) - len(own)), constant_values=np.nan)

    report(f"{clip}: {model.name}: checking the fit")
    fitted = model.with_temporal(fits[0].static_share, fits[0].correlation)
    return TemporalFit(
        clip,
        model.name,
        exposures,
        measured[0],
        noise,
        found,
        needed[0],
        fits[0],
        (fits[1], fits[2]),
        check(model),
        check(fitted),
    )


def _error(
    depths_m: Sequence[NDArray[np.float32]], camera: CameraModel, usable: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Error of a clip where it can be measured, float32 [N, pixels], pixels of disparity."""
    disparity = np.stack([np.float32(camera.disparity_factor) / depth for depth in depths_m])
    return evened_error(disparity)[:, usable]
