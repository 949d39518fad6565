"""How good an alignment is, and whether it may be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError, RealdiffError

from realdiff_sim_bridge.calibration.fields import signed_distance
from realdiff_sim_bridge.calibration.fit import Estimate, Problem
from realdiff_sim_bridge.calibration.silhouettes import JOINTS, contour_pixels
from realdiff_sim_bridge.calibration.uncertainty import IntrinsicsCheck, Uncertainty
from realdiff_sim_bridge.calibration.views import ViewSet
from realdiff_sim_bridge.geometry import FloatArray

_SIGNIFICANT = 3.0
"""An estimated error of the principal point counts from this many standard deviations on."""

_JOINT_TOLERANCE = 0.02
"""Measured joint positions may lie this far outside the limits [rad], [m]."""


@dataclass(frozen=True)
class Limits:
    """When an alignment is accepted; pixels are those of a picture 640 px wide and scale with the width.

    Attributes:
        views: Fewest views.
        view_distance_m: Views between which no part of the arm moves by more than this count as one.
        mean_px: Largest mean distance between the contours, all views together.
        p95_px: Largest 95th percentile of that distance.
        view_mean_px: Largest mean distance in a single view.
        position_m: Largest uncertainty of the camera's position (95 %).
        angle_deg: Largest uncertainty of its orientation (95 %).
        dilation_px: Masks may be cut out this much too large or too small.
        focal_error: Largest relative error of the focal length.
        principal_px: Largest error of the principal point.
        agreeing: Fewest starts that must end in the result.
        rival_cost: A pose elsewhere is a rival if its cost is below this multiple of the result's.
    """

    views: int = 8
    view_distance_m: float = 0.05
    mean_px: float = 2.0
    p95_px: float = 6.0
    view_mean_px: float = 4.0
    position_m: float = 0.005
    angle_deg: float = 0.3
    dilation_px: float = 2.0
    focal_error: float = 0.010
    principal_px: float = 10.0
    agreeing: int = 3
    rival_cost: float = 1.5

    def for_width(self, width: int) -> Limits:
        """Returns the limits for pictures of another width [px]."""
        scale = width / 640
        return replace(
            self,
            mean_px=self.mean_px * scale,
            p95_px=self.p95_px * scale,
            view_mean_px=self.view_mean_px * scale,
            dilation_px=self.dilation_px * scale,
            principal_px=self.principal_px * scale,
        )


@dataclass(frozen=True)
class Residual:
    """Distances between rendered and observed contours, both ways.

    Attributes:
        mean_px: Mean distance.
        p95_px: 95th percentile.
        mean_m: Mean at the robot's distance [m].
        p95_m: 95th percentile at the robot's distance [m].
        overlap: Intersection over union of the silhouettes.
    """

    mean_px: float
    p95_px: float
    mean_m: float
    p95_m: float
    overlap: float


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict rests on.

    Attributes:
        names: Names of the views.
        residual: All views together.
        views: Each view.
        uncertainty: Spread of the pose.
        intrinsics: What the views say about the intrinsics.
        dilation_px: How much too large the masks are.
        agreeing: Starts that ended in the result.
        starts: All starts.
        rivals: Costs of poses elsewhere, as multiples of the result's.
    """

    names: tuple[str, ...]
    residual: Residual
    views: tuple[Residual, ...]
    uncertainty: Uncertainty
    intrinsics: IntrinsicsCheck
    dilation_px: float
    agreeing: int
    starts: int
    rivals: tuple[float, ...]


def check_views(views: ViewSet, problem: Problem, limits: Limits) -> None:
    """Refuses views that can't determine a pose.

    Raises:
        RealdiffError: Too few views, or too few that differ.
        ConfigError: Joint positions outside the robot's limits.
    """
    low, high = problem.renderer.joint_range.T
    for view in views.views:
        outside = (view.joints < low - _JOINT_TOLERANCE) | (view.joints > high + _JOINT_TOLERANCE)
        if outside.any():
            k = int(np.flatnonzero(outside)[0])
            raise ConfigError(
                "joint position is outside the robot's limits",
                where=f"view {view.name}, {JOINTS[k]}",
                expected=f"{low[k]:.4f} … {high[k]:.4f}",
                got=f"{view.joints[k]:.4f}",
                next_step="give joint positions in radians and metres: seven arm joints, then both fingers",
            )
    if len(views.views) < limits.views:
        raise RealdiffError(
            "too few views",
            expected=f"at least {limits.views}",
            got=len(views.views),
            next_step="move the robot to more places in the picture and record again",
        )
    distance_m = limits.view_distance_m
    distinct = _distinct(problem, distance_m)
    if distinct < limits.views:
        raise RealdiffError(
            "the views are too much alike to determine the camera's pose",
            expected=f"{limits.views} views between which the arm moves by more than {distance_m * 1e3:g} mm",
            got=f"{distinct} that differ, of {len(views.views)}",
            next_step="move the robot to other places in the picture, turning the lower joints as well",
        )


def _distinct(problem: Problem, distance_m: float) -> int:
    """Number of views that differ from all earlier ones in the place of some link."""
    kept: list[FloatArray] = []
    for data in problem.data:
        places = np.stack([pose.position for pose in problem.renderer.link_poses(data).values()])
        if all(np.linalg.norm(places - other, axis=1).max() > distance_m for other in kept):
            kept.append(places)
    return len(kept)


def residuals_of(problem: Problem, estimate: Estimate) -> tuple[Residual, tuple[Residual, ...]]:
    """Compares the contours at a pose: all views together, and each view."""
    pooled: list[FloatArray] = []
    metric: list[FloatArray] = []
    overlaps: list[float] = []
    views: list[Residual] = []
    for index, data in enumerate(problem.data):
        rendered = problem.renderer.render(data, estimate.base_camera)
        image = problem.renderer.image_mask(rendered)
        trust = problem.fields.trust[index]
        observed = problem.fields.masks[index] > 0.5
        distances = np.concatenate(
            [
                _along(image, problem.fields.distance[index], trust),
                _along(observed, signed_distance(image), trust),
            ]
        )
        if not distances.size:  # the robot isn't in the picture at all
            distances = np.array([float(np.hypot(*image.shape))])
        points = rendered.contour().points
        metres_per_px = float(np.median(points[:, 2])) / problem.camera.fx if len(points) else 0.0
        known = trust > 0
        union = np.count_nonzero((image | observed) & known)
        overlaps.append(float(np.count_nonzero(image & observed & known)) / max(int(union), 1))
        pooled.append(distances)
        metric.append(distances * metres_per_px)
        views.append(_summary(distances, metric[-1], overlaps[-1]))
    return _summary(np.concatenate(pooled), np.concatenate(metric), float(np.mean(overlaps))), tuple(views)


def _summary(pixels: FloatArray, metres: FloatArray, overlap: float) -> Residual:
    return Residual(
        float(pixels.mean()),
        float(np.percentile(pixels, 95)),
        float(metres.mean()),
        float(np.percentile(metres, 95)),
        overlap,
    )


def _along(mask: NDArray[np.bool_], distance: NDArray[np.float32], trust: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances of a mask's contour from another contour, where the picture tells them [px]."""
    column, row = contour_pixels(mask)[1].T
    # These pixels lie half a pixel inside their contour.
    values = np.abs(distance[row, column].astype(np.float64) + 0.5)
    return values[values + 1.0 < trust[row, column]]


def reasons(evidence: Evidence, limits: Limits) -> tuple[str, ...]:
    """Returns what speaks against a result, a sentence each; nothing: it is accepted."""
    return (*_residual_reasons(evidence, limits), *_pose_reasons(evidence, limits), *_camera_reasons(evidence, limits))


def _residual_reasons(evidence: Evidence, limits: Limits) -> Iterator[str]:
    residual = evidence.residual
    if residual.mean_px > limits.mean_px or residual.p95_px > limits.p95_px:
        yield (
            f"the contours don't fit: {residual.mean_px:.1f} px apart on average (allowed {limits.mean_px:.1f}), 95 % "
            f"within {residual.p95_px:.1f} px (allowed {limits.p95_px:.1f}); check masks, joint positions and the hand"
        )
    bad = [
        f"{name} ({view.mean_px:.1f} px)"
        for name, view in zip(evidence.names, evidence.views, strict=True)
        if view.mean_px > limits.view_mean_px
    ]
    if bad:
        yield (
            f"single views don't fit (allowed {limits.view_mean_px:.1f} px): {', '.join(bad)}; were their joint "
            "positions taken at another moment? Correct their masks or leave them out (--without)"
        )


def _pose_reasons(evidence: Evidence, limits: Limits) -> Iterator[str]:
    uncertainty = evidence.uncertainty
    if uncertainty.position_m > limits.position_m or uncertainty.angle_deg > limits.angle_deg:
        yield (
            f"the pose is too uncertain: {uncertainty.position_m * 1e3:.1f} mm and {uncertainty.angle_deg:.2f}° (95 %),"
            f" allowed {limits.position_m * 1e3:g} mm and {limits.angle_deg:g}°; add views in which the robot reaches "
            "other parts of the picture and other distances"
        )
    if evidence.agreeing < min(limits.agreeing, evidence.starts):
        yield (
            f"only {evidence.agreeing} of {evidence.starts} starts end at this pose (needed {limits.agreeing}): it may "
            "be a chance find; give a better guess"
        )
    rivals = [cost for cost in evidence.rivals if cost < limits.rival_cost]
    if rivals:
        yield (
            f"another pose fits almost as well (its contours are {min(rivals):.2f} times as far apart): the views are "
            "ambiguous; add views or give a better guess"
        )


def _camera_reasons(evidence: Evidence, limits: Limits) -> Iterator[str]:
    if abs(evidence.dilation_px) > limits.dilation_px:
        size = "large" if evidence.dilation_px > 0 else "small"
        yield (
            f"the masks are {abs(evidence.dilation_px):.1f} px too {size} all around (allowed "
            f"{limits.dilation_px:.1f}): correct them, or the robot's model isn't this robot"
        )
    check = evidence.intrinsics
    if abs(check.focal_error) > limits.focal_error:
        yield (
            f"the intrinsics don't fit: the focal length looks {check.focal_error:+.1%} off (± {check.focal_sigma:.1%},"
            f" allowed {limits.focal_error:.1%}); use the camera_info of this stream and this resolution"
        )
    offsets = zip("xy", check.principal_px, check.principal_sigma_px, strict=True)
    for axis, offset, sigma in offsets:
        if abs(offset) > max(limits.principal_px, _SIGNIFICANT * sigma):
            yield (
                f"the intrinsics don't fit: the principal point looks {offset:+.0f} px off in {axis} (± {sigma:.0f}"
                " px); was the picture cropped after camera_info was made?"
            )
