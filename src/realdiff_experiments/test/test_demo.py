"""The demonstration from end to end: real processes, real DDS, a light model."""

from __future__ import annotations

import shutil

import pytest
from realdiff_core.errors import RealdiffError
from realdiff_experiments.demo import DemoSettings, run_demo
from realdiff_experiments.demo_trial import TASK
from realdiff_policy.bundle_path import RECORD_FILE, bundle_folders

from realdiff_experiments import demo


@pytest.mark.graph
@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the built workspace: ./run test")
def test_demo_writes_a_self_contained_report(tmp_path) -> None:
    from realdiff_experiments.demo_report import write_report

    settings = DemoSettings(output=tmp_path / "demo", seed=0, rate_hz=3.0, model="disparity")
    result = run_demo(settings, lambda text: None)
    assert result.live.sent >= 15
    assert result.live.received == result.live.sent
    assert result.live.identical == result.live.sent
    assert result.real is None
    page = write_report(settings, result).read_text()
    assert "From clean to enhanced" in page
    assert page.count("data:image/png") >= 8
    assert 'src="http' not in page and 'href="http' not in page
    # Where a bundle of the task ships, the policy at work is the second half.
    ships = any((folder / TASK / RECORD_FILE).is_file() for folder in bundle_folders())
    assert (result.trial is not None) == ships == ("The policy at work" in page)


def test_missing_ros2_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    with pytest.raises(RealdiffError, match=r"\./run demo"):
        run_demo(DemoSettings(output=tmp_path, seed=0, rate_hz=2.0, model="none"), lambda text: None)


def test_failing_step_names_command_and_log(tmp_path) -> None:
    runner = demo._Runner(tmp_path, lambda text: None)
    with pytest.raises(RealdiffError, match="exit code 3") as failure:
        runner.step("nothing works", ["sh", "-c", "echo broken; exit 3"])
    assert "broken" in str(failure.value)
    assert "01.log" in str(failure.value)
