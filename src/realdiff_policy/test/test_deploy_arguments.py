"""Where each argument of deploy.launch.py goes: every program that it starts, and every launch file that it includes,
is replaced by one that only writes down what it was given.

The stand-ins for the drivers' launch files declare what rs_launch.py (realsense2_camera 4.58) and franka.launch.py
(franka_bringup of franka_ros2 3.4) declare, and refuse anything else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("realdiff_msgs.srv", reason="realdiff_msgs isn't built")
ROS2 = shutil.which("ros2")
ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "launch" / "deploy.launch.py"
pytestmark = [pytest.mark.graph, pytest.mark.skipif(ROS2 is None, reason="there is no ros2 command here")]

PROGRAM = f"""#!{sys.executable}
import json, os, sys, time
from pathlib import Path
import yaml

folder, name = Path(os.environ["GIVEN"]), Path(sys.argv[0]).name
parameters, remapped = {{}}, []
words = sys.argv[1:]
for word, following in zip(words, [*words[1:], ""]):
    if word == "--params-file":
        for values in yaml.safe_load(Path(following).read_text()).values():
            parameters.update(values["ros__parameters"])
    if word == "-r":
        remapped.append(following)
plain = words[: words.index("--ros-args")] if "--ros-args" in words else words
partial = folder / f".{{name}}"
partial.write_text(json.dumps({{"arguments": plain, "parameters": parameters, "remapped": remapped}}))
partial.rename(folder / f"{{name}}.json")
last = os.environ["LAST"]
if name == last:  # the launch ends with it: the others are given time to write
    deadline = time.monotonic() + 10.0
    while not all((folder / f"{{other}}.json").exists() for other in os.environ["OTHERS"].split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
elif name == "diffusion_policy":  # is configured and activated as the real one
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.lifecycle import LifecycleNode

    class Policy(LifecycleNode):
        def on_configure(self, state):
            time.sleep(1.0)  # as if it loaded a policy: the launch begins to hear its transitions meanwhile
            return super().on_configure(state)

    rclpy.init(args=sys.argv)
    node = Policy("diffusion_policy")
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):  # how the launch ends it
        pass
else:
    time.sleep(30.0)
"""

INCLUDED = """
import json, os
from pathlib import Path
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

DECLARED = {declared!r}

def write(context):
    folder = Path(os.environ["GIVEN"])
    (folder / "{name}.json").write_text(json.dumps(dict(context.launch_configurations)))

def generate_launch_description():
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value="its own default") for name in DECLARED),
        OpaqueFunction(function=write),
    ])
"""

REALSENSE = (
    *("camera_name", "camera_namespace", "serial_no", "config_file", "json_file_path", "initial_reset", "output"),
    *("rgb_camera.color_profile", "depth_module.depth_profile", "align_depth.enable", "enable_sync", "enable_rgbd"),
    *("pointcloud.enable", "clip_distance", "decimation_filter.enable", "disparity_filter.enable", "tf_prefix"),
    *("spatial_filter.enable", "temporal_filter.enable", "hole_filling_filter.enable", "publish_tf", "rosbag_filename"),
)
FRANKA = (
    *("robot_type", "arm_prefix", "namespace", "robot_ip", "load_gripper", "use_fake_hardware", "controllers_yaml"),
    *("fake_sensor_commands", "joint_state_rate", "load_franka_robot_state_broadcaster"),
)
PROGRAMS = {
    "realdiff_sim_bridge": "sim_bridge",
    "realdiff_policy": ("diffusion_policy", "trial", "fci_driver"),
    "controller_manager": "spawner",
    "robot_state_publisher": "robot_state_publisher",
    "rviz2": "rviz2",
}


def arguments_table() -> tuple[tuple[str, str, str, Any], ...]:
    specification = importlib.util.spec_from_file_location("deploy_launch", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.ARGUMENTS


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with the stand-ins."""
    folder = tmp_path_factory.mktemp("prefix")
    index = folder / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package, programs in PROGRAMS.items():
        (index / package).touch()
        (folder / "lib" / package).mkdir(parents=True)
        for program in [programs] if isinstance(programs, str) else programs:
            file = folder / "lib" / package / program
            file.write_text(PROGRAM)
            file.chmod(0o755)
    for package, name, declared in (
        ("realsense2_camera", "rs_launch", REALSENSE),
        ("franka_bringup", "franka.launch", FRANKA),
    ):
        (index / package).touch()
        launch = folder / "share" / package / "launch"
        launch.mkdir(parents=True)
        (launch / f"{name}.py").write_text(INCLUDED.format(name=package, declared=declared))
    (index / "franka_description").touch()
    (folder / "share" / "franka_description").mkdir()
    (folder / "bin").mkdir()
    xacro = folder / "bin" / "xacro"
    xacro.write_text('#!/bin/sh\necho "<robot name=\\"$*\\"/>"\n')
    xacro.chmod(0o755)
    bundle = folder / "bundles" / "pour_tea"
    bundle.mkdir(parents=True)
    image = {"width": 160, "height": 120}
    (bundle / "policy.json").write_text(json.dumps({"contract": {"colour": image, "action": {"rate_hz": 12.0}}}))
    return folder


@pytest.fixture
def given(prefix: Path, tmp_path: Path):
    """Launches with arguments; returns what each stand-in was given."""

    def launch(*arguments: str, last: str = "trial", others: tuple[str, ...] = ()) -> dict[str, Any]:
        environment = {
            **os.environ,
            "AMENT_PREFIX_PATH": os.pathsep.join([str(prefix), os.environ.get("AMENT_PREFIX_PATH", "")]),
            "PATH": os.pathsep.join([str(prefix / "bin"), os.environ["PATH"]]),
            "REALDIFF_BUNDLES": str(prefix / "bundles"),
            "GIVEN": str(tmp_path),
            "LAST": last,
            "OTHERS": " ".join(others),
        }
        done = subprocess.run(
            [ROS2, "launch", str(FILE), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, env=environment, check=False,
        )  # fmt: skip
        found = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*.json")}
        assert last in found, done.stdout
        return found

    return launch


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_simulation_with_every_argument(given, prefix: Path, tmp_path: Path) -> None:
    found = given(
        "policy:=pour_tea", "task:=stack_cube", "seed:=7", "time_limit:=4.5", f"output:={tmp_path / 'out'}",
        "record:=false", "device:=cpu", "command_mode:=action", "gripper:=fr3_gripper", "ensemble:=average",
        "depth_sensor:=stereo", "randomisation:=looks", "rate:=15.0", "real_time_factor:=0.5", "dry_run:=true",
        "rviz:=true", others=("sim_bridge", "rviz2", "robot_state_publisher"),
    )  # fmt: skip
    assert set(found) == {"sim_bridge", "diffusion_policy", "trial", "rviz2", "robot_state_publisher"}
    simulation = found["sim_bridge"]["parameters"]
    assert simulation == {
        "task": "stack_cube", "seed": 7, "rate": 15.0, "width": 320, "height": 240, "depth_sensor": "stereo",
        "randomisation": "looks", "gripper_name": "fr3_gripper", "real_time_factor": 0.5,
    }  # fmt: skip
    policy = found["diffusion_policy"]["parameters"]
    assert policy == {
        "bundle": str(prefix / "bundles" / "pour_tea"), "device": "cpu", "hardware": False, "dry_run": True,
        "command_mode": "action", "gripper": "fr3_gripper", "ensemble": "average", "seed": 7, "autostart": False,
        "use_sim_time": True,
    }  # fmt: skip
    trial = found["trial"]["arguments"]
    for name, value in (
        ("--task", "stack_cube"), ("--policy", "pour_tea"), ("--robot", "sim"), ("--camera", "sim"), ("--seed", "7"),
        ("--time-limit", "4.5"), ("--output", str(tmp_path / "out")),
    ):  # fmt: skip
        assert option(trial, name) == value
    assert "--no-record" in trial
    rviz = found["rviz2"]
    assert (
        Path(option(rviz["arguments"], "--display-config")).read_bytes()
        == (ROOT / "config" / "rviz" / "deploy.rviz").read_bytes()
    )
    assert rviz["parameters"] == {"use_sim_time": True}
    description = found["robot_state_publisher"]
    assert "fr3.urdf.xacro hand:=true" in description["parameters"]["robot_description"]
    # The simulation publishes the frames; the description's must not come between.
    assert {"/tf:=/robot_state_publisher/tf", "/tf_static:=/robot_state_publisher/tf_static"} <= set(
        description["remapped"]
    )


def test_simulation_by_default(given, prefix: Path) -> None:
    """Without `policy` the bundle of the task; twice its rate; a bag is recorded; nothing else is started."""
    shutil.copytree(prefix / "bundles" / "pour_tea", prefix / "bundles" / "can_to_plate", dirs_exist_ok=True)
    found = given(others=("sim_bridge",))
    assert set(found) == {"sim_bridge", "diffusion_policy", "trial"}
    assert found["diffusion_policy"]["parameters"]["bundle"] == str(prefix / "bundles" / "can_to_plate")
    assert found["diffusion_policy"]["parameters"]["dry_run"] is False
    assert found["sim_bridge"]["parameters"]["rate"] == 24.0
    assert found["sim_bridge"]["parameters"]["depth_sensor"] == "clean"
    assert option(found["trial"]["arguments"], "--output") == "trials"
    assert "--no-record" not in found["trial"]["arguments"]


def test_without_a_trial_and_with_a_policy_of_your_own(given, tmp_path: Path) -> None:
    found = given(
        "trial:=false", "loader:=my_module:load", "policy:=/somewhere/mine", last="diffusion_policy",
        others=("sim_bridge",),
    )  # fmt: skip
    assert set(found) == {"sim_bridge", "diffusion_policy"}
    assert found["diffusion_policy"]["parameters"]["loader"] == "my_module:load"
    assert found["diffusion_policy"]["parameters"]["bundle"] == "/somewhere/mine"


def test_the_real_robot_and_the_real_camera(given) -> None:
    found = given(
        "policy:=pour_tea", "robot:=real", "camera:=real", "robot_ip:=172.16.0.2", "serial_no:=0123",
        "color_profile:=1280x720x30", "depth_profile:=640x480x30", "dry_run:=true", "rviz:=true",
        others=("spawner", "rviz2", "realsense2_camera", "franka_bringup"),
    )  # fmt: skip
    assert set(found) == {"diffusion_policy", "trial", "spawner", "rviz2", "realsense2_camera", "franka_bringup"}
    camera = found["realsense2_camera"]
    assert set(camera) == set(REALSENSE), "an argument that rs_launch.py doesn't know"
    wanted = {
        "camera_name": "camera", "camera_namespace": "camera", "serial_no": "'0123'",
        "rgb_camera.color_profile": "1280x720x30", "depth_module.depth_profile": "640x480x30",
        "align_depth.enable": "true", "enable_sync": "true", "publish_tf": "true",
    }  # fmt: skip
    assert {name: value for name, value in camera.items() if value != "its own default"} == wanted
    robot = found["franka_bringup"]
    assert set(robot) == set(FRANKA), "an argument that franka.launch.py doesn't know"
    assert robot["robot_ip"] == "172.16.0.2"
    assert robot["robot_type"] == "fr3" and robot["load_gripper"] == "true" and robot["use_fake_hardware"] == "false"
    assert Path(robot["controllers_yaml"]).name == "fr3_arm_controller.yaml"
    assert Path(robot["controllers_yaml"]).is_file()
    assert found["spawner"]["arguments"][0] == "fr3_arm_controller"
    policy = found["diffusion_policy"]["parameters"]
    assert policy["hardware"] is True and policy["dry_run"] is True and policy["use_sim_time"] is False
    assert option(found["trial"]["arguments"], "--robot") == "real"
    assert option(found["trial"]["arguments"], "--camera") == "real"


def test_the_real_robot_through_libfranka(given) -> None:
    found = given(
        "policy:=pour_tea", "robot:=fci", "camera:=real", "robot_ip:=172.16.0.2", "gripper:=my_gripper",
        others=("fci_driver", "robot_state_publisher", "realsense2_camera"),
    )  # fmt: skip
    assert set(found) == {"diffusion_policy", "trial", "fci_driver", "robot_state_publisher", "realsense2_camera"}
    assert found["fci_driver"]["parameters"] == {"robot_ip": "172.16.0.2", "gripper": "my_gripper"}
    policy = found["diffusion_policy"]["parameters"]
    assert policy["hardware"] is True and policy["gripper"] == "my_gripper" and policy["gripper_timeout_s"] == 3.0
    assert "/tf:=/tf" in found["robot_state_publisher"]["remapped"]


def test_each_argument_of_the_table_is_tried_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name, *_ in arguments_table() if f'"{name}:=' not in text and f'f"{name}:=' not in text] == []
