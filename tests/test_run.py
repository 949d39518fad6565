"""./run sets up what is missing and only that, again after an interruption, and runs commands in the environment."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from run_checkout import PYTHON, Checkout, interrupt

ALL = ["bringup", "demo_msgs", "demo_py", "tf2_msgs"]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    result = checkout.run("setup")
    assert result.returncode == 0, result.stderr
    checkout.forget_calls()
    return checkout


def variables(output: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def test_help_sets_nothing_up(checkout: Checkout) -> None:
    result = checkout.run("--help")
    assert result.returncode == 0
    for command in ("./run demo", "./run test", "./run bench", "./run lint"):
        assert command in result.stdout
    assert checkout.run().returncode == 2
    assert checkout.calls() == []


def test_a_bare_machine_is_set_up_once(checkout: Checkout) -> None:
    first = checkout.run("env")
    assert first.returncode == 0, first.stderr
    assert len(checkout.calls("venv")) == 1
    itself, pip, assets = checkout.calls("pip")
    assert "pip.txt" in itself
    assert "--no-deps" in assets and "assets.txt" in assets
    assert [f"{name}.txt" in pip for name in ("ros", "rosdep", "base", "test")] == [True] * 4
    assert [sorted(names) for names in checkout.built()] == [ALL]
    for step in ("virtual environment", "Python packages", "colcon build"):
        assert f"run: {step}" in first.stderr
    checkout.forget_calls()
    second = checkout.run("env")
    assert checkout.calls() == []
    assert second.stderr == ""
    assert variables(second.stdout) == variables(first.stdout)


@pytest.mark.alone
def test_nothing_to_do_takes_less_than_a_second(ready: Checkout) -> None:
    times = []
    for _ in range(3):
        start = time.monotonic()
        assert ready.run("true").returncode == 0
        times.append(time.monotonic() - start)
    assert min(times) < 1.0


def test_the_environment_of_a_bare_machine(ready: Checkout) -> None:
    root = ready.folder
    env = variables(ready.run("env", ROS_DOMAIN_ID="7", MUJOCO_GL="", PYTHONDONTWRITEBYTECODE="1").stdout)
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["AMENT_PREFIX_PATH"].split(":") == [*(str(root / "install" / name) for name in ALL), str(root / ".venv")]
    assert env["PATH"].split(":")[0] == str(root / ".venv" / "bin")
    assert env["PATH"].split(":")[-1] == str(root / "embedded_ros2" / "bin")
    assert str(root / ".venv" / "lib") in env["LD_LIBRARY_PATH"].split(":")
    assert env["FASTRTPS_DEFAULT_PROFILES_FILE"] == env["FASTDDS_DEFAULT_PROFILES_FILE"]
    assert Path(env["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    expected = {
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        "ROS_DISTRO": "jazzy",
        "ROS_VERSION": "2",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": "7",
    }
    assert {name: env[name] for name in expected} == expected
    assert variables(ready.run("env").stdout)["MUJOCO_GL"] == "egl"


def test_run_within_run_changes_nothing(ready: Checkout) -> None:
    outer = variables(ready.run("env").stdout)
    inner = variables(ready.run(str(ready.folder / "run"), "env").stdout)
    for name in ("_", "SHLVL"):
        outer.pop(name, None)
        inner.pop(name, None)
    assert inner == outer


def test_the_command_gets_its_arguments_status_and_folder(ready: Checkout, tmp_path: Path) -> None:
    ready.program("show", 'printf "%s|" "$PWD" "$@"; exit 7')
    result = ready.run("show", "a b", "", "bag:=x y")
    assert result.returncode == 7
    assert result.stdout == f"{Path.cwd()}|a b||bag:=x y|"
    missing = ready.run("nonexistent", "x")
    assert missing.returncode == 127
    assert "no command 'nonexistent'" in missing.stderr


@pytest.mark.parametrize(
    ("path", "built"),
    [
        ("src/demo_msgs/msg/Thing.msg", ["demo_msgs"]),
        ("src/demo_msgs/msg/Other.msg", ["demo_msgs"]),
        ("embedded_ros2/interfaces/tf2_msgs/msg/Thing.msg", ["tf2_msgs"]),
        ("src/demo_py/setup.py", ["demo_py"]),
        ("src/demo_py/package.xml", ["demo_py"]),
        ("src/demo_py/weights/new.bin", ["demo_py"]),
        ("launch/second.launch.py", ["bringup"]),
        ("config/deep/new.yaml", ["bringup"]),
        ("colcon.meta", ["bringup", "demo_msgs", "tf2_msgs"]),
        ("launch/first.launch.py", []),
        ("config/one.yaml", []),
        ("src/demo_py/demo_py/__init__.py", []),
        ("src/demo_py/demo_py/new.py", []),
        ("src/demo_py/test/test_new.py", []),
    ],
)
def test_what_changed_is_built_again_and_only_that(ready: Checkout, path: str, built: list[str]) -> None:
    ready.write(path, "# changed\n")
    assert ready.run("true").returncode == 0
    assert [sorted(names) for names in ready.built()] == ([built] if built else [])
    assert ready.calls("pip") == []
    ready.forget_calls()
    assert ready.run("true").returncode == 0
    assert ready.calls() == []


def test_what_is_gone_is_made_again(ready: Checkout) -> None:
    shutil.rmtree(ready.folder / "install" / "demo_py")
    (ready.folder / "launch" / "first.launch.py").unlink()
    assert ready.run("true").returncode == 0
    assert [sorted(names) for names in ready.built()] == [["bringup", "demo_py"]]
    shutil.rmtree(ready.folder / ".venv")
    ready.forget_calls()
    assert ready.run("true").returncode == 0
    assert (len(ready.calls("venv")), len(ready.calls("pip"))) == (1, 3)


def test_changed_requirements_are_installed_into_the_environment_that_is_there(ready: Checkout) -> None:
    ready.write("requirements/base.txt", "base-library==2\n")
    assert ready.run("true").returncode == 0
    assert [len(ready.calls(name)) for name in ("venv", "pip", "colcon")] == [0, 3, 0]


def test_an_environment_made_by_hand_is_kept(checkout: Checkout) -> None:
    folder = checkout.folder / ".venv"
    checkout.run("setup")
    (folder / ".realdiff-setup.json").unlink()
    checkout.forget_calls()
    assert checkout.run("true").returncode == 0
    assert [len(checkout.calls(name)) for name in ("venv", "pip", "colcon")] == [0, 3, 0]


def test_a_damaged_stamp_counts_as_none(ready: Checkout) -> None:
    (ready.folder / "build" / ".run" / "build.json").write_text('{"packages": {"demo_')
    assert ready.run("true").returncode == 0
    assert [sorted(names) for names in ready.built()] == [ALL]


def test_a_moved_checkout_is_made_anew(ready: Checkout) -> None:
    (ready.folder / "install" / "demo_py" / "old").touch()
    moved = ready.folder.with_name("moved")
    ready.folder.rename(moved)
    ready.folder = moved
    result = ready.run("env")
    assert result.returncode == 0, result.stderr
    assert [len(ready.calls(name)) for name in ("venv", "pip")] == [1, 3]
    assert [sorted(names) for names in ready.built()] == [ALL]
    assert not (moved / "install" / "demo_py" / "old").exists()
    assert variables(result.stdout)["VIRTUAL_ENV"] == str(moved / ".venv")


@pytest.mark.parametrize("program", ["pip", "colcon"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_cut_off_anywhere_it_goes_on_where_it_stopped(checkout: Checkout, program: str, number: signal.Signals) -> None:
    checkout.during(program, "sleep 30")
    process = checkout.start("true")
    checkout.wait_for_call(program)
    status, errors = interrupt(process, number)
    if number == signal.SIGINT:
        assert status == 130
        assert "interrupted; ./run goes on where it stopped" in errors
    else:
        assert status == -signal.SIGKILL
    checkout.during(program, "")
    checkout.forget_calls()
    result = checkout.run("true")
    assert result.returncode == 0, result.stderr
    assert len(checkout.calls("venv")) == 0  # done before
    assert len(checkout.calls("pip")) == (3 if program == "pip" else 0)
    assert [sorted(names) for names in checkout.built()] == [ALL]


def test_two_at_once_do_the_work_once(checkout: Checkout) -> None:
    checkout.during("pip", "sleep 1")
    first = checkout.start("true")
    checkout.wait_for_call("pip")
    second = checkout.start("true")
    for process in (first, second):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert "another ./run is setting up here; waiting for it" in errors
    assert [len(checkout.calls(name)) for name in ("venv", "pip", "colcon")] == [1, 3, 1]


def test_a_package_that_fails_is_named_and_built_again_alone(checkout: Checkout) -> None:
    failing = checkout.machine / "colcon_fails"
    failing.write_text("demo_msgs")
    result = checkout.run("true")
    assert result.returncode == 3
    assert "colcon could not build demo_msgs" in result.stderr
    assert "x.cpp:1:1: error: this does not compile" in result.stderr
    failing.unlink()
    checkout.forget_calls()
    assert checkout.run("true").returncode == 0
    assert checkout.built() == [["demo_msgs"]]


def test_verbs_are_those_of_the_experiments_package(ready: Checkout) -> None:
    missing = ready.run("demo")
    assert missing.returncode == 3
    assert "realdiff_experiments has no verb 'demo'" in missing.stderr
    folder = ready.folder / "install" / "realdiff_experiments" / "lib" / "realdiff_experiments"
    folder.mkdir(parents=True)
    for verb in ("demo", "bench"):
        (folder / verb).write_text(f'#!{shutil.which("bash")}\necho {verb} "$@"\n')
        (folder / verb).chmod(0o755)
        assert ready.run(verb, "--quick").stdout == f"{verb} --quick\n"


def test_test_is_pytest_in_the_root(ready: Checkout) -> None:
    # Answers for pytest; starts ./run itself like the real one.
    ready.write(
        ".venv/bin/python",
        f'#!{shutil.which("bash")}\ncase "$*" in "-m pytest"*) echo "$PWD $@";; *) exec {PYTHON} "$@";; esac\n',
    )
    result = ready.run("test", "-k", "one two")
    assert result.stdout == f"{ready.folder} -m pytest -k one two\n"


def test_test_without_arguments_runs_all_tests(ready: Checkout) -> None:
    ready.write(
        ".venv/bin/python",
        f'#!{shutil.which("bash")}\ncase "$*" in *scripts/test.py) echo "$PWD $@";; *) exec {PYTHON} "$@";; esac\n',
    )
    assert ready.run("test").stdout == f"{ready.folder} {ready.folder}/scripts/test.py\n"


def make_ros(folder: Path, version: str, *packages: str) -> dict[str, str]:
    """Makes what a sourced ROS 2 looks like, and returns its variables."""
    python = folder / "lib" / f"python{version}" / "site-packages"
    (python / "rclpy").mkdir(parents=True)
    (python / "rclpy" / "__init__.py").touch()
    for name in packages:
        (folder / "share" / name).mkdir(parents=True)
        (folder / "share" / name / "package.xml").touch()
    return {"ROS_DISTRO": "jazzy", "PYTHONPATH": str(python), "AMENT_PREFIX_PATH": str(folder)}


def test_a_sourced_ros_is_used_instead_of_the_embedded_one(checkout: Checkout, tmp_path: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    ros = make_ros(tmp_path / "opt", version, "tf2_msgs")
    result = checkout.run("env", **ros)
    assert result.returncode == 0, result.stderr
    (venv,) = checkout.calls("venv")
    assert "--system-site-packages" in venv and venv.endswith(str(checkout.folder / ".venv-ros"))
    _, pip, _ = checkout.calls("pip")
    assert "base.txt" in pip and "ros.txt" not in pip
    assert [sorted(names) for names in checkout.built()] == [["bringup", "demo_msgs", "demo_py"]]
    (colcon,) = checkout.calls("colcon")
    assert "python_interfaces.cmake" not in colcon
    env = variables(result.stdout)
    assert "embedded_ros2" not in json.dumps(env)
    assert env["AMENT_PREFIX_PATH"].split(":")[-1] == ros["AMENT_PREFIX_PATH"]
    paths = env["PYTHONPATH"].split(":")
    assert paths.index(ros["PYTHONPATH"]) < paths.index(
        str(checkout.folder / f".venv-ros/lib/python{version}/site-packages")
    )
    checkout.forget_calls()
    assert checkout.run("true", **ros).returncode == 0
    assert checkout.calls() == []


def test_changing_to_a_sourced_ros_and_back_builds_anew(ready: Checkout, tmp_path: Path) -> None:
    ros = make_ros(tmp_path / "opt", f"{sys.version_info[0]}.{sys.version_info[1]}", "tf2_msgs")
    assert ready.run("true", **ros).returncode == 0
    assert [sorted(names) for names in ready.built()] == [["bringup", "demo_msgs", "demo_py"]]
    assert not (ready.folder / "install" / "tf2_msgs").exists()
    ready.forget_calls()
    assert ready.run("true").returncode == 0
    assert [sorted(names) for names in ready.built()] == [ALL]
    assert ready.calls("pip") == []


def test_variables_alone_are_no_sourced_ros(ready: Checkout, tmp_path: Path) -> None:
    env = variables(ready.run("env", ROS_DISTRO="humble", PYTHONPATH=str(tmp_path)).stdout)
    assert env["ROS_DISTRO"] == "jazzy"
    assert ready.calls() == []
