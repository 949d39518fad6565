"""deploy.launch.py under the real launch system, with launch_pytest; run by `colcon test`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="launch_pytest isn't installed")
pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")

LAUNCH_FILE = Path(__file__).resolve().parents[4] / "launch" / "deploy.launch.py"
HERE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deploy")


@launch_pytest.fixture
def trial(output: Path):
    """One trial with the scripted policy of the tests, which never succeeds."""
    from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription

    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    arguments = {
        "loader": "scripted_policy:load",
        "policy": str(output),
        "time_limit": "2.0",
        "output": str(output / "trials"),
        "rate": "10.0",
        "seed": "4",
    }
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    return LaunchDescription(
        [
            SetEnvironmentVariable("PYTHONPATH", paths),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=trial, shutdown=False)
def test_a_trial_ends_with_a_labelled_record(output: Path) -> None:
    import time

    record = output / "trials" / "can_to_plate_000004" / "trial.json"
    deadline = time.monotonic() + 120.0
    while not record.is_file():
        assert time.monotonic() < deadline, f"no record in {output}; Python {sys.version}"
        time.sleep(0.2)
    assert json.loads(record.read_text())["failure_category"] == "timeout"
