"""The noise fields: a function of the seeds alone, unit variance in every frame, the promised temporal correlation."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdiff_enhancer.models.noise import FIXED_LAYERS, CorrelatedNoise, ar1_history, normal_field

SHAPE = (60, 80)


def seeds(n: int, base: int = 7) -> tuple[int, ...]:
    return tuple(int(s) for s in np.random.default_rng(base).integers(0, 2**64, n, dtype=np.uint64))


def test_normal_field_is_standard_normal_and_repeatable() -> None:
    field = normal_field(5, (200, 300))
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.02 and abs(field.std() - 1) < 0.02
    assert np.array_equal(field, normal_field(5, (200, 300)))
    assert not np.array_equal(field, normal_field(6, (200, 300)))
    other = normal_field(5, (200, 300), "holes")
    assert abs(np.corrcoef(field.ravel(), other.ravel())[0, 1]) < 0.02


@given(split=st.integers(1, 11), history=st.integers(0, 6), coefficient=st.floats(0.0, 0.99))
@settings(max_examples=40, deadline=None)
def test_fields_do_not_depend_on_batches_or_on_the_cache(split: int, history: int, coefficient: float) -> None:
    every = seeds(12)
    whole = CorrelatedNoise.ar1(coefficient, history).fields(every, (4, 5))
    noise = CorrelatedNoise.ar1(coefficient, history)
    first = noise.fields(every[:split], (4, 5))
    rest = noise.fields(every[split:], (4, 5), previous_seeds=every[:split][-history:] if history else ())
    cold = CorrelatedNoise.ar1(coefficient, history).fields(every[split:], (4, 5), previous_seeds=every[:split])
    assert np.array_equal(whole, np.concatenate([first, rest]))
    assert np.array_equal(rest, cold)


def test_ar1_has_unit_variance_from_the_first_frame_and_geometric_correlation() -> None:
    coefficient = 0.8
    noise = CorrelatedNoise.ar1(coefficient)
    fields = noise.fields(seeds(60), SHAPE).reshape(60, -1)
    assert np.allclose(fields.std(axis=1), 1.0, atol=0.06)
    settled = fields[noise.history :]
    for lag in (1, 2, 4):
        pairs = [np.corrcoef(a, b)[0, 1] for a, b in zip(settled, settled[lag:], strict=False)]
        assert np.mean(pairs) == pytest.approx(coefficient**lag, abs=0.03)


def test_zero_coefficient_gives_independent_frames() -> None:
    fields = CorrelatedNoise.ar1(0.0).fields(seeds(4), SHAPE).reshape(4, -1)
    correlation = np.corrcoef(fields)
    assert np.abs(correlation - np.eye(4)).max() < 0.05


def test_smooth_noise_changes_more_slowly_than_any_ar1_of_the_same_history() -> None:
    fields = CorrelatedNoise.smooth(30).fields(seeds(80), SHAPE).reshape(80, -1)
    assert np.allclose(fields.std(axis=1), 1.0, atol=0.06)
    lag1 = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(fields[31:])])
    assert lag1 == pytest.approx(1 - (np.pi / 32) ** 2 / 2, abs=0.004)
    assert lag1 > 30 / 31


def test_consecutive_frames_cost_one_white_field_each(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(seed: int, shape: tuple[int, ...], stream: str) -> np.ndarray:
        drawn.append(seed)
        return normal_field(seed, shape, stream)

    monkeypatch.setattr("realdiff_enhancer.models.noise.normal_field", counted)
    noise = CorrelatedNoise.ar1(0.9, 8)
    every = seeds(40)
    for i in range(40):
        noise.fields(every[i : i + 1], (4, 4), previous_seeds=every[max(0, i - 8) : i])
    assert drawn == list(every)


def test_history_is_long_enough_and_bad_values_are_refused() -> None:
    assert ar1_history(0.0) == 0
    assert 0.9 ** ar1_history(0.9) <= 0.05 < 0.9 ** (ar1_history(0.9) - 1)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        CorrelatedNoise.ar1(1.0)
    with pytest.raises(ValueError, match="negative"):
        CorrelatedNoise.ar1(0.5, -1)
    with pytest.raises(ValueError, match="weight"):
        CorrelatedNoise([0.0, 0.0])
    with pytest.raises(ValueError, match="static share"):
        CorrelatedNoise([1.0], static_share=1.1)


def _factors(noise: CorrelatedNoise, frames: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Factor of every white field, float64 [frames, seeds]: the white field of seed i is made the unit vector e_i."""
    count = frames + 1
    with monkeypatch.context() as patch:
        patch.setattr("realdiff_enhancer.models.noise.normal_field", lambda seed, *_: np.eye(count, dtype="f4")[seed])
        return noise.fields(range(1, count), (count,), stream_seed=0).astype(float)


@pytest.mark.parametrize(("share", "coefficient"), [(0.0, 0.7), (0.45, 0.3), (0.6, 0.0), (0.8, 0.9), (1.0, 0.5)])
def test_fixed_part_and_ar1_have_the_closed_form_covariance(
    share: float, coefficient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = 200
    factors = _factors(CorrelatedNoise.ar1(coefficient, history, "", share), history + 30, monkeypatch)
    covariance = factors @ factors.T
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-6, err_msg="from the first frame of the stream on")
    settled = covariance[history:, history:]
    lags = np.abs(np.subtract.outer(np.arange(len(settled)), np.arange(len(settled))))
    np.testing.assert_allclose(settled, share + (1 - share) * coefficient**lags, atol=1e-5)


def test_fixed_part_shows_in_the_fields_themselves() -> None:
    fields = CorrelatedNoise.ar1(0.5, 12, "x", 0.4).fields(seeds(60), SHAPE, stream_seed=3).reshape(60, -1)[12:]
    assert fields.std(axis=1) == pytest.approx(1.0, abs=0.06)
    for lag in (1, 2, 4, 8, 16):
        found = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(fields, fields[lag:], strict=False)])
        assert found == pytest.approx(0.4 + 0.6 * 0.5**lag, abs=0.03), lag


@given(split=st.integers(1, 11), share=st.floats(0.01, 1.0), coefficient=st.floats(0.0, 0.99))
@settings(max_examples=20, deadline=None)
def test_fixed_part_does_not_depend_on_batches_either(split: int, share: float, coefficient: float) -> None:
    every = seeds(12)
    whole = CorrelatedNoise.ar1(coefficient, 4, "", share).fields(every, (4, 5), stream_seed=9)
    rest = CorrelatedNoise.ar1(coefficient, 4, "", share).fields(every[split:], (4, 5), every[:split], 9)
    assert np.array_equal(rest, whole[split:])


def test_fixed_part_is_the_streams_and_nothing_else() -> None:
    noise = CorrelatedNoise.ar1(0.0, 0, "", 1.0)
    one = noise.fields(seeds(3), SHAPE, stream_seed=1)
    assert np.array_equal(one[0], one[2]) and np.array_equal(one, noise.fields(seeds(3, 8), SHAPE, stream_seed=1))
    other = noise.fields(seeds(3), SHAPE, stream_seed=2)
    assert abs(np.corrcoef(one[0].ravel(), other[0].ravel())[0, 1]) < 0.06
    with pytest.raises(ValueError, match="stream's seed"):
        noise.field(seeds(1), SHAPE)
    without = CorrelatedNoise.ar1(0.9, 5)
    assert np.array_equal(without.field(seeds(8), SHAPE), without.field(seeds(8), SHAPE, stream_seed=4))


def test_another_surface_has_another_fixed_part() -> None:
    """Half of the image shows the same surface in both frames, half another one; the noise stays standard normal."""
    noise = CorrelatedNoise.ar1(0.0, 0, "x", 0.8)
    same = np.zeros((120, 160), int)
    moved = same.copy()
    moved[:, 80:] = 3
    one, two = noise.fields(seeds(2), (4, 120, 160), stream_seed=1, surface=(same, moved))
    for columns, expected in ((np.s_[..., :80], 0.8), (np.s_[..., 80:], 0.0)):
        assert two[columns].std() == pytest.approx(1.0, abs=0.02)
        assert np.corrcoef(one[columns].ravel(), two[columns].ravel())[0, 1] == pytest.approx(expected, abs=0.02)
    assert np.array_equal(one, noise.field(seeds(1), (4, 120, 160), 1)), "all of the first by default"


def test_fixed_fields_of_all_surfaces_are_independent() -> None:
    noise = CorrelatedNoise.ar1(0.0, 0, "x", 1.0)
    layers = [noise.field((5,), SHAPE, 1, np.full(SHAPE, layer)).ravel() for layer in range(FIXED_LAYERS)]
    assert np.abs(np.corrcoef(layers) - np.eye(FIXED_LAYERS)).max() < 0.08
    mixed = np.random.default_rng(0).integers(0, FIXED_LAYERS, SHAPE)
    expected = np.take_along_axis(np.array(layers), mixed.reshape(1, -1), axis=0).reshape(SHAPE)
    assert np.array_equal(noise.field((5,), SHAPE, 1, mixed), expected)


def test_threads_share_the_noise() -> None:
    """Many more fields than are kept, drawn and dropped by all threads at once."""
    every, shape = seeds(40), (10, 300, 400)
    noise = CorrelatedNoise.ar1(0.5, 3, "x", 0.5)
    expected = [CorrelatedNoise.ar1(0.5, 3, "x", 0.5).field(every[:end], shape, 1).sum() for end in range(4, 40, 4)]
    with ThreadPoolExecutor(4) as workers:
        for _ in range(3):
            found = workers.map(lambda end: noise.field(every[:end], shape, 1).sum(), range(4, 40, 4))
            assert list(found) == expected
