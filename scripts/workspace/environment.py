"""The environment of the built workspace: what `source install/setup.bash` would give, worked out without a shell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from workspace.layout import Layout
from workspace.python_env import site_packages
from workspace.system import rendering_backend


def _join(*groups: Iterable[str | Path]) -> str:
    """Joins entries of a search path: the first of equal ones stays, empty ones go."""
    return os.pathsep.join(dict.fromkeys(str(entry) for group in groups for entry in group if str(entry)))


def _split(env: Mapping[str, str], name: str) -> list[str]:
    return [entry for entry in env.get(name, "").split(os.pathsep) if entry]


def base(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment below the workspace's own packages: ROS 2 and the virtual environment.

    Args:
        layout: The checkout.
        env: The caller's environment without entries of the checkout.
    """
    result = dict(env)
    packages = site_packages(layout.venv)
    result["VIRTUAL_ENV"] = str(layout.venv)
    result.pop("PYTHONHOME", None)
    # pip leaves compiling to the first import; were its result not kept, each program would start thrice as slowly.
    result.pop("PYTHONDONTWRITEBYTECODE", None)
    result["PATH"] = _join([layout.venv / "bin"], _split(env, "PATH"))
    if layout.sourced:
        # Programs of the ROS 2 (`ros2 launch`) run its own Python and must find our libraries behind its own.
        result["PYTHONPATH"] = _join(_split(env, "PYTHONPATH"), [packages])
        return result

    from embedded_ros2 import environment as embedded

    for name, value in embedded.variables(layout.venv).items():
        if name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH"):
            result[name] = _join(value.split(os.pathsep), _split(env, name))
        else:
            result[name] = value
    for name, value in embedded.DEFAULTS.items():
        result.setdefault(name, value)
    return result


def complete(layout: Layout, env: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Returns the environment in which commands of the workspace run.

    Args:
        layout: The checkout.
        env: What `base` returned.
        names: The packages that were built.
    """
    result = dict(env)
    prefixes = [layout.install / name for name in names]
    python: list[Path] = []
    for name, prefix in zip(names, prefixes, strict=True):
        if (layout.build / name / f"{name.replace('-', '_')}.egg-info").is_dir():
            python.append(layout.build / name)  # development mode: links into the source tree
        python += sorted(prefix.glob("lib/python3.*/site-packages")) + sorted(
            prefix.glob("local/lib/python3.*/dist-packages")
        )
    result["AMENT_PREFIX_PATH"] = _join(prefixes, _split(env, "AMENT_PREFIX_PATH"))
    result["CMAKE_PREFIX_PATH"] = _join(prefixes, _split(env, "CMAKE_PREFIX_PATH"))
    libraries = [prefix / "lib" for prefix in prefixes if any((prefix / "lib").glob("lib*.so"))]
    result["LD_LIBRARY_PATH"] = _join(libraries, _split(env, "LD_LIBRARY_PATH"))
    result["COLCON_PREFIX_PATH"] = _join([layout.install], _split(env, "COLCON_PREFIX_PATH"))
    result["PYTHONPATH"] = _join(python, _split(env, "PYTHONPATH"))
    if not layout.sourced:
        # At the end, so that whoever installs the real ros2 command gets that.
        result["PATH"] = _join(_split(env, "PATH"), [layout.embedded / "bin"])
    if backend := rendering_backend(env):
        result.setdefault("MUJOCO_GL", backend)
    return result
