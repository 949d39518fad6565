"""Fitting how noise persists: the share that never changes and the AR(1) coefficient come back from a known clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from realdiff_core.config import camera_profile
from realdiff_core.errors import ConfigError, DepthError
from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.static_camera import evened_error
from realdiff_enhancer.evaluation.statistics_page import markdown
from realdiff_enhancer.evaluation.temporal_fit import fit_temporal
from realdiff_enhancer.metrics.temporal import error_correlation, fit_fixed_and_ar1
from realdiff_enhancer.models import DepthFrames, EnhancedFrames, create_model
from realdiff_enhancer.models.noise import CorrelatedNoise

PROFILE = camera_profile("d435")
SHAPE = (180, 240)
K = np.array([[200.0, 0, 120], [0, 200.0, 90], [0, 0, 1]])
FACTOR = 200.0 * PROFILE.baseline_m
LAGS = np.array([1, 2, 4, 8, 16])


def _field(rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.standard_normal(SHAPE), (0, 0), 1.5)
    return noise / noise.std()


def _wall() -> np.ndarray:
    return 12.0 + 4.0 * np.mgrid[: SHAPE[0], : SHAPE[1]][0] / SHAPE[0]


def _clip(share: float, coefficient: float, frames: int = 40, every: int = 1, sigma_px: float = 0.15) -> DepthSequence:
    """A slanted wall under noise that is made without the package: a fixed field and a recursive AR(1)."""
    rng = np.random.default_rng(1)
    fixed, state, depths = _field(rng), _field(rng), []
    for index in range((frames - 1) * every + 1):
        if index % every == 0:
            error = sigma_px * (np.sqrt(share) * fixed + np.sqrt(1 - share) * state)
            depths.append((FACTOR / (_wall() + error)).astype(np.float32))
        state = coefficient * state + np.sqrt(1 - coefficient**2) * _field(rng)
    return DepthSequence(depths, list(range(0, frames * every, every)), K, PROFILE.baseline_m)


class _Bent:
    """A model whose error is a bent function of its noise, on top of an error that the scene alone decides."""

    name = "bent"
    weights_sha256 = None
    uses_colour = False

    def __init__(self, share: float, coefficient: float) -> None:
        self._noise = CorrelatedNoise.ar1(coefficient, 12 if coefficient else 0, "", share)
        self.history = self._noise.history
        self._own = 0.06 * _field(np.random.default_rng(77))

    def with_temporal(self, static_share: float, correlation: float) -> _Bent:
        return _Bent(static_share, correlation)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        factor = frames.camera.disparity_factor
        white = self._noise.fields(frames.seeds, SHAPE, frames.previous_seeds, frames.stream_seed)
        noise = np.stack([cv2.GaussianBlur(w, (0, 0), 1.5) for w in white])
        error = self._own + 0.1 * np.sign(noise) * np.abs(noise / noise.std()) ** 1.5
        return EnhancedFrames((factor / (factor / frames.depth + error)).astype(np.float32))


@pytest.mark.parametrize(("share", "coefficient"), [(0.0, 0.9), (0.47, 0.3), (0.8, 0.5), (0.6, 0.0)])
def test_share_and_coefficient_are_found(share: float, coefficient: float) -> None:
    found = fit_fixed_and_ar1(LAGS, share + (1 - share) * coefficient**LAGS)
    assert (found.static_share, found.correlation) == pytest.approx((share, coefficient), abs=1e-6)
    np.testing.assert_allclose(found.at(LAGS), share + (1 - share) * coefficient**LAGS, atol=1e-6)


def test_share_stays_in_its_range() -> None:
    assert fit_fixed_and_ar1(LAGS, np.ones(5)).static_share == 1.0
    assert fit_fixed_and_ar1(LAGS, np.full(5, -0.1)).static_share == 0.0


def _correlation_of(sequence: DepthSequence, lags: Sequence[int]) -> np.ndarray:
    return error_correlation(evened_error(np.stack([np.float32(FACTOR) / d for d in sequence.depths_m])), lags)


def test_error_of_a_clip_shows_the_correlation_it_was_made_with() -> None:
    found = _correlation_of(_clip(0.5, 0.6), LAGS)
    np.testing.assert_allclose(found, 0.5 + 0.5 * 0.6**LAGS, atol=0.05)
    with pytest.raises(DepthError, match="too few pixels"):
        error_correlation(np.full((4, 90, 90), np.nan), [1])


@pytest.mark.parametrize(("share", "coefficient", "every"), [(0.5, 0.7, 1), (0.6, 0.8, 4)])
def test_a_model_is_fitted_through_its_own_response(share: float, coefficient: float, every: int) -> None:
    sequence = _clip(share, coefficient, every=every)
    fit = fit_temporal("wall", sequence, PROFILE, _Bent(0.0, 0.9), seed=3)
    assert fit.lags.tolist() == (LAGS * every).tolist()
    np.testing.assert_allclose(fit.camera, share + (1 - share) * coefficient**fit.lags, atol=0.06)
    assert fit.response[0] > 0.1, "the scene's own part stays without any correlation of the noise"
    assert (np.diff(fit.response) > 0).all() and fit.response[-1] == 1.0
    np.testing.assert_allclose(fit.after, fit.camera, atol=0.05)
    before, after = fit.misfit
    assert after < 0.04 and before > 3 * after
    assert fit.setting.static_share < share, "the scene's own part is fixed already"
    text = markdown([], [], {"command": "", "seed": 3, "hardware": ""}, [fit])
    assert f"s = {fit.setting.static_share:.3f}" in text and "model with the fit" in text
    assert f'"static_share": {fit.setting.static_share:.2f}, "correlation": {fit.setting.correlation:.2f}' in text


def test_what_can_not_be_fitted_is_refused() -> None:
    sequence = _clip(0.5, 0.5, frames=12)
    with pytest.raises(ConfigError, match="'gaussian' has no settings over time"):
        fit_temporal("wall", sequence, PROFILE, create_model("gaussian", profile=PROFILE), 0)
    uneven = replace(sequence, numbers=[*range(11), 13])
    with pytest.raises(DepthError, match="evenly spaced"):
        fit_temporal("wall", uneven, PROFILE, _Bent(0.0, 0.9), 0)
