"""The assumptions behind learned noise (paper 3.4), measured on a scene.

- **A1**, conditional moment stability: the residual has a mean and a deviation that depend on the depth, and they are
  the same in the first and the second half of the recording.
- **A2**, generative approximation: the model's conditional distribution is near the camera's, in KL divergence and
  total variation, which bounds the total variation between the depth images' marginals.
- **A3**, bounded support: the clean depth, and the residual, stay within limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.evaluation.pairs import Scene
from realdiff_enhancer.evaluation.runner import REAL, EvaluationSettings, enhance_scene
from realdiff_enhancer.metrics.bins import DEPTH_BINS
from realdiff_enhancer.metrics.bootstrap import Estimate, Replicates, aggregate, block_counts, interval
from realdiff_enhancer.metrics.divergence import depth_counts, depth_marginal_tv, divergence, residual_histogram
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.residual import residual_statistics
from realdiff_enhancer.models.base import DepthModel

#: Shares of the residual's and the depth's distribution that A3 reports.
QUANTILES = (0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Moments:
    """A1 in one depth bin, of the camera: mean and σ of the residual away from edges, mm, and of each half."""

    label: str
    mean: Estimate
    sigma: Estimate
    mean_halves: tuple[float, float]
    sigma_halves: tuple[float, float]


@dataclass(frozen=True)
class Approximation:
    """A2 of one source against the camera.

    Attributes:
        name: model; the camera's own row compares its first with its second half.
        tv: total variation by depth bin.
        kl: KL(camera ‖ model) by depth bin, nats.
        expected_tv: mean total variation over the depth: bounds `marginal_tv`.
        expected_kl: mean KL divergence, nats.
        pinsker: √(½ mean KL): bounds `expected_tv`.
        marginal_tv: total variation between the depth values themselves, as measured (steps of 1 cm, holes).
    """

    name: str
    tv: dict[str, Estimate]
    kl: dict[str, Estimate]
    expected_tv: Estimate
    expected_kl: Estimate
    pinsker: Estimate
    marginal_tv: Estimate


@dataclass(frozen=True)
class Support:
    """A3.

    Attributes:
        depth_m: quantiles of the clean depth at :data:`QUANTILES`, m.
        in_range: share of it within the profile's range.
        residual_px: quantiles of the camera's |residual|, pixels of disparity.
        tail_exponent: Hill's estimate of the tail index from the largest 0.1 % of |residual|; larger is
            lighter.
    """

    depth_m: NDArray[np.float64]
    in_range: float
    residual_px: NDArray[np.float64]
    tail_exponent: float


@dataclass(frozen=True)
class SceneAssumptions:
    """Everything of one scene."""

    scene: Scene
    moments: tuple[Moments, ...]
    approximations: tuple[Approximation, ...]
    support: Support
    model_moments: dict[str, Replicates]


def measure_assumptions(
    scene: Scene,
    models: Sequence[DepthModel],
    settings: EvaluationSettings,
    report: Callable[[str], None] = lambda _: None,
) -> SceneAssumptions:
    """Measure A1 to A3 on a scene.

    Args:
        scene: at least 4 pairs.
        models: made for the scene's camera profile.
        settings: seed and number of resamples.
        report: called with a line of text before each longer step.
    """
    report(f"{scene.name}: reading {len(scene.frames)} pairs")
    contexts = [CleanContext(scene.clean(i), scene.camera) for i in range(len(scene.frames))]
    real = [Measurement(context, scene.noisy(i)) for i, context in enumerate(contexts)]
    counts = block_counts(len(real), settings.resamples, settings.seed)
    half = len(real) // 2
    table, values = _tables(real)
    # One half against the other, both at full weight: what this much data of one camera differs from itself.
    halves = _compare(REAL, table[:half], table[half:], values[:half], values[half:], None)
    approximations = [halves]
    moments = {REAL: aggregate([residual_statistics(m) for m in real], counts)}
    for model in models:
        report(f"{scene.name}: {model.name}")
        depth, _ = enhance_scene(model, scene, contexts, settings.seed)
        generated = [Measurement(context, image) for context, image in zip(contexts, depth, strict=True)]
        own_table, own_values = _tables(generated)
        approximations.append(_compare(model.name, table, own_table, values, own_values, counts))
        moments[model.name] = aggregate([residual_statistics(m) for m in generated], counts)
    parts = tuple(
        aggregate([residual_statistics(m) for m in part], np.ones((1, len(part)), np.int64))
        for part in (real[:half], real[half:])
    )
    return SceneAssumptions(
        scene, _moments(moments[REAL], parts), tuple(approximations), _support(scene, real), moments
    )


def _tables(measurements: Sequence[Measurement]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        np.stack([residual_histogram(measurement) for measurement in measurements]),
        np.stack([depth_counts(measurement) for measurement in measurements]),
    )


def _compare(
    name: str,
    real: NDArray[np.float64],
    other: NDArray[np.float64],
    real_depth: NDArray[np.float64],
    other_depth: NDArray[np.float64],
    counts: NDArray[np.int64] | None,
) -> Approximation:
    """Divergences from per-frame counts [F, …]; intervals where the frames are the same and can be resampled."""

    def figures(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[float]:
        found = divergence(np.tensordot(a, real, 1), np.tensordot(b, other, 1))
        marginal = depth_marginal_tv(a @ real_depth, b @ other_depth)
        return [*found.tv, *found.kl, found.expected_tv, found.expected_kl, found.pinsker_bound, marginal]

    value = np.array(figures(np.ones(len(real)), np.ones(len(other))))
    if counts is None:
        spread = np.full((1, len(value)), np.nan)
    else:
        spread = np.array([figures(row.astype(float), row.astype(float)) for row in counts])
    frames = len(real)
    estimates = [Estimate(float(v), *interval(spread[:, i]), frames) for i, v in enumerate(value)]
    bins = len(DEPTH_BINS)
    labels = [b.label for b in DEPTH_BINS]
    tv = dict(zip(labels, estimates[:bins], strict=True))
    kl = dict(zip(labels, estimates[bins : 2 * bins], strict=True))
    return Approximation(name, tv, kl, *estimates[2 * bins :])


def _moments(real: Replicates, halves: tuple[Replicates, ...]) -> tuple[Moments, ...]:
    names = ("bias_mean_mm_away", "sigma_plain_mm_away")
    rows = []
    for label in [b.label for b in DEPTH_BINS]:
        mean, sigma = (real.estimate((name, label)) for name in names)
        if mean.frames:
            first, second = ([half.estimate((name, label)).value for name in names] for half in halves)
            rows.append(Moments(label, mean, sigma, (first[0], second[0]), (first[1], second[1])))
    return tuple(rows)


def _support(scene: Scene, real: Sequence[Measurement]) -> Support:
    depth = np.concatenate([m.context.clean[m.context.known] for m in real])
    residual = np.abs(np.concatenate([m.residual_px[m.valid] for m in real]).astype(np.float64))
    profile = scene.profile
    return Support(
        depth_m=np.quantile(depth, QUANTILES),
        in_range=float(((depth >= profile.near_m) & (depth <= profile.far_m)).mean()),
        residual_px=np.quantile(residual, QUANTILES),
        tail_exponent=hill_estimate(residual),
    )


def hill_estimate(values: NDArray[np.floating], share: float = 1e-3) -> float:
    """Estimate the tail index of positive values (Hill 1975): P(X > x) ~ x^-α; larger is lighter.

    Args:
        values: [N].
        share: share of the largest values that make the tail.

    Returns:
        α; infinity where the tail has one value only, NaN for too few values.
    """
    tail = np.sort(values)[::-1][: max(2, int(share * values.size)) + 1]
    if values.size < 1000 or tail[-1] <= 0:
        return float("nan")
    mean = float(np.mean(np.log(tail[:-1] / tail[-1])))
    return 1.0 / mean if mean > 0 else float("inf")
