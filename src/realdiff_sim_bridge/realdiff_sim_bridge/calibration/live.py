"""The rendered robot over live pictures, to see at a glance whether the camera still stands where it was calibrated."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.errors import RealdiffError

from realdiff_sim_bridge.calibration.overlay import draw_overlay
from realdiff_sim_bridge.calibration.silhouettes import JOINTS, RobotRenderer
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.scene.robot import ARM_JOINTS

_HISTORY = 1000
"""Joint states kept: a second of the robot's fastest rate."""

MAX_AGE_NS = 300_000_000
"""Joint states older than this, seen from the picture, don't show where the robot was."""


class LiveOverlay:
    """Draws the robot's outline over pictures of one camera.

    Args:
        base_camera: Pose of the colour optical frame in "base".
        detail: Share of the robot's triangles to draw.
    """

    def __init__(self, base_camera: Pose, detail: float = 0.2) -> None:
        """Keeps the pose; the robot is loaded with the first picture, when the intrinsics are known."""
        self._base_camera = base_camera
        self._detail = detail
        self._joints: dict[str, float] = {}
        self._history: deque[tuple[int, FloatArray]] = deque(maxlen=_HISTORY)
        self._camera: CameraModel | None = None
        self._renderer: RobotRenderer | None = None

    def set_joints(self, stamp_ns: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Takes over joint positions; other joints than the robot's are ignored.

        Raises:
            RealdiffError: Names and positions don't fit, or a position is NaN.
        """
        if len(names) != len(positions):
            raise RealdiffError(
                "joint state contradicts itself", expected=f"{len(names)} positions", got=f"{len(positions)}"
            )
        found = {name: float(value) for name, value in zip(names, positions, strict=True) if name in JOINTS}
        if not np.isfinite(list(found.values())).all():
            raise RealdiffError("joint state holds NaN", where=", ".join(found))
        self._joints.update(found)
        if ARM_JOINTS[0] in found and all(name in self._joints for name in JOINTS):
            self._history.append((stamp_ns, np.array([self._joints[name] for name in JOINTS])))

    def set_camera(self, camera: CameraModel) -> None:
        """Takes over the intrinsics."""
        if camera != self._camera:
            self.close()
            self._camera = camera

    def draw(self, picture: NDArray[np.uint8], stamp_ns: int) -> NDArray[np.uint8]:
        """Returns the picture, uint8[H, W, 3] RGB, with the robot's outline.

        Raises:
            RealdiffError: Intrinsics or fresh joint positions are missing, or sizes differ.
        """
        camera = self._camera
        if camera is None:
            raise RealdiffError("no camera_info has come yet", next_step="start the camera's driver")
        if picture.shape != (camera.height, camera.width, 3):
            raise RealdiffError(
                "picture and camera_info differ in size",
                expected=f"{camera.width}×{camera.height} RGB",
                got="×".join(map(str, picture.shape[1::-1])),
            )
        if not self._history:
            missing = [name for name in JOINTS if name not in self._joints] or list(ARM_JOINTS)
            raise RealdiffError("joint states are missing", expected=", ".join(missing), next_step="start the robot")
        # Pictures arrive later than the joint states of their time.
        nearest_ns, joints = min(self._history, key=lambda entry: abs(entry[0] - stamp_ns))
        age_ns = abs(stamp_ns - nearest_ns)
        if age_ns > MAX_AGE_NS:
            raise RealdiffError(
                "picture and joint states are of different times",
                expected=f"within {MAX_AGE_NS / 1e9:g} s",
                got=f"{age_ns / 1e9:.1f} s",
                next_step="let camera and robot use one clock",
            )
        if self._renderer is None:
            self._renderer = RobotRenderer(camera, detail=self._detail)
        data = self._renderer.articulate(joints)
        mask = self._renderer.image_mask(self._renderer.render(data, self._base_camera))
        return draw_overlay(picture, mask)

    def close(self) -> None:
        """Frees the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
