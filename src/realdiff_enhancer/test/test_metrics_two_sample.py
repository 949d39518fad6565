"""The classifiers' scores and the two-sample tests on data whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdiff_core.camera import CameraModel
from realdiff_core.errors import DepthError
from realdiff_enhancer.metrics.bootstrap import aggregate, block_counts
from realdiff_enhancer.metrics.classification import fit_logistic, score
from realdiff_enhancer.metrics.crop_statistics import STATISTIC_NAMES, crop_statistics
from realdiff_enhancer.metrics.crops import Fold, grid_corners, temporal_folds
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.two_sample import CropBank, network_test, statistics_test

CAMERA = CameraModel(width=256, height=192, fx=250.0, fy=250.0, cx=127.5, cy=95.5, baseline_m=0.05)
FRAMES = 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny batches on a busy machine: several threads would wait for each other most of the time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene(seed: int, blur: float, sigma_px: float = 0.15) -> list[Measurement]:
    """Frames of a wall with correlated disparity noise of a given blur width and σ."""
    rng = np.random.default_rng(seed)
    clean = np.full((192, 256), 0.8, dtype=np.float32)
    clean[60:120, 80:150] = 0.6
    context = CleanContext(clean, CAMERA)
    frames = []
    for _ in range(FRAMES):
        noise = cv2.GaussianBlur(rng.standard_normal(clean.shape), (0, 0), blur)
        noise *= sigma_px / noise.std()
        depth = CAMERA.disparity_factor / (context.disparity + noise)
        depth[rng.random(clean.shape) < 0.02] = np.nan
        frames.append(Measurement(context, depth.astype(np.float32)))
    return frames


REAL, SAME, ROUGH = scene(0, 4.0), scene(1, 4.0), scene(2, 1.5)
FOLDS = temporal_folds(FRAMES)
COUNTS = block_counts(FRAMES, 200, 0)


def test_statistics_test_is_near_half_for_the_same_distribution_and_near_one_for_another() -> None:
    same = statistics_test(REAL, SAME, FOLDS, COUNTS)
    other = statistics_test(REAL, ROUGH, FOLDS, COUNTS)
    assert 0.3 < same.auc.value < 0.7
    assert 0.3 < same.balanced_accuracy.value < 0.7
    assert other.auc.value > 0.98
    assert other.balanced_accuracy.value > 0.95
    assert other.log_loss_bits.value < 0.3 < same.log_loss_bits.value
    assert other.frames == FRAMES
    assert other.crops == FRAMES * 3 * 4


def test_network_test_is_near_half_for_the_same_distribution_and_near_one_for_another() -> None:
    bank = CropBank([measurement.context for measurement in REAL])
    same = network_test(bank, REAL, SAME, FOLDS[:1], COUNTS, seed=0, steps=40, batch=8)
    other = network_test(bank, REAL, ROUGH, FOLDS[:1], COUNTS, seed=0, steps=40, batch=8)
    assert 0.3 < same.balanced_accuracy.value < 0.7
    assert other.balanced_accuracy.value > 0.9
    assert other.auc.value > 0.95
    assert other.balanced_accuracy.low <= other.balanced_accuracy.value <= other.balanced_accuracy.high


def test_network_test_is_deterministic() -> None:
    bank = CropBank([measurement.context for measurement in REAL])
    first, second = (network_test(bank, REAL, ROUGH, FOLDS[:1], COUNTS, seed=7, steps=3, batch=4) for _ in range(2))
    assert first == second


def test_crops_show_the_same_context_for_real_and_generated() -> None:
    bank = CropBank([measurement.context for measurement in REAL])
    frames, corners = bank.random_places([1, 2], 6, np.random.default_rng(0))
    real, other = (bank.gather(bank.signal(source), frames, corners).numpy() for source in (REAL, ROUGH))
    assert real.shape == (6, 5, 64, 64)
    np.testing.assert_array_equal(real[:, 2:], other[:, 2:])
    assert not np.array_equal(real[:, 0], other[:, 0])
    top, left = corners[0]
    hole = REAL[frames[0]].hole[top : top + 64, left : left + 64]
    np.testing.assert_array_equal(real[0, 1] > 0.5, hole)
    assert (real[0, 0][hole] == 0).all()


def test_scenes_without_known_depth_are_refused() -> None:
    context = CleanContext(np.full((192, 256), np.nan, dtype=np.float32), CAMERA)
    with pytest.raises(DepthError, match="too little known"):
        CropBank([context]).random_places([0], 2, np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), ties=st.booleans())
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    real = rng.random(40) < 0.5
    real[:2] = True, False
    logits = rng.normal(size=40) + real
    if ties:
        logits = np.round(logits)
    frame = np.zeros(40, dtype=int)
    result = score(logits, real, frame, np.ones((3, 1), dtype=int))
    a, b = logits[real][:, None], logits[~real][None]
    assert result.auc.value == pytest.approx(((a > b) + 0.5 * (a == b)).mean())
    accuracy = 0.5 * ((logits[real] > 0).mean() + (logits[~real] <= 0).mean())
    assert result.balanced_accuracy.value == pytest.approx(accuracy)
    probability = 1 / (1 + np.exp(-logits))
    expected = -np.log2(np.where(real, probability, 1 - probability)).mean()
    assert result.log_loss_bits.value == pytest.approx(expected)


def test_logistic_regression_finds_the_minimum_of_its_objective() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 3))
    labels = rng.random(400) < 1 / (1 + np.exp(-(x @ [1.5, -0.7, 0.0] + 0.4)))
    weights, intercept = fit_logistic(x, labels, ridge=2.0)
    residual = 1 / (1 + np.exp(-(x @ weights + intercept))) - labels
    np.testing.assert_allclose(x.T @ residual + 2.0 * weights, 0, atol=0.02)  # the gradient vanishes
    assert abs(residual.sum()) < 0.02
    np.testing.assert_allclose(weights, [1.5, -0.7, 0.0], atol=0.35)


def test_crop_statistics_measure_what_their_names_say() -> None:
    measured = REAL[0]
    table = crop_statistics(measured)
    assert table.shape == (len(grid_corners(measured.context.known)), len(STATISTIC_NAMES))
    assert np.isfinite(table).all()
    column = {name: table[:, i] for i, name in enumerate(STATISTIC_NAMES)}
    top, left = grid_corners(measured.context.known)[0]
    window = np.s_[top : top + 64, left : left + 64]
    assert column["hole_rate"][0] == pytest.approx(measured.hole[window].mean())
    assert np.exp(column["log_sigma_plain"]).mean() == pytest.approx(0.15, rel=0.2)
    rough = crop_statistics(ROUGH[0])
    fine = STATISTIC_NAMES.index("log_gradient_energy_rows")
    assert rough[:, fine].min() > table[:, fine].max()


def test_folds_cut_at_a_group_border_near_the_middle() -> None:
    groups = ["a"] * 3 + ["b"] * 4 + ["c"] * 3
    first, second = temporal_folds(10, groups)
    assert first == Fold(tuple(range(3)), tuple(range(3, 10)))
    assert second == Fold(first.test, first.train)
    only_late = ["a"] * 9 + ["b"]
    assert temporal_folds(10, only_late) == temporal_folds(10)
    early, late = temporal_folds(100)[0].train, temporal_folds(100)[0].test
    assert late[0] - early[-1] == 6  # five frames left out
    assert not set(early) & set(late)
    with pytest.raises(DepthError):
        temporal_folds(3)


def test_bootstrap_covers_the_mean_and_blocks_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    drift = np.repeat(rng.normal(size=20), 5)  # five consecutive frames are alike
    frames = [{("x", ""): (value, 1.0)} for value in drift]
    blocks = aggregate(frames, block_counts(100, 2000, 1))
    single = aggregate(frames, block_counts(100, 2000, 1, block=1))
    estimate = blocks.estimate(("x", ""))
    assert estimate.value == pytest.approx(drift.mean())
    assert estimate.low < drift.mean() < estimate.high
    width = estimate.high - estimate.low
    assert width > 1.5 * (single.estimate(("x", "")).high - single.estimate(("x", "")).low)
    # The truth for 20 independent values: ±1.96 σ/√20.
    assert width == pytest.approx(2 * 1.96 * drift.std() / np.sqrt(20), rel=0.25)


def test_aggregate_weights_and_skips_what_is_missing() -> None:
    frames = [
        {("a", "1"): (1.0, 10.0), ("b", ""): (float("nan"), 5.0)},
        {("a", "1"): (4.0, 30.0)},
        {("b", ""): (7.0, 2.0)},
        {},
    ]
    result = aggregate(frames, block_counts(4, 100, 0))
    assert result.estimate(("a", "1")).value == pytest.approx((10 + 120) / 40)
    assert result.estimate(("a", "1")).frames == 2
    assert result.estimate(("b", "")).value == 7.0
    assert result.estimate(("b", "")).frames == 1
    assert np.isnan(result.estimate(("c", "")).value)
    counts = block_counts(4, 100, 0)
    assert (counts.sum(1) == 4).all()
