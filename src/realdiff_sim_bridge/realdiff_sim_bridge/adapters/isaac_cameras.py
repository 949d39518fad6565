"""The cameras of Isaac Sim: their intrinsics and poses, and pictures in our conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.adapters.base import Stream
from realdiff_sim_bridge.adapters.isaac_app import Isaac
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.errors import RenderingError
from realdiff_sim_bridge.scene.build import FAR_M, NEAR_M

_PIXEL_M = 3e-6
"""Size of the virtual sensor's pixels; only its ratio to the focal length matters."""

_WARM_UP, _LATENCY = 30, 3
"""Frames until the renderer gives its first picture at the latest, and frames by which a picture lags behind."""


class IsaacCameras:
    """Both imagers of a rig; each is set up with its first picture.

    Args:
        isaac: The parts of Isaac Sim.
        world: Its World, in which the scene is.
        rig: The cameras.
    """

    def __init__(self, isaac: Isaac, world: Any, rig: CameraRig) -> None:
        """Opens nothing yet."""
        self._isaac = isaac
        self._world = world
        self._rig = rig
        self._cameras: dict[Stream, Any] = {}
        self._warm: set[Stream] = set()

    def render(self, stream: Stream) -> NDArray[Any]:
        """Renders one imager: "colour" uint8[H, W, 3] or "depth" float32[H, W] in metres with NaN for nothing."""
        camera = self._cameras.get(stream) or self._open(stream)
        frames = _LATENCY if stream in self._warm else _WARM_UP
        image: Any = None
        for count in range(1, frames + 1):
            self._world.render()
            if count >= _LATENCY:
                image = camera.get_rgb() if stream == "colour" else camera.get_depth()
                if image is not None and np.size(image):
                    break
        model = self._rig.colour if stream == "colour" else self._rig.depth
        if image is None or np.shape(image)[:2] != (model.height, model.width):
            raise RenderingError(
                "Isaac Sim gives no picture",
                where=f"{stream} after {frames} frames",
                expected=f"{model.width}×{model.height}",
                got="nothing" if image is None or not np.size(image) else f"shape {np.shape(image)}",
                next_step="check the GPU's driver with Isaac Sim's compatibility checker",
            )
        self._warm.add(stream)
        if stream == "colour":
            return np.array(np.asarray(image)[..., :3], dtype=np.uint8)
        depth = np.array(image, dtype=np.float32)
        depth[~np.isfinite(depth) | (depth <= 0.0) | (depth >= 0.999 * FAR_M)] = np.nan
        return depth

    def _open(self, stream: Stream) -> Any:
        model = self._rig.colour if stream == "colour" else self._rig.depth
        pose = self._rig.base_colour if stream == "colour" else self._rig.base_depth
        camera = self._isaac.camera(
            prim_path=f"/World/{stream}_camera", name=f"{stream}_camera", resolution=(model.width, model.height)
        )
        camera.initialize(attach_rgb_annotator=stream == "colour")
        if stream == "depth":
            camera.add_distance_to_image_plane_to_frame()
        camera.set_clipping_range(near_distance=NEAR_M, far_distance=FAR_M)
        _set_intrinsics(camera, model)
        camera.set_world_pose(position=pose.position, orientation=pose.quaternion_wxyz, camera_axes="ros")
        self._cameras[stream] = camera
        return camera

    def close(self) -> None:
        """Frees them."""
        for camera in self._cameras.values():
            camera.destroy()
        self._cameras.clear()
        self._warm.clear()


def _set_intrinsics(camera: Any, model: CameraModel) -> None:
    """Gives a camera the intrinsics of a camera model; Isaac Sim counts pixels from the picture's corner."""
    camera.set_horizontal_aperture(model.width * _PIXEL_M, maintain_square_pixels=True)
    camera.set_focal_length(model.fx * _PIXEL_M)
    k1, k2, p1, p2, k3 = model.distortion
    camera.set_opencv_pinhole_properties(
        cx=model.cx + 0.5, cy=model.cy + 0.5, fx=model.fx, fy=model.fy, pinhole=[k1, k2, p1, p2, k3] + [0.0] * 7
    )
