"""The whole alignment: many starts, coarse to fine, and a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from realdiff_core.camera import CameraModel
from realdiff_core.errors import RealdiffError
from scipy.stats import qmc

from realdiff_sim_bridge.calibration.fields import MaskFields
from realdiff_sim_bridge.calibration.fit import DILATION, PARAMETERS, POSE_PARAMETERS, Estimate, Problem, Stage
from realdiff_sim_bridge.calibration.quality import Evidence, Limits, check_views, reasons, residuals_of
from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer
from realdiff_sim_bridge.calibration.uncertainty import intrinsics_check, uncertainty_of
from realdiff_sim_bridge.calibration.views import ViewSet
from realdiff_sim_bridge.geometry import Pose

_COARSE_DETAIL = 0.05
_POSE = tuple(range(POSE_PARAMETERS))
_COARSE = Stage(shrink=4, robust_px=15.0, reach_px=0, iterations=10, free=_POSE, tolerance=0.1)
_MIDDLE = Stage(shrink=1, robust_px=4.0, reach_px=0, iterations=5, free=_POSE, tolerance=0.02)
_FINE = Stage(shrink=1, robust_px=3.0, reach_px=8, iterations=8, free=(*_POSE, DILATION), tolerance=0.005)
_INTRINSIC = Stage(shrink=1, robust_px=3.0, reach_px=8, iterations=4, free=tuple(range(PARAMETERS)), tolerance=0.02)

_COARSE_VIEWS = 6
"""Views that the coarse search looks at: enough to tell basins apart."""

_SAME_BASIN_M, _SAME_BASIN_DEG = 0.02, 1.5
"""Coarse results nearer than this are refined as one."""

_RIVALS = 3
"""Basins that are refined at full size."""


@dataclass(frozen=True)
class Search:
    """Where the camera may be.

    Attributes:
        position_m: How far the guess may be off in each direction [m].
        angle_deg: How far it may be turned about each axis [°].
        starts: Number of starts: the guess itself, then points of a Sobol sequence in that box.
        seed: Of the Sobol sequence.
    """

    position_m: float = 0.05
    angle_deg: float = 5.0
    starts: int = 16
    seed: int = 0

    def poses(self, guess: Pose) -> list[Pose]:
        """Returns the starts."""
        points = qmc.Sobol(6, rng=np.random.default_rng(self.seed)).random(_power_of_two(self.starts))[: self.starts]
        offsets = 2 * points - 1
        offsets[0] = 0.0
        steps = np.zeros((self.starts, PARAMETERS))
        steps[:, :3] = offsets[:, :3] * np.radians(self.angle_deg)
        steps[:, 3:6] = offsets[:, 3:6] * self.position_m
        return [Estimate(guess).moved(step).base_camera for step in steps]


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()  # Sobol points are balanced in such numbers


class Basin(NamedTuple):
    """Starts that ended at one place."""

    estimate: Estimate
    cost: float
    starts: int


@dataclass(frozen=True)
class Alignment:
    """The result of `Aligner.align`.

    Attributes:
        estimate: Pose of the camera, and how much too large the masks are.
        evidence: Residuals, uncertainty and everything else that the verdict rests on.
        reasons: Why the result is refused; empty: it is accepted.
    """

    estimate: Estimate
    evidence: Evidence
    reasons: tuple[str, ...]

    @property
    def base_camera(self) -> Pose:
        """Pose of the colour optical frame in "base"."""
        return self.estimate.base_camera

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the result."""
        return not self.reasons


class Aligner:
    """Aligns cameras of one set of intrinsics; keeps the renderers between calls. Use it in one thread.

    Args:
        camera: The camera's intrinsics.
        limits: When a result is accepted, for pictures 640 px wide.
    """

    def __init__(self, camera: CameraModel, limits: Limits | None = None) -> None:
        """Compiles the robot."""
        self.camera = camera
        self.limits = (limits or Limits()).for_width(camera.width)
        self._coarse = RobotRenderer(camera, detail=_COARSE_DETAIL)
        self._fine = RobotRenderer(camera)

    @property
    def renderer(self) -> RobotRenderer:
        """The renderer of the full meshes."""
        return self._fine

    def close(self) -> None:
        """Frees the renderers."""
        self._coarse.close()
        self._fine.close()

    def align(
        self,
        views: ViewSet,
        guess: Pose,
        search: Search | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Alignment:
        """Finds the camera's pose.

        Args:
            views: Views of the robot.
            guess: First guess of the colour optical frame's pose in "base".
            search: How far the guess may be off.
            progress: Called with 1 after every start, and after the refinement.

        Returns:
            The pose with its verdict; a refused pose is returned as well, for the pictures of the report.

        Raises:
            RealdiffError: Too few views, too much alike, or the robot isn't where the guess looks.
            ConfigError: Joint positions outside the limits.
        """
        search = search or Search()
        problem = self._problem(views, self._fine)
        check_views(views, problem, self.limits)
        basins = self._coarse_basins(views, guess, search, progress)
        best, rivals = self._refined(problem, basins)
        freed = problem.refine(best.estimate, _INTRINSIC)
        residual, by_view = residuals_of(problem, best.estimate)
        evidence = Evidence(
            names=tuple(view.name for view in views.views),
            residual=residual,
            views=by_view,
            uncertainty=uncertainty_of(problem, best.estimate, _FINE),
            intrinsics=intrinsics_check(problem, freed, _INTRINSIC),
            dilation_px=best.estimate.dilation_px,
            agreeing=best.starts,
            starts=search.starts,
            rivals=tuple(rival.cost / max(best.cost, 1e-6) for rival in rivals),
        )
        progress(1)
        return Alignment(best.estimate, evidence, reasons(evidence, self.limits))

    def _problem(self, views: ViewSet, renderer: RobotRenderer) -> Problem:
        if views.camera != self.camera:
            raise ValueError("the views' camera is not the one that this aligner was made for")
        fields = MaskFields([view.mask for view in views.views], [view.known for view in views.views])
        return Problem(self.camera, [view.joints for view in views.views], fields, renderer)

    def _coarse_basins(
        self, views: ViewSet, guess: Pose, search: Search, progress: Callable[[int], None]
    ) -> list[Basin]:
        """Refines all starts in small pictures and groups the results, best first."""
        chosen = np.unique(np.linspace(0, len(views.views) - 1, _COARSE_VIEWS).astype(int))
        problem = self._problem(ViewSet(views.camera, tuple(views.views[k] for k in chosen)), self._coarse)
        found = []
        for pose in search.poses(guess):
            estimate = problem.refine(Estimate(pose), _COARSE)
            found.append((problem.cost(estimate, _COARSE.shrink), estimate))
            progress(1)
        found.sort(key=lambda item: item[0])
        basins: list[Basin] = []
        for cost, estimate in found:
            if not np.isfinite(cost):
                continue
            for k, basin in enumerate(basins):
                if _near(estimate.base_camera, basin.estimate.base_camera, _SAME_BASIN_M, _SAME_BASIN_DEG):
                    basins[k] = basin._replace(starts=basin.starts + 1)
                    break
            else:
                basins.append(Basin(estimate, cost, 1))
        if not basins:
            raise RealdiffError(
                "the robot isn't where the guess looks",
                expected="a guess from which the rendered robot lies in the picture",
                next_step="check --position and --target (metres, in the frame base), or enlarge the search",
            )
        return basins

    def _refined(self, problem: Problem, basins: list[Basin]) -> tuple[Basin, list[Basin]]:
        """Refines the best basins at full size; returns the best and those that end elsewhere."""
        refined: list[Basin] = []
        for basin in basins[:_RIVALS]:
            estimate = problem.refine(basin.estimate, _MIDDLE)
            merged = Basin(estimate, problem.cost(estimate, 1), basin.starts)
            for k, other in enumerate(refined):
                if _near(estimate.base_camera, other.estimate.base_camera, _SAME_BASIN_M / 4, _SAME_BASIN_DEG / 4):
                    refined[k] = other._replace(starts=other.starts + basin.starts)
                    break
            else:
                refined.append(merged)
        refined.sort(key=lambda item: item.cost)
        best = refined[0]
        estimate = problem.refine(best.estimate, _FINE)
        return best._replace(estimate=estimate), refined[1:]


def _near(a: Pose, b: Pose, distance_m: float, angle_deg: float) -> bool:
    turn = 2 * np.arccos(np.clip(abs(float(a.quaternion @ b.quaternion)), 0.0, 1.0))
    return bool(np.linalg.norm(a.position - b.position) <= distance_m and np.degrees(turn) <= angle_deg)
