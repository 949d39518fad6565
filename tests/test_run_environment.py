"""The built workspace itself: ./run gives what colcon's own setup file gives; colcon finds and tests the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import colcon, environment
from workspace.layout import Layout
from workspace.ros import sourced_rclpy, without_checkout

ROOT = Path(__file__).resolve().parents[1]
ENV = without_checkout(os.environ, ROOT)
LAYOUT = Layout(ROOT, sourced=sourced_rclpy(ENV, ROOT) is not None)
BUILT = (ROOT / "install" / "local_setup.bash").is_file() and os.access(LAYOUT.python, os.X_OK)

pytestmark = pytest.mark.skipif(not BUILT, reason="the workspace is not built: ./run setup")


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    return colcon.packages(LAYOUT, ENV)


@pytest.fixture(scope="module")
def base() -> dict[str, str]:
    return environment.base(LAYOUT, ENV)


def test_the_environment_is_that_of_colcons_setup_file(base: dict[str, str], packages: dict[str, Path]) -> None:
    ours = environment.complete(LAYOUT, base, list(packages))
    command = f"source {ROOT}/install/local_setup.bash >&2; env -0"
    answer = subprocess.run(["bash", "-c", command], env=base, capture_output=True, check=True, text=True)
    theirs = dict(line.split("=", 1) for line in answer.stdout.split("\0") if "=" in line)
    for name in ("AMENT_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "COLCON_PREFIX_PATH"):
        assert set(ours[name].split(":")) >= set(theirs[name].split(":")) - {""}, name
    # Packages in sources that were removed stay installed until someone removes them; nothing else may be missing.
    assert {path.name for path in (ROOT / "install").iterdir() if path.is_dir()} >= set(packages)
    assert set(theirs["CMAKE_PREFIX_PATH"].split(":")) <= set(ours["CMAKE_PREFIX_PATH"].split(":"))
    assert not LAYOUT.sourced or "embedded_ros2" not in ours["PATH"]


def test_interfaces_import_and_configuration_is_installed(base: dict[str, str], packages: dict[str, Path]) -> None:
    program = """
import ament_index_python.packages as index, pathlib
from control_msgs.action import FollowJointTrajectory
from franka_msgs.msg import FrankaRobotState
from realdiff_msgs.action import EnhanceBag
from realdiff_msgs.msg import Provenance
from realdiff_msgs.srv import Reset
from tf2_msgs.msg import TFMessage
for cls in (FollowJointTrajectory.Goal, FrankaRobotState, EnhanceBag.Goal, Provenance, Reset.Request, TFMessage):
    cls()
share = pathlib.Path(index.get_package_share_directory("realdiff"))
print(*sorted(path.relative_to(share) for folder in ("launch", "config") for path in (share / folder).rglob("*.*")))
"""
    env = environment.complete(LAYOUT, base, list(packages))
    answer = subprocess.run([LAYOUT.python, "-c", program], env=env, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    sources = [
        path.relative_to(ROOT)
        for folder in ("launch", "config")
        for path in (ROOT / folder).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(map(str, sources)) <= set(answer.stdout.split())


def test_colcon_finds_the_packages_of_the_source_tree_only() -> None:
    """A plain `colcon build` in the root must not build our copies of other projects' interfaces."""
    command = [LAYOUT.python, "-c", colcon.COLCON, "list", "--names-only"]
    env = {**environment.base(LAYOUT, ENV), "COLCON_LOG_PATH": os.devnull}
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == sorted(path.parent.name for path in (ROOT / "src").glob("*/package.xml"))


@pytest.mark.slow
def test_colcon_test_runs_the_tests_of_a_package(
    base: dict[str, str], packages: dict[str, Path], tmp_path: Path
) -> None:
    env = environment.complete(LAYOUT, base, list(packages))
    command = [LAYOUT.python, "-c", colcon.COLCON, "--log-base", str(tmp_path / "log"), "test"]
    command += ["--packages-select", "realdiff_core", "--test-result-base", str(tmp_path / "results")]
    command += ["--return-code-on-test-failure", "--pytest-args", "-k", "camera"]
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (result,) = (tmp_path / "results").rglob("*.xml")
    assert 'tests="0"' not in result.read_text()
    assert 'failures="0"' in result.read_text()


def test_this_run_uses_the_interpreter_of_the_environment() -> None:
    if "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in os.environ:
        pytest.skip("not started by ./run test")
    assert Path(sys.prefix) == LAYOUT.venv
