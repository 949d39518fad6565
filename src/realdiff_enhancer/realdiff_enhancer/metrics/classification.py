"""Scores of a classifier that separates real from generated crops, with intervals over frames; logistic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_enhancer.metrics.bootstrap import Estimate, interval


@dataclass(frozen=True)
class TwoSampleResult:
    """How well a classifier told real from generated crops of frames it had not seen.

    Attributes:
        balanced_accuracy: mean of the two classes' accuracies at probability ½; 0.5 is indistinguishable.
        auc: area under the ROC curve; 0.5 is indistinguishable. Below 0.5: what was learnt does not carry over.
        log_loss_bits: mean surprise per crop; 1 bit is indistinguishable, more is over-confidence.
        frames: number of test frames.
        crops: number of test crops per class.
    """

    balanced_accuracy: Estimate
    auc: Estimate
    log_loss_bits: Estimate
    frames: int
    crops: int


def score(
    logits: NDArray[np.floating], real: NDArray[np.bool_], frame: NDArray[np.integer], counts: NDArray[np.integer]
) -> TwoSampleResult:
    """Score held-out logits and bootstrap the scores over frames.

    Args:
        logits: [N], log-odds that a crop is real.
        real: [N], the truth; both classes occur.
        frame: int [N], index of the crop's frame.
        counts: int [B, F], how often each frame occurs in each resample.

    Returns:
        The scores with 95 % intervals.
    """
    logits = np.asarray(logits, dtype=np.float64)
    order = np.argsort(logits, kind="stable")
    sorted_logits, sorted_real, sorted_frame = logits[order], real[order], frame[order]
    correct = (sorted_logits > 0) == sorted_real
    surprise = np.logaddexp(0.0, np.where(sorted_real, -sorted_logits, sorted_logits)) / np.log(2.0)
    # Crops with equal logits form one group, in which an order would be accidental.
    group = np.concatenate([[0], np.cumsum(np.diff(sorted_logits) > 0)])
    groups = int(group[-1]) + 1

    def scores(weight: NDArray[np.float64]) -> tuple[float, float, float]:
        positive, negative = weight * sorted_real, weight * ~sorted_real
        n_positive, n_negative = positive.sum(), negative.sum()
        if n_positive == 0 or n_negative == 0:
            return float("nan"), float("nan"), float("nan")
        accuracy = 0.5 * ((positive * correct).sum() / n_positive + (negative * correct).sum() / n_negative)
        negative_in = np.bincount(group, negative, groups)
        positive_in = np.bincount(group, positive, groups)
        below = np.cumsum(negative_in) - negative_in
        area = (positive_in * (below + 0.5 * negative_in)).sum() / (n_positive * n_negative)
        return float(accuracy), float(area), float((weight * surprise).sum() / weight.sum())

    value = scores(np.ones(len(logits)))
    replicates = np.array([scores(row[sorted_frame].astype(np.float64)) for row in counts])
    frames = int(np.unique(frame).size)
    accuracy, auc, log_loss = (Estimate(value[k], *interval(replicates[:, k]), frames) for k in range(3))
    return TwoSampleResult(accuracy, auc, log_loss, frames=frames, crops=int(real.sum()))


def fit_logistic(
    features: NDArray[np.floating], labels: NDArray[np.bool_], ridge: float = 1.0
) -> tuple[NDArray[np.float64], float]:
    """Fit a ridge-penalised logistic regression by L-BFGS; the intercept is not penalised.

    Args:
        features: [N, K], standardised.
        labels: [N].
        ridge: penalty ½·ridge·‖w‖² on the summed log-loss.

    Returns:
        Weights [K] and intercept.
    """
    from scipy.optimize import minimize

    x = np.asarray(features, dtype=np.float64)
    sign = np.where(labels, 1.0, -1.0)

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, intercept = parameters[:-1], parameters[-1]
        margin = sign * (x @ weights + intercept)
        loss = np.logaddexp(0.0, -margin).sum() + 0.5 * ridge * weights @ weights
        slope = -sign / (1.0 + np.exp(np.clip(margin, -500, 500)))
        return float(loss), np.concatenate([x.T @ slope + ridge * weights, [slope.sum()]])

    solution = minimize(objective, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return solution.x[:-1], float(solution.x[-1])


def logistic_logits(
    train: NDArray[np.floating], labels: NDArray[np.bool_], test: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Train on standardised features and their squares, and return the log-odds of the test rows.

    The squares let a linear model see that one class varies more than the other around the same mean.

    Args:
        train: [N, K].
        labels: [N].
        test: [M, K].

    Returns:
        float64 [M].
    """
    centre, spread = train.mean(axis=0), train.std(axis=0) + 1e-9

    def expand(features: NDArray[np.floating]) -> NDArray[np.float64]:
        # Far outliers of a test fold must not decide on their own.
        standard = np.clip((features - centre) / spread, -5, 5)
        return np.concatenate([standard, standard**2 - 1], axis=1)

    weights, intercept = fit_logistic(expand(train), labels)
    return expand(test) @ weights + intercept
