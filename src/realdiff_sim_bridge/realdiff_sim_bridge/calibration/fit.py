"""Pose of the camera from silhouettes: render, compare with the observed contours, step, repeat.

For a rim point that is fixed to the robot, the signed distance d of its projection from the observed contour is the
residual. To first order the rim's motion along the contour doesn't matter, so that

    ∂d/∂ξ = ∇d · ∂π/∂q · [−[q]×  I]

for a small motion ξ = (ω, v) of the points q in the camera's frame (contour alignment as in Drummond & Cipolla,
Real-time visual tracking of complex structures, 2002). Rim points come from a rendering at the current pose; after each
robust Gauss–Newton solution the robot is rendered anew. The objective is the silhouette term of EasyHeC (Chen et al.,
2023), Σ‖rendered mask − observed mask‖², written as distances along the contour instead of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from realdiff_sim_bridge.calibration.fields import MaskFields, Sample
from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer
from realdiff_sim_bridge.geometry import FloatArray, Pose

POSE_PARAMETERS = 6
"""Rotation ω [rad] and translation v [m] of the robot in the camera's optical frame."""

DILATION = 6
"""Index of the masks' dilation [px]: segmentation cuts objects out too large or too small, all views alike."""

FOCAL, PRINCIPAL = 7, (8, 9)
"""Indices of the relative error of the focal length, and of the principal point's error [px]."""

PARAMETERS = 10

_BOUNDS = np.array([0.3] * 3 + [0.3] * 3 + [3.0] + [0.3] + [80.0] * 2)
"""Largest step of each parameter between two renderings."""

_SCALES = np.array([0.01] * 3 + [0.01] * 3 + [1.0] + [0.01] + [5.0] * 2)


@dataclass(frozen=True)
class Estimate:
    """A camera as estimated.

    Attributes:
        base_camera: Pose of the colour optical frame in "base".
        dilation_px: How much too large the masks are.
        focal_error: True over assumed focal length, less one.
        principal_error_px: float64[2], true less assumed principal point.
    """

    base_camera: Pose
    dilation_px: float = 0.0
    focal_error: float = 0.0
    principal_error_px: tuple[float, float] = (0.0, 0.0)

    def moved(self, step: FloatArray) -> Estimate:
        """Returns the estimate after a step of the parameters, float64[10]."""
        camera_base = Pose.from_rotation(step[3:6], Rotation.from_rotvec(step[:3]).as_matrix())
        return Estimate(
            base_camera=self.base_camera @ camera_base.inverse(),
            dilation_px=self.dilation_px + float(step[DILATION]),
            focal_error=(1 + self.focal_error) * (1 + float(step[FOCAL])) - 1,
            principal_error_px=(
                self.principal_error_px[0] + float(step[PRINCIPAL[0]]),
                self.principal_error_px[1] + float(step[PRINCIPAL[1]]),
            ),
        )

    def camera(self, camera: CameraModel) -> CameraModel:
        """Returns the camera with the estimated intrinsics instead of the assumed ones."""
        scale = 1 + self.focal_error
        return replace(
            camera,
            fx=camera.fx * scale,
            fy=camera.fy * scale,
            cx=camera.cx + self.principal_error_px[0],
            cy=camera.cy + self.principal_error_px[1],
        )


@dataclass(frozen=True)
class Contours:
    """Rendered rim points of all views.

    Attributes:
        views: intp[N], the view of each point.
        points: float64[N, 3], in the camera's optical frame [m].
        normals: float64[N, 2], directions in the picture away from the robot.
    """

    views: NDArray[np.intp]
    points: FloatArray
    normals: FloatArray


@dataclass(frozen=True)
class Stage:
    """A pass of the coarse-to-fine refinement.

    Attributes:
        shrink: Divides the size of the rendered pictures.
        robust_px: Residuals beyond this count less (soft L1).
        reach_px: Look for the observed contour this far along the rendered one's normal; 0: take the nearest point.
        iterations: Most renderings.
        free: Indices of the parameters that may move.
        tolerance: Ends when no parameter moves by more than this share of its typical scale (0.6°, 10 mm, 1 px).
    """

    shrink: int
    robust_px: float
    reach_px: int
    iterations: int
    free: tuple[int, ...] = tuple(range(POSE_PARAMETERS))
    tolerance: float = 0.02


class Problem:
    """Views, their masks' distance fields and the robot at their joint positions.

    Args:
        camera: The real camera's intrinsics.
        joints: float64[9] a view.
        fields: Distance fields of the masks.
        renderer: Renders the robot for this camera.
        points_per_view: Contour points that a view contributes at most.
    """

    def __init__(
        self,
        camera: CameraModel,
        joints: Sequence[FloatArray],
        fields: MaskFields,
        renderer: RobotRenderer,
        points_per_view: int = 1500,
    ) -> None:
        """Moves the robot to every view's joint positions."""
        self.camera = camera
        self.fields = fields
        self.renderer = renderer
        self.points_per_view = points_per_view
        self.data = [renderer.articulate(values) for values in joints]

    def cost(self, estimate: Estimate, shrink: int) -> float:
        """Area between rendered and observed silhouettes over the observed contours' length: a mean distance [px].

        Infinite where a view shows nothing of the robot.
        """
        area = length = 0.0
        for index, data in enumerate(self.data):
            rendered = self.renderer.image_mask(self.renderer.render(data, estimate.base_camera, shrink))
            if not rendered.any():
                return float("inf")
            observed = self.fields.distance[index] < 0
            area += float(np.count_nonzero((rendered != observed) & (self.fields.trust[index] > 0)))
            length += float(np.count_nonzero(np.abs(self.fields.distance[index]) < 1.0)) / 2
        return area / max(length, 1.0)

    @property
    def count(self) -> int:
        """Number of views."""
        return len(self.data)

    def contours(self, estimate: Estimate, shrink: int = 1) -> Contours:
        """Renders all views and returns their rim points, evenly thinned out."""
        views, points, normals = [], [], []
        for index, data in enumerate(self.data):
            found = self.renderer.render(data, estimate.base_camera, shrink).contour()
            count = len(found.points)
            kept = np.linspace(0, count - 1, min(count, self.points_per_view)).astype(np.intp)
            views.append(np.full(len(kept), index, dtype=np.intp))
            points.append(found.points[kept])
            normals.append(found.normals[kept])
        return Contours(np.concatenate(views), np.concatenate(points), np.concatenate(normals))

    def residuals(
        self, contours: Contours, estimate: Estimate, step: FloatArray, reach_px: int
    ) -> tuple[Sample, FloatArray]:
        """Distances of rim points after a step of the parameters.

        Args:
            contours: Rim points, rendered at `estimate`.
            estimate: Where the step starts.
            step: float64[10].
            reach_px: See `Stage`.

        Returns:
            The distances less the dilation in `Sample.distance`, and the Jacobian by the step, float64[N, 10].
        """
        rotation = Rotation.from_rotvec(step[:3]).as_matrix()
        q = contours.points @ rotation.T + step[3:6]
        z = np.maximum(q[:, 2], 1e-3)
        moved = estimate.moved(step)
        camera = moved.camera(self.camera)
        pixels = camera.project(q)
        if reach_px:
            sample = self.fields.sample_along(contours.views, pixels, contours.normals, reach_px)
        else:
            sample = self.fields.sample(contours.views, pixels)
        gx, gy = sample.gradient[:, 0] * camera.fx, sample.gradient[:, 1] * camera.fy
        x, y = q[:, 0] / z, q[:, 1] / z
        by_point = np.stack([gx, gy, -(gx * x + gy * y)], axis=1) / z[:, None]
        jacobian = np.zeros((len(q), PARAMETERS))
        # ∂q/∂ω = −[q − v]× J(ω), with the left Jacobian of the rotations to first order, J(ω) = I + [ω]× / 2.
        turned = np.cross(q - step[3:6], by_point)
        jacobian[:, :3] = turned + 0.5 * np.cross(turned, step[:3])
        jacobian[:, 3:6] = by_point
        jacobian[:, DILATION] = -1.0 * sample.known
        jacobian[:, FOCAL] = (gx * x + gy * y) / (1 + step[FOCAL])
        jacobian[:, PRINCIPAL[0]], jacobian[:, PRINCIPAL[1]] = sample.gradient.T
        distance = np.where(sample.known, sample.distance - moved.dilation_px, 0.0)
        return Sample(distance, sample.gradient, sample.known), jacobian

    def solve(self, contours: Contours, estimate: Estimate, stage: Stage) -> FloatArray:
        """Robust Gauss–Newton on fixed rim points; returns the step, float64[10]."""
        free = list(stage.free)

        def full(x: FloatArray) -> FloatArray:
            step = np.zeros(PARAMETERS)
            step[free] = x
            return step

        def distance(x: FloatArray) -> Any:
            return self.residuals(contours, estimate, full(x), stage.reach_px)[0].distance

        def jacobian(x: FloatArray) -> Any:
            return self.residuals(contours, estimate, full(x), stage.reach_px)[1][:, free]

        result = least_squares(
            distance, np.zeros(len(free)), jac=jacobian, loss="soft_l1", f_scale=stage.robust_px, max_nfev=6,
            x_scale=_SCALES[free], bounds=(-_BOUNDS[free], _BOUNDS[free]), xtol=1e-6, ftol=1e-6,
        )  # fmt: skip
        return full(result.x)

    def refine(self, estimate: Estimate, stage: Stage) -> Estimate:
        """Renders and steps until the estimate stays where it is."""
        for _ in range(stage.iterations):
            contours = self.contours(estimate, stage.shrink)
            if len(contours.points) < POSE_PARAMETERS:
                return estimate  # the robot has left the picture: judged by the caller's comparison
            step = self.solve(contours, estimate, stage)
            estimate = estimate.moved(step)
            if np.all(np.abs(step) <= stage.tolerance * _SCALES):
                break
        return estimate
