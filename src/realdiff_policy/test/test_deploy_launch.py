"""deploy.launch.py: its arguments, what it refuses before anything starts, and one whole trial in simulation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
ROS2 = shutil.which("ros2")
ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "launch" / "deploy.launch.py"
pytestmark = [pytest.mark.graph, pytest.mark.skipif(ROS2 is None, reason="there is no ros2 command here")]


def launch(*arguments: str, timeout: float = 60.0) -> tuple[int, str]:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [ROS2, "launch", str(FILE), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_shows_one_table_of_arguments() -> None:
    code, output = launch("--show-args")
    assert code == 0
    for name in ("task", "robot", "camera", "policy", "robot_ip", "rviz", "record", "dry_run"):
        assert f"'{name}':" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["taks:=can_to_plate"], "unknown argument 'taks': did you mean 'task'?"),
        (["robot_address:=172.16.0.2"], "did you mean 'robot_ip'?"),
        (["robot:=moon"], "'real', 'sim', 'fci'"),
        (["robot:=real", "camera:=real"], "robot:=real needs robot_ip"),
        (["robot:=real", "camera:=sim", "robot_ip:=172.16.0.2"], "use camera:=real"),
        (["robot:=sim", "camera:=real"], "doesn't see the simulated robot"),
        (["policy:=no_such_bundle"], "there is no such policy bundle"),
    ],
)
def test_refuses_before_anything_starts(arguments: list[str], message: str) -> None:
    code, output = launch(*arguments)
    assert code != 0
    assert message in output
    assert "process started" not in output


def test_another_launch_file_may_include_it_with_arguments_of_its_own(tmp_path: Path) -> None:
    outer = tmp_path / "outer.launch.py"
    outer.write_text(f"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

def generate_launch_description():
    source = PythonLaunchDescriptionSource({str(FILE)!r})
    return LaunchDescription([
        DeclareLaunchArgument("colour_of_the_table", default_value="grey"),
        IncludeLaunchDescription(source, launch_arguments=[("policy", "no_such_bundle")]),
    ])
""")
    done = subprocess.run(
        [ROS2, "launch", str(outer), "colour_of_the_table:=red"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "there is no such policy bundle" in done.stdout + done.stderr  # that far, and not stopped by the argument


def test_a_trial_in_simulation_from_reset_to_a_labelled_record_with_its_bag(tmp_path: Path) -> None:
    from realdiff_core.bag import BagReader
    from realdiff_core.episode import validate_episode
    from realdiff_core.seeds import FIRST_TRIAL_SEED

    pytest.importorskip("mujoco")
    code, output = launch(
        "loader:=scripted_policy:load", f"policy:={tmp_path}", "time_limit:=3.0", f"output:={tmp_path / 'trials'}",
        "rate:=10.0", "seed:=4", timeout=180,
    )  # fmt: skip
    assert code == 0, output
    folder = tmp_path / "trials" / "can_to_plate_000004"
    record = json.loads((folder / "trial.json").read_text())
    assert record["outcome"] == "failure"
    assert record["failure_category"] == "timeout"
    assert record["depth"] == "clean_sim"
    assert validate_episode(folder / "bag").problems == []
    with BagReader(folder / "bag") as reader:
        provenance = reader.provenance()
        assert reader.topics["/realdiff/commanded_action"].count > 50
    assert provenance.success is False
    assert provenance.seed == FIRST_TRIAL_SEED + 4
