"""Residual, holes, edges and incidence against values known from how the images were made."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_core.errors import DepthError
from realdiff_enhancer.metrics.bins import EDGE_BINS
from realdiff_enhancer.metrics.frames import CleanContext, Measurement, clean_edges
from realdiff_enhancer.metrics.holes import hole_iou, hole_statistics
from realdiff_enhancer.metrics.residual import residual_statistics, robust_sigma

CAMERA = CameraModel(width=160, height=120, fx=150.0, fy=150.0, cx=79.5, cy=59.5, baseline_m=0.05)


def wall(depth_m: float) -> np.ndarray:
    return np.full((120, 160), depth_m, dtype=np.float32)


def test_sigma_and_bias_of_a_known_gaussian_fall_into_the_right_depth_bin() -> None:
    noise = np.random.default_rng(0).normal(2e-3, 5e-3, (120, 160)).astype(np.float32)
    clean = wall(0.7)
    statistics = residual_statistics(Measurement(CleanContext(clean, CAMERA), clean + noise))
    for name, expected in (
        ("sigma_robust_mm", 5.0),
        ("sigma_plain_mm", 5.0),
        ("bias_median_mm", 2.0),
        ("bias_mean_mm", 2.0),
    ):
        for region in ("away", "all"):
            value, weight = statistics[f"{name}_{region}", "0.6-0.8"]
            assert value == pytest.approx(expected, abs=0.15)
            assert weight == 120 * 160
            assert (f"{name}_{region}", "0.8-1") not in statistics


def test_robust_sigma_ignores_what_plain_sigma_sees() -> None:
    values = np.random.default_rng(1).normal(0, 3.0, 20_000)
    values[:600] += 500
    assert robust_sigma(values) == pytest.approx(3.0, rel=0.08)
    assert values.std() > 50


def test_a_bin_with_hardly_a_pixel_says_nothing() -> None:
    clean = wall(0.7)
    clean[0, :20] = 1.1
    statistics = residual_statistics(Measurement(CleanContext(clean, CAMERA), clean))
    assert ("sigma_robust_mm_all", "0.6-0.8") in statistics
    assert ("sigma_robust_mm_all", "1-1.25") not in statistics


def test_unknown_clean_pixels_take_part_in_nothing() -> None:
    clean = wall(0.7)
    clean[:, :80] = np.nan
    context = CleanContext(clean, CAMERA)
    tidy = wall(0.7)
    wild = tidy.copy()
    wild[:60, :80] = 9.0
    wild[60:, :80] = np.nan
    first, second = (Measurement(context, depth) for depth in (tidy, wild))
    assert residual_statistics(first) == residual_statistics(second)
    assert hole_statistics(first) == hole_statistics(second)
    assert hole_statistics(second)["hole_rate_pct", ""] == (0.0, 120 * 80)


def test_outlier_shares_are_counted_among_valid_pixels() -> None:
    clean = wall(1.0)
    depth = clean.copy()
    depth[:12] += 0.03  # a tenth of the rows beyond 2 cm
    depth[12:18] -= 0.06  # a twentieth beyond both
    depth[60:] = np.nan  # holes don't count
    statistics = residual_statistics(Measurement(CleanContext(clean, CAMERA), depth))
    assert statistics["outliers_2cm_pct", ""] == pytest.approx((100 * 18 / 60, 60 * 160))
    assert statistics["outliers_5cm_pct", ""] == pytest.approx((100 * 6 / 60, 60 * 160))


def test_edges_are_depth_steps_between_known_pixels_only() -> None:
    clean = wall(1.0)
    clean[:, 80:] = 1.1
    clean[40:50, 20:30] = np.nan
    edges = clean_edges(clean)
    expected = np.zeros_like(edges)
    expected[:, 79:81] = True
    np.testing.assert_array_equal(edges, expected)
    clean[:, 80:] = 1.02  # less than 3 %
    assert not clean_edges(clean).any()


def test_hole_rate_by_distance_to_an_edge_on_a_hand_made_image() -> None:
    clean = wall(1.0)
    clean[:, 80:] = 1.5  # edge pixels are columns 79 and 80
    depth = clean.copy()
    depth[:30, 79:81] = np.nan  # a quarter of the edge pixels
    depth[:, 82] = np.nan  # distance 2, on one side only
    depth[:60, 70] = np.nan  # distance 9, half of one of the 10 columns at 8..12 px
    statistics = hole_statistics(Measurement(CleanContext(clean, CAMERA), depth))
    rates = {edge_bin.label: statistics["hole_rate_by_edge_pct", edge_bin.label][0] for edge_bin in EDGE_BINS}
    assert rates["0-1"] == pytest.approx(100 * 30 * 2 / (120 * 4))  # columns 78..81
    assert rates["1-2"] == pytest.approx(50.0)  # columns 77 and 82
    assert rates["3-5"] == 0.0
    assert rates["8-12"] == pytest.approx(100 * 60 / (120 * 10))
    assert rates[">40"] == 0.0
    assert statistics["hole_rate_pct", ""][0] == pytest.approx(100 * (60 + 120 + 60) / (120 * 160))


def test_an_image_without_edges_is_far_from_edges() -> None:
    context = CleanContext(wall(1.0), CAMERA)
    assert np.isinf(context.edge_distance).all()
    statistics = hole_statistics(Measurement(context, wall(1.0)))
    assert ("hole_rate_by_edge_pct", "0-1") not in statistics
    assert statistics["hole_rate_by_edge_pct", ">40"] == (0.0, 120 * 160)


@pytest.mark.parametrize("tilt_deg", [0.0, 30.0, 60.0])
def test_incidence_of_a_tilted_plane(tilt_deg: float) -> None:
    """The plane turns about the image's vertical axis; on the optical axis the cosine is that of the tilt."""
    slope = np.tan(np.radians(tilt_deg))
    ray_x = (np.arange(160) - CAMERA.cx) / CAMERA.fx
    depth = np.broadcast_to(1.0 / (1.0 - slope * ray_x), (120, 160))  # z = 1 + slope · x
    depth = np.where((depth > 0.3) & (depth < 3), depth, np.nan).astype(np.float32)
    cosine = CleanContext(depth, CAMERA).cos_incidence
    assert cosine[60, 80] == pytest.approx(np.cos(np.radians(tilt_deg)), abs=0.01)
    ray = np.array([ray_x[100], 0.0, 1.0])
    normal = np.array([-slope, 0.0, 1.0])
    expected = abs(ray @ normal) / np.linalg.norm(ray) / np.linalg.norm(normal)
    assert cosine[60, 100] == pytest.approx(expected, abs=0.01)


def test_hole_rate_by_incidence_finds_holes_on_the_slanted_half_only() -> None:
    ray_x = (np.arange(160) - CAMERA.cx) / CAMERA.fx
    slanted = 1.0 / (1.0 - np.tan(np.radians(55)) * ray_x)
    depth = np.where(np.arange(160) < 80, 1.0, slanted)
    clean = np.broadcast_to(depth, (120, 160)).astype(np.float32)
    measured = clean.copy()
    measured[:, 80:] = np.nan
    statistics = hole_statistics(Measurement(CleanContext(clean, CAMERA), measured))
    assert statistics["hole_rate_by_incidence_pct", ">0.97"][0] < 5
    assert statistics["hole_rate_by_incidence_pct", "0.35-0.5"][0] > 95


def test_hole_iou() -> None:
    context = CleanContext(wall(1.0), CAMERA)
    first, second = wall(1.0), wall(1.0)
    first[:20], second[10:30] = np.nan, np.nan
    a, b = Measurement(context, first), Measurement(context, second)
    assert hole_iou(a, b) == pytest.approx(10 / 30)
    assert hole_iou(a, a) == 1.0
    full = Measurement(context, wall(1.0))
    assert np.isnan(hole_iou(full, full))


def test_wrong_sizes_and_a_missing_baseline_are_refused() -> None:
    with pytest.raises(DepthError, match="camera"):
        CleanContext(np.ones((10, 10), dtype=np.float32), CAMERA)
    with pytest.raises(DepthError, match="size"):
        Measurement(CleanContext(wall(1.0), CAMERA), np.ones((10, 10), dtype=np.float32))
    blind = CameraModel(width=160, height=120, fx=150.0, fy=150.0, cx=79.5, cy=59.5)
    with pytest.raises(DepthError, match="baseline"):
        CleanContext(wall(1.0), blind)
