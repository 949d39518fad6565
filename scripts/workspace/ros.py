"""Tells a sourced ROS 2 from a bare machine, without importing anything of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path


def _entries(value: str) -> Iterator[Path]:
    for entry in value.split(os.pathsep):
        if entry:
            yield Path(entry)


def sourced_rclpy(env: Mapping[str, str], root: Path) -> Path | None:
    """Returns the folder from which a sourced ROS 2 imports rclpy, or None on a machine without one.

    A sourced ROS 2 sets ROS_DISTRO and puts rclpy on PYTHONPATH. What lies inside the checkout (our own environment,
    when ./run is called within ./run) doesn't count.
    """
    if not env.get("ROS_DISTRO"):
        return None
    for entry in _entries(env.get("PYTHONPATH", "")):
        if (entry / "rclpy" / "__init__.py").is_file() and not entry.absolute().is_relative_to(root):
            return entry
    return None


def python_version_of(rclpy_folder: Path) -> str | None:
    """Returns the Python version ("3.12") that an rclpy folder belongs to: from its path, else from its extension."""
    for part in rclpy_folder.parts:
        if match := re.fullmatch(r"python(3\.\d+)", part):
            return match.group(1)
    for extension in sorted((rclpy_folder / "rclpy").glob("_rclpy_pybind11.cpython-3*.so")):
        if match := re.search(r"cpython-3(\d+)", extension.name):
            return f"3.{match.group(1)}"
    return None


def has_ros_package(name: str, env: Mapping[str, str], root: Path) -> bool:
    """Tells whether a sourced prefix holds a ROS package; prefixes inside the checkout are our own and don't count."""
    return any(
        (prefix / "share" / name / "package.xml").is_file()
        for prefix in _entries(env.get("AMENT_PREFIX_PATH", ""))
        if not prefix.absolute().is_relative_to(root)
    )


def without_checkout(env: Mapping[str, str], root: Path) -> dict[str, str]:
    """Returns the environment without entries of the checkout, so that ./run within ./run adds nothing twice."""
    result = dict(env)
    for name in (
        "PATH",
        "PYTHONPATH",
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "COLCON_PREFIX_PATH",
        "LD_LIBRARY_PATH",
    ):
        if name in result:
            kept = [str(entry) for entry in _entries(result[name]) if not entry.is_relative_to(root)]
            if kept:
                result[name] = os.pathsep.join(kept)
            else:
                del result[name]
    return result
