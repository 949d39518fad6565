"""Off-screen rendering with whatever OpenGL platform this machine has.

MuJoCo reads the environment variable MUJOCO_GL when its rendering is first imported, and its own message for a missing
library names a Python attribute. `select_gl` decides beforehand and says what to install.
"""

from __future__ import annotations

import ctypes.util
import os
import sys

from realdiff_sim_bridge.errors import RenderingError

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}


def select_gl() -> str:
    """Sets MUJOCO_GL to a platform that works without a display, unless the user has chosen one.

    Returns:
        The platform: "egl", "osmesa", or the user's own choice (such as "glfw").

    Raises:
        RenderingError: Neither library is installed, or the chosen one isn't.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if sys.platform != "linux":
        return chosen or "default"
    candidates = [chosen] if chosen else list(_LIBRARIES)
    for platform in candidates:
        if platform not in _LIBRARIES:  # glfw, or MuJoCo's own error for a wrong word
            return platform
        if ctypes.util.find_library(_LIBRARIES[platform]):
            os.environ["MUJOCO_GL"] = platform
            # PyOpenGL is told as well: it would pick GLX by itself and fail without a display.
            os.environ.setdefault("PYOPENGL_PLATFORM", platform)
            return platform
    raise RenderingError(
        "no OpenGL library for off-screen rendering was found",
        expected=" or ".join(f"lib{_LIBRARIES[platform]}" for platform in candidates),
        got=f"MUJOCO_GL={chosen}" if chosen else "neither EGL nor OSMesa",
        next_step=f"sudo apt-get install -y {_PACKAGES[candidates[0]]}",
    )
