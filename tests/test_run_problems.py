"""What is missing and can't be installed is named with the one command that installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_checkout import PYTHON, Checkout
from workspace import python_env, system
from workspace.interpreter import Interpreter, ask, find
from workspace.layout import Layout
from workspace.report import SetupError

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="plays root and another user, which only root can")
NOBODY = 65534
HERE = Interpreter(PYTHON, f"3.{sys.version_info.minor}", True, True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def make_apt(checkout: Checkout, *, works: bool = True) -> None:
    """Gives the machine an apt-get that brings a compiler and cmake, or fails like one without a network."""
    tools = " ".join(str(checkout.bin / name) for name in ("g++", "make", "cmake"))
    script = f'echo "apt $*" >> {checkout.calls_file}\n'
    if works:
        script += (
            f'case "$*" in *install*) for tool in {tools}; do echo "#!/bin/sh" > $tool; chmod +x $tool; done;; esac'
        )
        checkout.link("chmod")
    else:
        script += "echo \"Err: Temporary failure resolving 'mirror'\"; exit 100"
    checkout.program("apt-get", script)


@pytest.fixture
def open_checkout(tmp_path: Path) -> Checkout:
    """A checkout in which any user may read and write, with a Python that any user may start."""
    python = next((path for path in (PYTHON, Path("/usr/bin/python3")) if _serves_others(path)), None)
    if python is None:
        pytest.skip("no supported Python here that another user may start")
    checkout = Checkout(tmp_path / "checkout", python.resolve())
    for parent in checkout.folder.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and "pytest" in str(parent):
            parent.chmod(0o755)
    for folder in (checkout.folder, checkout.machine):
        subprocess.run(["chmod", "-R", "a+rwX", folder], check=True)
    return checkout


def _serves_others(python: Path) -> bool:
    try:
        command = [python, "-E", "-S", "-c", "import sys; print(sys.version_info >= (3, 10))"]
        return subprocess.run(command, user=NOBODY, capture_output=True, cwd="/").stdout == b"True\n"
    except OSError:
        return False


# No compiler, root or not


@ROOT_ONLY
def test_root_without_a_compiler_gets_one_through_apt(checkout: Checkout) -> None:
    for name in ("g++", "cmake"):
        (checkout.bin / name).unlink()
    make_apt(checkout)
    result = checkout.run("true")
    assert result.returncode == 0, result.stderr
    assert checkout.calls("apt") == ["apt update", "apt install -y --no-install-recommends build-essential cmake"]
    assert "run: system packages (build-essential, cmake): done" in result.stderr


@ROOT_ONLY
def test_another_user_without_a_compiler_is_told_the_command(open_checkout: Checkout) -> None:
    for name in ("g++", "make", "cmake"):
        (open_checkout.bin / name).unlink()
    make_apt(open_checkout)
    result = open_checkout.run("true", user=NOBODY)
    assert result.returncode == 3
    assert result.stderr.splitlines() == [
        "run: missing on this system, and only root can install it: a C++ compiler, cmake.",
        "  next: sudo apt-get install -y build-essential cmake",
    ]
    assert open_checkout.calls() == []


@ROOT_ONLY
def test_another_user_with_all_tools_needs_no_root(open_checkout: Checkout) -> None:
    result = open_checkout.run("true", user=NOBODY)
    assert result.returncode == 0, result.stderr


@ROOT_ONLY
def test_root_without_a_network_is_told_the_command(checkout: Checkout) -> None:
    (checkout.bin / "cmake").unlink()
    make_apt(checkout, works=False)
    result = checkout.run("true")
    assert result.returncode == 3
    assert "cmake could not be installed: the package lists could not be fetched (no network?)" in result.stderr
    assert "next: sudo apt-get install -y cmake" in result.stderr
    assert "Temporary failure resolving" in result.stderr


def test_without_apt_the_package_manager_is_named(checkout: Checkout) -> None:
    (checkout.bin / "make").unlink()
    result = checkout.run("true")
    assert result.returncode == 3
    assert "missing on this system: make." in result.stderr
    assert "install it with your package manager" in result.stderr


@pytest.mark.parametrize(
    ("interpreter", "new_venv", "packages"),
    [
        (Interpreter(Path("/usr/bin/python3"), "3.12", False, False), True, ["python3-dev", "python3-venv"]),
        (Interpreter(Path("/usr/bin/python3.11"), "3.11", False, True), True, ["python3.11-venv"]),
        (Interpreter(Path("/x/.venv/bin/python"), "3.11", False, False), False, ["python3.11-dev"]),
        (Interpreter(Path("/usr/bin/python3"), "3.12", True, True), True, []),
    ],
)
def test_parts_of_python_that_debian_packs_apart(
    checkout: Checkout, interpreter: Interpreter, new_venv: bool, packages: list[str]
) -> None:
    missing = system.missing_for_build(interpreter, checkout.environment(), new_venv=new_venv)
    assert sorted(package for entry in missing for package in entry.packages) == packages


# No off-screen OpenGL: named once per command, all else works


def test_rendering_that_is_missing_is_named_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system, "_library_folders", lambda env: [tmp_path])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    missing = system.missing_rendering({})
    system.install_rendering(missing, stamp=tmp_path / "stamp", log=tmp_path / "log", env={})
    assert "sudo apt-get install -y libegl1 libgl1 libopengl0" in capsys.readouterr().err
    (tmp_path / "libOSMesa.so.8").touch()
    assert system.rendering_backend({}) == "osmesa"
    (tmp_path / "libEGL.so.1").touch()
    assert system.rendering_backend({}) == "osmesa"
    (tmp_path / "libGL.so.1").touch()
    assert system.rendering_backend({}) == "egl"
    assert system.missing_rendering({}) == []


def test_rendering_that_apt_cannot_bring_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], checkout: Checkout
) -> None:
    monkeypatch.setattr(system, "_library_folders", lambda env: [tmp_path])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    make_apt(checkout, works=False)
    for _ in range(2):
        missing = system.missing_rendering({})
        env = checkout.environment()
        system.install_rendering(missing, stamp=tmp_path / "stamp", log=tmp_path / "log", env=env)
    assert len(checkout.calls("apt")) == 2  # update and install, once
    assert capsys.readouterr().err.count("Install it with: sudo apt-get install -y libegl1 libgl1") == 2


# Python


def test_a_python_that_is_too_old_is_named(checkout: Checkout) -> None:
    checkout.program("python3", 'case "$*" in *exit*) exit 1;; *) echo 3.8.10;; esac')
    result = checkout.run("true")
    assert result.returncode == 3
    assert "Python 3.10 to 3.13 is needed; python3 here is 3.8.10." in result.stderr
    assert "next: sudo apt-get install python3.12" in result.stderr


def test_another_python_beside_an_old_one_is_found(checkout: Checkout) -> None:
    checkout.program("python3", 'case "$*" in *exit*) exit 1;; *) echo \'["3.8", true, true]\';; esac')
    checkout.fake_python(f"python3.{sys.version_info.minor}")
    result = checkout.run("true")
    assert result.returncode == 0, result.stderr
    assert f"virtual environment (Python 3.{sys.version_info.minor})" in result.stderr


def test_no_python_and_no_apt(checkout: Checkout) -> None:
    (checkout.bin / "python3").unlink()
    result = checkout.run("true")
    assert result.returncode == 3
    assert "no Python found; 3.10 to 3.13 is needed." in result.stderr
    assert "next: sudo apt-get install python3 python3-venv python3-dev" in result.stderr


@ROOT_ONLY
def test_root_without_python_gets_one_through_apt(checkout: Checkout) -> None:
    real = checkout.bin / "python3"
    hidden = checkout.machine / "python3"
    real.rename(hidden)
    checkout.link("mv")
    checkout.program(
        "apt-get", f'echo "apt $*" >> {checkout.calls_file}\ncase "$*" in *install*) mv {hidden} {real};; esac'
    )
    result = checkout.run("true")
    assert result.returncode == 0, result.stderr
    assert any("python3 python3-venv" in call for call in checkout.calls("apt"))


def test_the_python_that_the_user_names_must_serve(checkout: Checkout) -> None:
    checkout.program("old", "exit 1")
    result = checkout.run("true", REALDIFF_PYTHON=str(checkout.bin / "old"))
    assert result.returncode == 3
    assert f"REALDIFF_PYTHON={checkout.bin / 'old'} is no Python 3.10 to 3.13." in result.stderr


def test_the_python_of_a_sourced_ros_must_be_there(checkout: Checkout, tmp_path: Path) -> None:
    rclpy = tmp_path / "opt" / "lib" / "python3.9" / "site-packages" / "rclpy"
    rclpy.mkdir(parents=True)
    (rclpy / "__init__.py").touch()
    result = checkout.run("true", ROS_DISTRO="jazzy", PYTHONPATH=str(rclpy.parent))
    assert result.returncode == 3
    assert "Python 3.9 is needed; " in result.stderr
    assert "sudo apt-get install -y python3.9 python3.9-venv python3.9-dev" in result.stderr


def test_find_prefers_python3_and_asks_each(checkout: Checkout) -> None:
    found = find(checkout.environment())
    assert (found.path, found.version) == (checkout.bin / "python3", f"3.{sys.version_info.minor}")
    assert ask(checkout.bin / "g++", checkout.environment()) is None
    assert ask(checkout.bin / "nothing", checkout.environment()) is None


def test_wheels_of_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(SetupError) as caught:
        python_env.check_platform()
    assert "aarch64" in caught.value.what
    assert "source /opt/ros/jazzy/setup.bash" in caught.value.fix


# pip


def test_no_network_with_the_real_pip(tmp_path: Path) -> None:
    log = tmp_path / "pip.log"
    # Nothing listens on port 9 of this machine.
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--retries=1", "--index-url=http://127.0.0.1:9/x"]
    with log.open("w") as file:
        status = subprocess.run(
            [*command, "--target", str(tmp_path), "a-package"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
        ).returncode
    assert status != 0
    error = python_env._explain_pip(log, HERE)
    assert "can't be reached" in error.what
    assert "./run setup" in error.fix


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for ros-jazzy-rclpy==7.1.6", "pip finds no ros-jazzy-rclpy==7.1.6"),
        ("error: something else", "pip failed"),
    ],
)
def test_pip_errors_are_explained(checkout: Checkout, output: str, what: str) -> None:
    checkout.during("pip", f'echo "{output}"; exit 1')
    result = checkout.run("true")
    assert result.returncode == 3
    assert what in result.stderr
    assert "./run setup" in result.stderr
    checkout.during("pip", "")
    assert checkout.run("true").returncode == 0


def test_what_pip_left_half_installed_is_installed_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole-1.0.dist-info"
    half = tmp_path / "half-1.0.dist-info"
    for folder in (whole, half):
        folder.mkdir()
        (folder / "METADATA").write_text("Name: x")
    (whole / "RECORD").touch()
    assert python_env.forget_half_installed(tmp_path) == ["half-1.0.dist-info"]
    assert whole.is_dir() and not half.exists()


def test_settings_of_the_user_that_break_environments_are_left_out() -> None:
    env = python_env._pip_environment({"PIP_USER": "1", "PIP_TARGET": "/x", "PIP_INDEX_URL": "y", "PYTHONHOME": "/z"})
    assert env["PIP_INDEX_URL"] == "y"
    assert not {"PIP_USER", "PIP_TARGET", "PYTHONHOME"} & set(env)


def test_beside_a_sourced_ros_its_numpy_stays(tmp_path: Path) -> None:
    """Run with this test's own Python, which has the libraries: then none is installed and numpy is held."""
    import numpy

    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "rosdep.txt").write_text("# libraries\nnumpy==9\nscipy==9\n")
    layout = Layout(tmp_path, sourced=True)
    interpreter = Interpreter(Path(sys.executable), HERE.version, True, True)
    env = {**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    arguments = python_env._beside_sourced(layout, interpreter, env)
    assert arguments[0] == "-c"
    assert Path(arguments[1]).read_text() == f"numpy=={numpy.__version__}\n"
    assert not any("rosdep" in argument for argument in arguments)


def test_beside_a_sourced_ros_only_what_it_lacks_is_installed(tmp_path: Path, checkout: Checkout) -> None:
    checkout.program("python3", 'echo \'[["numpy", "cv2", "colcon_core"], "1.26.4"]\'')
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "rosdep.txt").write_text("# libraries\nnumpy==9\nopencv-python-headless==9\nscipy==9\n")
    interpreter = Interpreter(checkout.bin / "python3", "3.12", True, True)
    arguments = python_env._beside_sourced(Layout(tmp_path, sourced=True), interpreter, checkout.environment())
    assert Path(arguments[arguments.index("-c") + 1]).read_text() == "numpy==1.26.4\n"
    assert Path(arguments[arguments.index("-r") + 1]).read_text() == "scipy==9\n"
    assert str(requirements / "colcon.txt") in arguments
