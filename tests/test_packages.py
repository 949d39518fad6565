"""The packages are what ROS 2 tools take them for: manifests, rosdep keys, one-way imports, verbs that start."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = sorted((ROOT / "src").glob("*/package.xml"))
INTERFACES = sorted((ROOT / "embedded_ros2" / "interfaces").glob("*/package.xml"))
PYTHON = [path.parent for path in MANIFESTS if (path.parent / "setup.py").is_file()]

# rosdep keys that are no ROS packages, as rosdistro names them.
ROSDEP_KEYS = {
    "python3-matplotlib",
    "python3-numpy",
    "python3-opencv",
    "python3-pytest",
    "python3-scipy",
    "python3-yaml",
}
# Packages of Jazzy (or, franka_*, of franka_ros2) that the workspace names.
ROS_PACKAGES = {
    *("action_msgs", "ament_cmake", "builtin_interfaces", "control_msgs", "controller_manager", "cv_bridge"),
    *("diagnostic_msgs", "geometry_msgs", "joint_trajectory_controller", "launch", "launch_pytest", "launch_ros"),
    *("launch_testing", "lifecycle_msgs", "moveit_py", "rcl_interfaces", "rclpy", "realsense2_camera"),
    *("robot_state_publisher", "ros2bag", "rosbag2_storage_mcap", "rosgraph_msgs", "rosidl_default_generators"),
    *("rosidl_default_runtime", "rviz2", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros_py"),
    *("trajectory_msgs", "visualization_msgs", "ros2launch", "ament_index_python"),
    *("controller_manager_msgs", "nav_msgs", "realsense2_camera_msgs"),
    *("franka_bringup", "franka_fr3_moveit_config", "franka_gripper", "franka_msgs", "franka_robot_state_broadcaster"),
}
# ARCHITECTURE: imports go one way.
MAY_IMPORT = {
    "realdiff_core": {"realdiff_msgs"},
    "realdiff_enhancer": {"realdiff_core", "realdiff_msgs"},
    "realdiff_policy": {"realdiff_core", "realdiff_msgs"},
    "realdiff_sim_bridge": {"realdiff_core", "realdiff_msgs"},
    "realdiff_experiments": {
        *("realdiff_core", "realdiff_enhancer", "realdiff_msgs", "realdiff_policy", "realdiff_sim_bridge"),
    },
}


def names(path: Path) -> str:
    return path.name if path.is_dir() else path.parent.name


def dependencies(manifest: ET.Element) -> set[str]:
    return {(entry.text or "").strip() for entry in manifest if entry.tag.endswith("depend")}


def imported_modules(folder: Path) -> dict[str, set[str]]:
    """Returns the top-level names that each file of a package imports."""
    result: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
        result[str(path.relative_to(ROOT))] = found
    return result


@pytest.mark.parametrize("path", [*MANIFESTS, *INTERFACES], ids=names)
def test_manifests_are_complete(path: Path) -> None:
    manifest = ET.parse(path).getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("name") == path.parent.name
    for tag in ("version", "description", "maintainer", "license"):
        assert manifest.findtext(tag), tag
    build_type = manifest.findtext("export/build_type")
    assert build_type == ("ament_python" if path.parent in PYTHON else "ament_cmake")


@pytest.mark.parametrize("path", MANIFESTS, ids=names)
def test_rosdep_knows_what_manifests_name(path: Path) -> None:
    ours = {manifest.parent.name for manifest in MANIFESTS}
    assert dependencies(ET.parse(path).getroot()) - ours - ROS_PACKAGES - ROSDEP_KEYS == set()


@pytest.mark.parametrize("folder", PYTHON, ids=names)
def test_manifests_name_the_ros_packages_that_are_imported(folder: Path) -> None:
    named = dependencies(ET.parse(folder / "package.xml").getroot())
    imported = set().union(*imported_modules(folder / folder.name).values())
    ros = {name for name in imported if name in ROS_PACKAGES or name.startswith("realdiff_")} - {folder.name}
    assert ros - named == set()


@pytest.mark.parametrize("folder", PYTHON, ids=names)
def test_imports_go_one_way(folder: Path) -> None:
    allowed = MAY_IMPORT[folder.name] | {folder.name}
    for path, modules in imported_modules(folder / folder.name).items():
        assert {name for name in modules if name.startswith("realdiff_")} <= allowed, path


def test_the_core_knows_neither_ros_nor_torch() -> None:
    for path, modules in imported_modules(ROOT / "src" / "realdiff_core" / "realdiff_core").items():
        assert not modules & {"rclpy", "torch", "mujoco", "diffusers"}, path


@pytest.mark.parametrize("folder", PYTHON, ids=names)
def test_setup_files_agree_with_the_manifest(folder: Path) -> None:
    manifest = ET.parse(folder / "package.xml").getroot()
    command = [sys.executable, "setup.py", "--quiet", "--name", "--version", "--license"]
    lines = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-3].replace("-", "_") == folder.name
    assert lines[-2:] == [manifest.findtext("version"), manifest.findtext("license")]
    config = configparser.ConfigParser()
    config.read(folder / "setup.cfg")
    # Where `ros2 run` looks for the verbs of a package.
    assert config["develop"]["script_dir"] == config["install"]["install_scripts"] == f"$base/lib/{folder.name}"
    assert (folder / "resource" / folder.name).is_file()
    # Without it `colcon test` looks for unittest's tests and finds none.
    assert 'extras_require={"test": ["pytest"]}' in (folder / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", PYTHON, ids=names)
def test_verbs_name_functions_that_exist(folder: Path) -> None:
    text = (folder / "setup.py").read_text(encoding="utf-8")
    for verb, module, function in re.findall(r'"(\w+) = ([\w.]+):(\w+)"', text):
        path = folder / Path(*module.split(".")).with_suffix(".py")
        assert path.is_file(), f"{verb}: {module}"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{verb}: {module}:{function}"


def test_no_requirement_is_pinned_twice_or_not_at_all() -> None:
    seen: dict[tuple[str, str], str] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            line = line.split("#")[0].strip()
            if not line or line.startswith("-r "):
                continue
            requirement, _, marker = line.partition(";")
            name, equals, version = requirement.strip().partition("==")
            assert equals and version, f"{path.name}: {line} has no exact version"
            key = (name.lower().replace("_", "-"), marker.strip())
            assert key not in seen, f"{line} is in {seen[key]} too"
            seen[key] = path.name
