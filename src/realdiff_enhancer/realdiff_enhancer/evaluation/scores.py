"""Single numbers that say how far a model's statistics are from the real camera's, for ranking.

Each is computed on the scene's averages and, for the interval, on each bootstrap replicate of model and camera together
(the same frames are drawn for both). An absolute difference of noisy numbers is never quite 0: the intervals of good
models lie a little too high.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bootstrap import Estimate, Key, Replicates, interval

#: A bin counts only where it holds at least this share of the camera's pixels of that statistic.
MIN_SHARE = 0.01

_Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _difference(model: NDArray[np.float64], real: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(model - real)


def _relative(model: NDArray[np.float64], real: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100 * np.abs(model / real - 1)


def _decibel(model: NDArray[np.float64], real: NDArray[np.float64]) -> NDArray[np.float64]:
    # Below a millionth of the camera's power (60 dB) nothing is left to tell.
    return np.abs(10 * np.log10(np.maximum(model / real, 1e-6)))


@dataclass(frozen=True)
class Score:
    """A distance between a model's and the camera's statistics.

    Attributes:
        name: key in files.
        title: column heading, with the unit.
        definition: one sentence.
        statistics: names of the statistics that enter; the distance is averaged over them and their bins.
        distance: applied to (model, real).
    """

    name: str
    title: str
    definition: str
    statistics: tuple[str, ...]
    distance: _Distance


SCORES = (
    Score(
        "sigma_error_pct",
        "σ(z) [%]",
        "relative error of the robust σ away from edges, mean over the depth bins",
        ("sigma_robust_mm_away",),
        _relative,
    ),
    Score(
        "edge_error_pp",
        "edges [pp]",
        "error of the share of valid pixels off by > 2 cm and > 5 cm, mean over the bins of distance to an edge",
        ("outliers_2cm_by_edge_pct", "outliers_5cm_by_edge_pct"),
        _difference,
    ),
    Score(
        "hole_edge_error_pp",
        "holes by edge [pp]",
        "error of the hole rate, mean over the bins of distance to an edge",
        ("hole_rate_by_edge_pct",),
        _difference,
    ),
    Score(
        "hole_incidence_error_pp",
        "holes by incidence [pp]",
        "error of the hole rate away from edges, mean over the bins of cos(incidence)",
        ("hole_rate_by_incidence_pct",),
        _difference,
    ),
    Score(
        "correlation_error",
        "correlation",
        "error of the residual's spatial correlation, mean over the lags along rows and columns",
        ("correlation_rows", "correlation_columns"),
        _difference,
    ),
    Score(
        "spectrum_error_db",
        "spectrum [dB]",
        "error of the residual's power, mean over the octave bands",
        ("spectrum_px2",),
        _decibel,
    ),
    Score(
        "temporal_error",
        "temporal",
        "error of the correlation between the residuals of consecutive pairs at the same pixel",
        ("temporal_correlation",),
        _difference,
    ),
)


def score(definition: Score, model: Replicates, real: Replicates) -> Estimate:
    """Compute one distance with its interval.

    A bin in which the model has no data (it made holes of everything) counts as its statistic being 0.

    Args:
        definition: which distance.
        model: statistics of the model, made with the same resamples as ``real``.
        real: statistics of the camera.

    Returns:
        The distance; NaN where the camera has no such statistic.
    """
    values, samples, frames = [], [], 0
    for key in counted_keys(definition, real):
        real_value, real_samples = real.column(key)
        model_value, model_samples = model.column(key) if key in model.keys else (0.0, np.zeros_like(real_samples))
        both = np.array([model_value]), np.array([real_value])
        with np.errstate(invalid="ignore", divide="ignore"):
            values.append(float(definition.distance(*both)[0]))
            samples.append(definition.distance(model_samples, real_samples))
        frames = max(frames, real.estimate(key).frames)
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    stacked = np.stack(samples)
    finite = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        means = np.where(finite, stacked, 0).sum(0) / finite.sum(0)
    return Estimate(float(np.mean(values)), *interval(means), frames)


def counted_keys(definition: Score, real: Replicates) -> list[Key]:
    """Return the statistics and bins that enter a distance."""
    keys: list[Key] = []
    for name in definition.statistics:
        own = [key for key in real.keys if key[0] == name and key[1] != "all"]
        total = sum(real.total_weight(key) for key in own)
        # Bins of distance and incidence matter although few pixels lie in them; depth bins with few pixels are chance.
        share = MIN_SHARE if name.startswith("sigma") else 0.0
        keys += [key for key in own if real.total_weight(key) >= share * total]
    return keys
