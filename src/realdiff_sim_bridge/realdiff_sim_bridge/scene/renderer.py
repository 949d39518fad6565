"""Renders one imager of a scene off screen.

MuJoCo's own `Renderer` can't load changed meshes and textures again; apart from that, this does the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.errors import RenderingError
from realdiff_sim_bridge.scene.objects import COLLISION_GROUP

_MAX_GEOMS = 1000


class SceneRenderer:
    """A renderer of one camera of a model.

    Args:
        model: The compiled MjModel.
        camera: Name of the camera.
        width: Image width [px].
        height: Image height [px].
        depth: Render depth instead of colour.
        smooth: Shadows and smooth edges; makes no sense for depth.

    Raises:
        RenderingError: OpenGL doesn't start.
    """

    def __init__(self, model: Any, camera: str, width: int, height: int, *, depth: bool, smooth: bool) -> None:
        """Opens an OpenGL context and loads the model into it."""
        import mujoco

        self._mujoco = mujoco
        self._model = model
        self._depth = depth
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        # A multisampled depth buffer resolves to a sample beside the pixel's centre: wrong by millimetres on slopes.
        model.vis.quality.offsamples = 4 if smooth else 0
        model.vis.quality.shadowsize = 2048 if smooth else 0
        try:
            self._gl = mujoco.GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:
            # MuJoCo, PyOpenGL and ctypes each raise their own types here; none says what a user can do.
            raise RenderingError(
                "off-screen rendering doesn't start on this machine",
                got=f"{type(error).__name__}: {error}",
                next_step="sudo apt-get install -y libegl1 libgl1-mesa-dri (or libosmesa6, and MUJOCO_GL=osmesa); a "
                "program that imports mujoco by itself must set MUJOCO_GL before",
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        if not smooth:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        if depth:  # flat colours: lighting and textures are wasted on depth
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
            self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(camera).id
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0

    def reload(self, meshes: list[int], textures: list[int]) -> None:
        """Loads meshes and textures again whose values in the model have changed."""
        self._gl.make_current()
        for mesh in meshes:
            self._mujoco.mjr_uploadMesh(self._model, self._context, mesh)
        if not self._depth:
            for texture in textures:
                self._mujoco.mjr_uploadTexture(self._model, self._context, texture)

    def render(self, data: Any) -> NDArray[Any]:
        """Renders a state.

        Returns:
            uint8[H, W, 3], RGB; or float32[H, W], distance along the optical axis [m], the far plane's where there is
            nothing.
        """
        mujoco, size = self._mujoco, self._rectangle
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(size, self._scene, self._context)
        if not self._depth:
            colour = np.empty((size.height, size.width, 3), dtype=np.uint8)
            mujoco.mjr_readPixels(colour, None, size, self._context)
            return colour[::-1].copy()
        buffer = np.empty((size.height, size.width), dtype=np.float32)
        mujoco.mjr_readPixels(None, buffer, size, self._context)
        # The buffer holds (near / z - near / far) / (1 - near / far) in single precision: 1 near, 0 far.
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        inverse = buffer[::-1].astype(np.float64) * (1.0 / near - 1.0 / far) + 1.0 / far
        return np.asarray(1.0 / inverse, dtype=np.float32)

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._context.free()
        self._gl.free()
