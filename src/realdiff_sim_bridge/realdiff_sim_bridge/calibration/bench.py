"""Runs the alignment on synthetic scenarios of known truth and counts: accepted, refused, silently wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from realdiff_core.camera import CameraModel
from realdiff_core.errors import RealdiffError
from scipy.stats import beta

from realdiff_sim_bridge.calibration.align import Aligner, Search
from realdiff_sim_bridge.calibration.synthetic import MaskNoise, MeshRobot, pose_error, scenario
from realdiff_sim_bridge.calibration.views import ViewSet

POSITION_M, ANGLE_DEG = 0.005, 0.3
"""An accepted result farther from the truth than this is silently wrong."""

CAMERA = CameraModel.from_fov(640, 480, 55.0)
"""The D435's colour stream at 640×480, nominal."""

REAL_ROBOT_DETAIL = 0.5
"""Share of the triangles of the "real" robot. The alignment uses all: outlines differ by up to 0.5 px, as those of a
model and its robot do."""


@dataclass(frozen=True)
class Condition:
    """What a series of runs has in common.

    Attributes:
        views: Views a run.
        jitter_px: Mask noise, standard deviation [px].
        correlation_px: Smoothing of the mask noise [px].
        dilation_px: Masks cut out too large by this much [px].
        start_m: Distance of the guess from the truth [m].
        start_deg: Angle of the guess from the truth [°].
        focal_error: The focal length that is given is too large by this share.
    """

    views: int = 12
    jitter_px: float = 1.0
    correlation_px: float = 4.0
    dilation_px: float = 0.0
    start_m: float = 0.05
    start_deg: float = 5.0
    focal_error: float = 0.0


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        seed: Of the scenario.
        accepted: The verdict.
        error_mm: Distance from the true position; NaN if the run ended with an error.
        error_deg: Angle from the true orientation.
        bound_mm: The uncertainty (95 %) that the result claims.
        bound_deg: The same of the orientation.
        mean_px: Mean distance of the contours.
        focal_error: Estimated error of the focal length.
        seconds: Processor time.
        reasons: Why it was refused.
    """

    seed: int
    accepted: bool
    error_mm: float
    error_deg: float
    bound_mm: float
    bound_deg: float
    mean_px: float
    focal_error: float
    seconds: float
    reasons: str

    @property
    def silently_wrong(self) -> bool:
        """Accepted, but farther from the truth than allowed."""
        return self.accepted and not (self.error_mm <= POSITION_M * 1e3 and self.error_deg <= ANGLE_DEG)

    def row(self) -> dict[str, object]:
        """Returns the run as a row of a table."""
        values = asdict(self)
        return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}


def runs(condition: Condition, count: int, seed: int = 0, search: Search | None = None) -> Iterator[Run]:
    """Yields runs with the seeds `seed` … `seed + count − 1`."""
    robot = MeshRobot(REAL_ROBOT_DETAIL)
    scale = 1 + condition.focal_error
    assumed = replace(CAMERA, fx=CAMERA.fx * scale, fy=CAMERA.fy * scale)
    aligner = Aligner(assumed)
    noise = MaskNoise(condition.jitter_px, condition.correlation_px, condition.dilation_px)
    try:
        for number in range(seed, seed + count):
            case = scenario(
                number,
                robot,
                aligner.renderer.joint_range,
                camera=CAMERA,
                views=condition.views,
                noise=noise,
                start_m=condition.start_m,
                start_deg=condition.start_deg,
            )
            started = time.process_time()
            views = ViewSet(assumed, case.views.views)
            nan = float("nan")
            try:
                result = aligner.align(views, case.guess, search)
            except RealdiffError as error:
                seconds = time.process_time() - started
                yield Run(number, False, nan, nan, nan, nan, nan, nan, seconds, error.what)
                continue
            seconds = time.process_time() - started
            distance, angle = pose_error(result.base_camera, case.truth)
            evidence = result.evidence
            yield Run(
                seed=number,
                accepted=result.accepted,
                error_mm=distance * 1e3,
                error_deg=float(np.degrees(angle)),
                bound_mm=evidence.uncertainty.position_m * 1e3,
                bound_deg=evidence.uncertainty.angle_deg,
                mean_px=evidence.residual.mean_px,
                focal_error=evidence.intrinsics.focal_error,
                seconds=seconds,
                reasons=" | ".join(result.reasons),
            )
    finally:
        aligner.close()


def share_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper–Pearson interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(1 - tail, hits + 1, count - hits))
    return low, high


def summary(condition: Condition, results: list[Run]) -> str:
    """Returns a Markdown table of a series."""
    count = len(results)
    accepted = [run for run in results if run.accepted]
    wrong = sum(run.silently_wrong for run in results)
    good, bad = share_interval(len(accepted), count), share_interval(wrong, count)
    lines = [
        "| | |",
        "|---|---|",
        f"| condition | {', '.join(f'{name} {value:g}' for name, value in asdict(condition).items())} |",
        f"| accepted | {len(accepted)} of {count} [{good[0]:.0%}, {good[1]:.0%}] |",
        f"| accepted but over {POSITION_M * 1e3:g} mm or {ANGLE_DEG:g}° | {wrong} of {count} "
        f"[{bad[0]:.0%}, {bad[1]:.0%}] |",
    ]
    if accepted:
        position, angle = np.array([(run.error_mm, run.error_deg) for run in accepted]).T
        lines += [
            f"| position error if accepted, median / largest | {np.median(position):.1f} / {position.max():.1f} mm |",
            f"| orientation error if accepted, median / largest | {np.median(angle):.2f} / {angle.max():.2f}° |",
        ]
    seconds = np.array([run.seconds for run in results])
    lines.append(f"| processor time a run, median / largest | {np.median(seconds):.0f} / {seconds.max():.0f} s |")
    return "\n".join(lines) + "\n"
