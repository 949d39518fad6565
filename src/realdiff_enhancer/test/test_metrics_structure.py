"""Correlation and spectrum of fields whose correlation and spectrum are known."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_enhancer.metrics.frames import CleanContext, Measurement, disparity_px
from realdiff_enhancer.metrics.structure import (
    SPECTRUM_BANDS,
    power_spectrum,
    spatial_correlation,
    structure_statistics,
    temporal_statistics,
)
from scipy.signal import lfilter

CAMERA = CameraModel(width=640, height=480, fx=615.0, fy=615.0, cx=320.0, cy=240.0, baseline_m=0.05)


def ar1_rows(coefficient: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Stationary AR(1) along the rows, independent between rows, unit variance."""
    noise = np.random.default_rng(seed).standard_normal((shape[0], shape[1] + 200))
    field = lfilter([np.sqrt(1 - coefficient**2)], [1, -coefficient], noise, axis=1)
    return field[:, 200:]


def test_correlation_of_an_ar1_field_is_its_coefficient_to_the_power_of_the_lag() -> None:
    field = ar1_rows(0.9, (480, 640), 0)
    result = spatial_correlation(field, np.ones(field.shape, dtype=bool))
    for lag in (1, 4, 8, 16, 32):
        assert result["correlation_rows", str(lag)][0] == pytest.approx(0.9**lag, abs=0.03)
        assert result["correlation_columns", str(lag)][0] == pytest.approx(0.0, abs=0.03)


def test_masked_pixels_do_not_leak_into_the_correlation() -> None:
    field = ar1_rows(0.9, (480, 640), 1)
    mask = np.random.default_rng(2).random(field.shape) > 0.3
    spoilt = np.where(mask, field, 1e6)
    result = spatial_correlation(spoilt, mask)
    assert result["correlation_rows", "4"][0] == pytest.approx(0.9**4, abs=0.03)
    assert result["correlation_rows", "4"][1] == (mask[:, 4:] & mask[:, :-4]).sum()


@pytest.mark.parametrize(
    ("wavelength", "band"), [(42.7, "32-64"), (21.3, "16-32"), (12.0, "8-16"), (6.0, "4-8"), (3.0, "2-4")]
)
def test_a_wave_lies_in_its_octave_with_half_its_squared_amplitude(wavelength: float, band: str) -> None:
    x = np.arange(640)
    wave = np.broadcast_to(0.4 * np.cos(2 * np.pi * x / wavelength), (480, 640))
    spectrum = power_spectrum(wave, np.ones(wave.shape, dtype=bool))
    powers = {label: spectrum["spectrum_px2", label][0] for label, _, _ in SPECTRUM_BANDS}
    assert max(powers, key=powers.__getitem__) == band
    assert sum(powers.values()) == pytest.approx(0.4**2 / 2, rel=0.16)
    # The tile's window blurs directions at wavelengths close to its side.
    assert spectrum["spectrum_row_share", band][0] > (0.75 if band == "32-64" else 0.95)


def test_white_noise_has_its_variance_in_the_spectrum_and_no_direction() -> None:
    field = np.random.default_rng(3).normal(0, 0.2, (480, 640))
    spectrum = power_spectrum(field, np.ones(field.shape, dtype=bool))
    assert sum(spectrum["spectrum_px2", label][0] for label, _, _ in SPECTRUM_BANDS) == pytest.approx(0.04, rel=0.03)
    assert spectrum["spectrum_row_share", "4-8"][0] == pytest.approx(0.5, abs=0.03)


def test_no_usable_tile_gives_no_spectrum() -> None:
    mask = np.ones((480, 640), dtype=bool)
    mask[::7] = False
    assert power_spectrum(np.zeros((480, 640)), mask) == {}


def measurement(residual_px: np.ndarray, holes: np.ndarray | None = None) -> Measurement:
    clean = np.full((480, 640), 0.8, dtype=np.float32)
    depth = CAMERA.disparity_factor / (disparity_px(clean, CAMERA) + residual_px)
    if holes is not None:
        depth = np.where(holes, np.nan, depth)
    return Measurement(CleanContext(clean, CAMERA), depth.astype(np.float32))


def test_a_disparity_residual_survives_the_way_through_depth() -> None:
    field = 0.1 * ar1_rows(0.9, (480, 640), 4)
    np.testing.assert_allclose(measurement(field).residual_px, field, atol=2e-5)
    statistics = structure_statistics(measurement(field))
    assert statistics["correlation_rows", "8"][0] == pytest.approx(0.9**8, abs=0.03)


def test_temporal_correlation_and_persistence_of_holes() -> None:
    rng = np.random.default_rng(5)
    first, fresh = rng.standard_normal((2, 480, 640))
    second = 0.8 * first + 0.6 * fresh
    earlier_holes = np.zeros((480, 640), dtype=bool)
    earlier_holes[:100] = True
    later_holes = np.zeros_like(earlier_holes)
    later_holes[10:119] = True  # 90 of 100 rows stay, 19 of 380 appear
    earlier, later = measurement(0.1 * first, earlier_holes), measurement(0.1 * second, later_holes)
    statistics = temporal_statistics(earlier, later)
    assert statistics["temporal_correlation", ""][0] == pytest.approx(0.8, abs=0.01)
    assert statistics["hole_persistence_pct", ""][0] == pytest.approx(90.0)
    assert statistics["hole_appearance_pct", ""][0] == pytest.approx(5.0)
