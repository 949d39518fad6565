"""Environment variables and corrections for ROS 2 from registry wheels. Used by `./run` where no ROS 2 is sourced.

Standard library only. Not imported on a machine whose ROS 2 is sourced.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def variables(venv: Path) -> dict[str, str]:
    """Returns the variables that a sourced setup file would set, for the wheels in a virtual environment.

    Paths (AMENT_PREFIX_PATH, CMAKE_PREFIX_PATH, LD_LIBRARY_PATH) hold only what belongs to the wheels; the caller puts
    them behind its own packages.
    """
    profile = str(HERE / "fastdds_shm.xml")
    libraries = [venv / "lib", *sorted(venv.glob("lib/python3.*/site-packages/ros_*.libs"))]
    return {
        "AMENT_PREFIX_PATH": str(venv),
        "CMAKE_PREFIX_PATH": str(venv),
        "LD_LIBRARY_PATH": os.pathsep.join(str(path) for path in libraries),
        # Without it a .pth of the wheels starts Python again with variables of its own.
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        "ROS_DISTRO": "jazzy",
        "ROS_VERSION": "2",
        "ROS_PYTHON_VERSION": "3",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        # 2.x reads the first name, 3.x the second. With default transports images are lost: see the README.
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
    }


# A user may well want other values of these; what is set already stays.
DEFAULTS = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def build_variables(cache: Path) -> dict[str, str]:
    """Returns the variables that are added for a colcon build; parsed interface files are kept in `cache`."""
    return {"PYTHONPATH": str(HERE / "build_hooks"), "REALDIFF_IDL_CACHE": str(cache)}


def cmake_arguments() -> list[str]:
    """Returns the CMake arguments of a colcon build."""
    return [f"-DCMAKE_PROJECT_INCLUDE={HERE / 'cmake' / 'python_interfaces.cmake'}"]


def add_to_path(venv: Path) -> None:
    """Lets the environment's Python find the modules in embedded_ros2/python behind all that is installed.

    A path file and not PYTHONPATH, which would go first: whoever installs the real launch or launch_ros gets those.
    """
    for packages in venv.glob("lib/python3.*/site-packages"):
        # Path files are read in the order of their names.
        (packages / "zz_embedded_ros2.pth").write_text(f"{HERE / 'python'}\n", encoding="utf-8")


def correct_exports(venv: Path) -> int:
    """Makes the wheels' CMake files name the include folders of this Python and this numpy.

    They name those of the machine on which the wheels were built, and every interface package that depends on another
    fails to configure. Running it again changes nothing.

    Returns:
        The number of files changed.

    Raises:
        subprocess.CalledProcessError: The environment's Python doesn't start or lacks numpy.
    """
    question = "import numpy, sysconfig; print(sysconfig.get_path('include')); print(numpy.get_include())"
    environment = {**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    answer = subprocess.run(
        [venv / "bin" / "python", "-E", "-c", question], check=True, capture_output=True, text=True, env=environment
    )
    python_include, numpy_include = answer.stdout.splitlines()
    changed = 0
    for path in sorted(venv.glob("share/*/cmake/*__rosidl_generator_pyExport.cmake")):
        old = path.read_text(encoding="utf-8")
        new = re.sub(r'[^";]*/include/python3\.\d+(?=[";])', lambda _: python_include, old)
        new = re.sub(r'[^";]*/numpy/_?core/include(?=[";])', lambda _: numpy_include, new)
        if new != old:
            temporary = path.with_suffix(".new")
            temporary.write_text(new, encoding="utf-8")
            temporary.replace(path)
            changed += 1
    return changed
