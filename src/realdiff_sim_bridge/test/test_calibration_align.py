"""The alignment on synthetic views: it finds the camera, and what can't be trusted is refused with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_fixtures import CAMERA, QUICK_SEARCH, aligner, case, write_folder
from realdiff_core.errors import ConfigError, RealdiffError
from realdiff_sim_bridge.calibration.align import Aligner, Alignment, Search
from realdiff_sim_bridge.calibration.bench import Condition, Run, runs, share_interval, summary
from realdiff_sim_bridge.calibration.fit import Estimate
from realdiff_sim_bridge.calibration.quality import Evidence, Limits, Residual, reasons
from realdiff_sim_bridge.calibration.synthetic import pose_error
from realdiff_sim_bridge.calibration.transform import load_transform
from realdiff_sim_bridge.calibration.uncertainty import IntrinsicsCheck, Uncertainty
from realdiff_sim_bridge.calibration.views import ViewSet
from realdiff_sim_bridge.commands.calibrate import main
from realdiff_sim_bridge.geometry import Pose, look_at
from sim_fixtures import needs_gl

pytestmark = needs_gl


@pytest.fixture(scope="module")
def result() -> Alignment:
    return aligner().align(case().views, case().guess, QUICK_SEARCH)


def test_the_camera_is_found_within_the_claimed_uncertainty(result: Alignment) -> None:
    distance, angle = pose_error(result.base_camera, case().truth)
    assert result.accepted, result.reasons
    assert distance < 0.004
    assert np.degrees(angle) < 0.2
    spread = result.evidence.uncertainty
    assert distance < 1.5 * spread.position_m
    assert spread.position_m < 0.005
    assert result.evidence.agreeing >= 3
    assert result.evidence.residual.mean_px < 0.7
    assert result.evidence.residual.overlap > 0.95
    assert abs(result.evidence.intrinsics.focal_error) < 0.01


def test_a_wrong_focal_length_is_refused() -> None:
    wrong = replace(CAMERA, fx=CAMERA.fx * 1.04, fy=CAMERA.fy * 1.04)
    own = Aligner(wrong)
    try:
        found = own.align(ViewSet(wrong, case().views.views), case().guess, QUICK_SEARCH)
    finally:
        own.close()
    assert found.evidence.intrinsics.focal_error == pytest.approx(1 / 1.04 - 1, abs=0.01)
    assert any("focal length" in reason for reason in found.reasons)
    assert pose_error(found.base_camera, case().truth)[0] > 0.02  # what the refusal has saved


def test_views_that_determine_nothing_are_refused() -> None:
    views, guess = case().views, case().guess
    with pytest.raises(RealdiffError, match="too few views") as caught:
        aligner().align(ViewSet(CAMERA, views.views[:7]), guess, QUICK_SEARCH)
    assert caught.value.got == 7
    alike = tuple(replace(views.views[0], name=f"{k}") for k in range(10))
    with pytest.raises(RealdiffError, match="too much alike"):
        aligner().align(ViewSet(CAMERA, alike), guess, QUICK_SEARCH)
    joints = views.views[2].joints.copy()
    joints[3] = 1.0
    bent = (*views.views[:2], replace(views.views[2], joints=joints), *views.views[3:])
    with pytest.raises(ConfigError, match="limits") as limits:
        aligner().align(ViewSet(CAMERA, bent), guess, QUICK_SEARCH)
    assert "fr3_joint4" in str(limits.value)
    away = look_at((1.2, 0.0, 0.6), (3.0, 0.0, 0.6))
    with pytest.raises(RealdiffError, match="isn't where the guess looks"):
        aligner().align(views, away, Search(starts=2))


GOOD = Evidence(
    names=("a", "b"),
    residual=Residual(0.8, 2.0, 0.002, 0.005, 0.95),
    views=(Residual(0.8, 2.0, 0.002, 0.005, 0.95), Residual(0.9, 2.1, 0.002, 0.005, 0.95)),
    uncertainty=Uncertainty(0.002, 0.1, (0.001,) * 3, (0.05,) * 3),
    intrinsics=IntrinsicsCheck(0.002, 0.003, (2.0, -1.0), (2.0, 2.0)),
    dilation_px=0.1,
    agreeing=12,
    starts=16,
    rivals=(4.0,),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"residual": Residual(2.5, 5.0, 0.006, 0.01, 0.8)}, "contours don't fit"),
        ({"residual": Residual(1.5, 9.0, 0.006, 0.01, 0.8)}, "contours don't fit"),
        ({"views": (GOOD.views[0], Residual(7.0, 20.0, 0.02, 0.05, 0.6))}, "single views don't fit .*: b"),
        ({"uncertainty": Uncertainty(0.006, 0.1, (0.003,) * 3, (0.05,) * 3)}, "too uncertain: 6.0 mm"),
        ({"uncertainty": Uncertainty(0.002, 0.4, (0.001,) * 3, (0.2,) * 3)}, "too uncertain: .*0.40°"),
        ({"dilation_px": -2.6}, "2.6 px too small"),
        ({"dilation_px": 2.6}, "2.6 px too large"),
        ({"intrinsics": IntrinsicsCheck(-0.03, 0.002, (0.0, 0.0), (1.0, 1.0))}, "focal length looks -3.0%"),
        ({"intrinsics": IntrinsicsCheck(0.0, 0.002, (0.0, 25.0), (2.0, 2.0))}, "principal point looks .25 px off in y"),
        ({"agreeing": 2}, "only 2 of 16 starts"),
        ({"rivals": (1.2, 3.0)}, "another pose fits almost as well"),
    ],
)
def test_each_limit_refuses_with_its_reason(change: dict[str, object], message: str) -> None:
    import re

    assert reasons(GOOD, Limits()) == ()
    found = reasons(replace(GOOD, **change), Limits())  # type: ignore[arg-type]
    assert len(found) == 1
    assert re.search(message, found[0]), found


def test_limits_in_pixels_follow_the_width() -> None:
    half = Limits().for_width(320)
    assert (half.mean_px, half.principal_px, half.position_m) == (1.0, 5.0, 0.005)


def test_one_start_needs_no_second_to_agree() -> None:
    assert reasons(replace(GOOD, agreeing=1, starts=1), Limits()) == ()


def _arguments(views: Path, output: Path, guess: Pose) -> list[str]:
    position = [f"{value}" for value in guess.position]
    target = [f"{value}" for value in guess.position + guess.rotation[:, 2]]
    return ["fit", str(views), "-o", str(output), "--position", *position, "--target", *target, "--starts", "4"]


def test_command_writes_transform_pictures_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = write_folder(tmp_path / "views", case())
    assert main(_arguments(views, tmp_path / "out", case().guess)) == 0
    printed = capsys.readouterr().out
    assert "accepted" in printed
    assert "static_transform_publisher" in printed
    content = load_transform(tmp_path / "out" / "camera_tf.yaml")
    distance, angle = pose_error(content.optical.pose, case().truth)
    assert distance < 0.004
    assert np.degrees(angle) < 0.2
    assert content.quality is not None
    assert content.quality.views == 10
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"overlay_mask_{k:03d}.png" for k in range(10)} | {"contact_sheet.png", "report.html"} <= names
    report = (tmp_path / "out" / "report.html").read_text()
    assert "accepted" in report
    assert report.count("data:image/jpeg") == 10
    assert "src='http" not in report
    with pytest.raises(RealdiffError, match="exists already"):
        main(_arguments(views, tmp_path / "out", case().guess))


def test_command_refuses_a_view_of_another_moment_and_shows_it(tmp_path: Path) -> None:
    views = write_folder(tmp_path / "views", case())
    other = cv2.imread(str(views / "mask_001.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(views / "mask_006.png"), other)
    with pytest.raises(RealdiffError, match="refused") as caught:
        main(_arguments(views, tmp_path / "out", case().guess))
    assert "mask_006" in str(caught.value)
    assert "refused" in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "camera_tf.yaml").exists()
    assert (tmp_path / "out" / "overlay_mask_006.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--position", "1", "0", "1"],
        ["--position", "1", "0", "1", "--target", "0", "0", "0", "--marker", "7"],
        ["--guess", "nothing.yaml"],
    ],
)
def test_command_asks_for_one_first_guess(tmp_path: Path, arguments: list[str]) -> None:
    views = write_folder(tmp_path / "views", case())
    with pytest.raises(ConfigError):
        main(["fit", str(views), "-o", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_share_interval_against_the_binomial_distribution() -> None:
    from scipy.stats import binom

    low, high = share_interval(47, 50)
    assert binom.sf(46, 50, low) == pytest.approx(0.025)
    assert binom.cdf(47, 50, high) == pytest.approx(0.025)
    assert share_interval(0, 50)[0] == 0.0
    assert share_interval(50, 50)[1] == 1.0


def test_summary_counts_silently_wrong_runs() -> None:
    def run(seed: int, accepted: bool, error: float) -> Run:
        return Run(seed, accepted, error, 0.1, 3.0, 0.1, 0.8, 0.0, 10.0, "")

    results = [run(0, True, 2.0), run(1, True, 5.1), run(2, False, 40.0), run(3, False, float("nan"))]
    assert [result.silently_wrong for result in results] == [False, True, False, False]
    text = summary(Condition(), results)
    assert "| accepted | 2 of 4" in text
    assert "1 of 4" in text


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fifty_runs_are_right_or_refused() -> None:
    """1 px of mask noise, starts 50 mm and 5° off: at least 45 of 50 accepted, none of them wrong."""
    results = list(runs(Condition(), 50))
    print(summary(Condition(), results))
    assert not [run for run in results if run.silently_wrong]
    assert sum(run.accepted for run in results) >= 45
    assert np.median([run.seconds for run in results]) < 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("error", [0.03, -0.03])
def test_wrong_intrinsics_are_never_accepted(error: float) -> None:
    assert not [run for run in runs(Condition(focal_error=error), 10, seed=100) if run.accepted]


def test_estimates_of_one_pose_are_equal() -> None:
    pose = look_at((1.0, 0.0, 0.5), (0.0, 0.0, 0.3))
    assert np.allclose(Estimate(pose).moved(np.zeros(10)).base_camera.matrix, pose.matrix)
