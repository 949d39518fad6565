"""How far the camera may be from the result, and what the views say about the intrinsics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from realdiff_sim_bridge.calibration.fit import FOCAL, PARAMETERS, PRINCIPAL, Estimate, Problem, Stage
from realdiff_sim_bridge.geometry import FloatArray

_TILE_PX = 48
"""Pieces of contour in squares of this size are taken as independent of each other."""

_DRAWS = 4000
_NORMAL_975 = 1.96


@dataclass(frozen=True)
class Uncertainty:
    """How far the camera may be from the result.

    Attributes:
        position_m: 95 % of the distances [m].
        angle_deg: 95 % of the angles [°].
        axes_m: Standard deviations along the optical frame's axes [m].
        axes_deg: Standard deviations about the optical frame's axes [°].
    """

    position_m: float
    angle_deg: float
    axes_m: tuple[float, float, float]
    axes_deg: tuple[float, float, float]


@dataclass(frozen=True)
class IntrinsicsCheck:
    """What the views say about the intrinsics when these are estimated, too.

    Attributes:
        focal_error: True over assumed focal length, less one.
        focal_sigma: Its standard deviation.
        principal_px: True less assumed principal point.
        principal_sigma_px: Its standard deviation.
    """

    focal_error: float
    focal_sigma: float
    principal_px: tuple[float, float]
    principal_sigma_px: tuple[float, float]


def uncertainty_of(problem: Problem, estimate: Estimate, stage: Stage) -> Uncertainty:
    """Spread of the pose, from its covariance."""
    covariance = covariance_of(problem, estimate, stage)[:6, :6]
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(np.zeros(6), covariance, size=_DRAWS, method="eigh")
    sigma = np.sqrt(np.diag(covariance))
    angles = np.degrees(sigma[:3])
    return Uncertainty(
        position_m=float(np.percentile(np.linalg.norm(draws[:, 3:], axis=1), 95)),
        angle_deg=float(np.degrees(np.percentile(np.linalg.norm(draws[:, :3], axis=1), 95))),
        axes_m=(float(sigma[3]), float(sigma[4]), float(sigma[5])),
        axes_deg=(float(angles[0]), float(angles[1]), float(angles[2])),
    )


def intrinsics_check(problem: Problem, freed: Estimate, stage: Stage) -> IntrinsicsCheck:
    """Says how far the intrinsics have moved where they were estimated with the pose.

    Args:
        problem: Views and robot.
        freed: The estimate with free intrinsics.
        stage: The stage that made it.
    """
    sigma = np.sqrt(np.diag(covariance_of(problem, freed, stage)))
    return IntrinsicsCheck(
        focal_error=freed.focal_error,
        focal_sigma=float(sigma[FOCAL]),
        principal_px=freed.principal_error_px,
        principal_sigma_px=(float(sigma[PRINCIPAL[0]]), float(sigma[PRINCIPAL[1]])),
    )


def covariance_of(problem: Problem, estimate: Estimate, stage: Stage) -> FloatArray:
    """Covariance of the estimated parameters, float64[10, 10]; zero for those that the stage keeps fixed.

    Neighbouring contour points err together, so that the Gauss–Newton covariance would promise tenths of a millimetre.
    Two estimates that allow for this are averaged. Between views: the jackknife over left-out views, which sees
    whatever differs from view to view, but rests on few numbers. Within views: the sandwich estimate over pieces of
    contour (H⁻¹ Σ g gᵀ H⁻¹; White 1980, clustered), which is steadier, but blind to what a whole view has in common.
    """
    free = list(stage.free)
    contours = problem.contours(estimate)
    sample, jacobian = problem.residuals(contours, estimate, np.zeros(PARAMETERS), stage.reach_px)
    # Weights of the soft L1 loss: its derivative over the residual.
    weight = sample.known / np.sqrt(1.0 + (sample.distance / stage.robust_px) ** 2)
    j = jacobian[:, free]
    scores = j * (weight * sample.distance)[:, None]
    weighted = j * weight[:, None]
    by_view = np.stack([j[contours.views == k].T @ weighted[contours.views == k] for k in range(problem.count)])
    # Parameters have different units; without this scaling the solver's tolerance would hide the weak ones.
    scale = 1.0 / np.sqrt(np.maximum(np.diag(by_view.sum(axis=0)), 1e-12))
    by_view *= np.outer(scale, scale)
    scores = scores * scale
    pixels = np.nan_to_num(estimate.camera(problem.camera).project(contours.points))
    covariance = (
        _between_views(by_view, scores, contours.views) + _within_views(by_view, scores, contours.views, pixels)
    ) / 2
    result = np.zeros((PARAMETERS, PARAMETERS))
    result[np.ix_(free, free)] = covariance * np.outer(scale, scale)
    return result


def _between_views(matrices: FloatArray, scores: FloatArray, views: NDArray[np.intp]) -> FloatArray:
    count = len(matrices)
    gradients = _sums(scores, views, count)
    total = matrices.sum(axis=0)
    steps = np.stack([_solve(total - matrix, gradient) for matrix, gradient in zip(matrices, gradients, strict=True)])
    deviations = steps - steps.mean(axis=0)
    few = (student.ppf(0.975, count - 1) / _NORMAL_975) ** 2
    return np.asarray(few * (count - 1) / count * deviations.T @ deviations, dtype=np.float64)


def _within_views(matrices: FloatArray, scores: FloatArray, views: NDArray[np.intp], pixels: FloatArray) -> FloatArray:
    tiles = np.column_stack([views, np.floor(pixels / _TILE_PX).astype(np.intp)])
    _, tile = np.unique(tiles, axis=0, return_inverse=True)
    count = int(tile.max(initial=-1)) + 1
    gradients = _sums(scores, tile.ravel(), count)
    spread = _solve(matrices.sum(axis=0), gradients.T)
    return np.asarray(count / max(count - len(spread), 1) * spread @ spread.T, dtype=np.float64)


def _sums(scores: FloatArray, groups: NDArray[np.intp], count: int) -> FloatArray:
    sums = np.zeros((count, scores.shape[1]))
    np.add.at(sums, groups, scores)
    return sums


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solves with a trace of damping: what the views leave undetermined becomes very uncertain instead of failing."""
    return np.asarray(np.linalg.solve(matrix + 1e-9 * np.eye(len(matrix)), right), dtype=np.float64)
