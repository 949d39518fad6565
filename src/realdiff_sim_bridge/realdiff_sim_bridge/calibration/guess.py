"""First guess of the camera's pose: measured with a tape, read from a file, or from a marker that the camera sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import ConfigError, RealdiffError
from realdiff_core.topics import BASE_FRAME

from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer
from realdiff_sim_bridge.calibration.views import ViewSet
from realdiff_sim_bridge.geometry import FloatArray, Pose, look_at

_MAX_REPROJECTION_PX = 8.0
"""Beyond this distance between seen and expected corners the marker isn't where the user says."""


def guess_from_look_at(position: list[float], target: list[float]) -> Pose:
    """Pose of a camera at a position that looks at a target, both in "base" [m].

    Raises:
        ConfigError: No such camera: the points coincide, lie above each other, or aren't finite.
    """
    if not np.all(np.isfinite([*position, *target])):
        raise ConfigError("the guess holds NaN or infinity", expected="finite numbers", got=f"{position}, {target}")
    try:
        return look_at(position, target)
    except ValueError as error:
        raise ConfigError(
            "the guess is no camera", got=str(error), next_step="correct --position and --target"
        ) from None


@dataclass(frozen=True)
class Marker:
    """An ArUco marker at a known place of the robot or the table.

    Attributes:
        number: Its number in the dictionary.
        size_m: Length of the black square's side.
        frame: Link that carries it (fr3_hand, …), or "base" for one on the table.
        pose: Pose of its centre in that frame: x to the right and y up on the marker, z out of it.
        dictionary: Name of OpenCV's dictionary.
    """

    number: int
    size_m: float
    frame: str
    pose: Pose
    dictionary: str = "DICT_4X4_50"

    def corners(self) -> FloatArray:
        """float64[4, 3], the corners in `frame`, in the detector's order (top left, then clockwise)."""
        half = self.size_m / 2
        corners = np.array([[-half, half, 0.0], [half, half, 0.0], [half, -half, 0.0], [-half, -half, 0.0]])
        return np.asarray(corners @ self.pose.rotation.T + self.pose.position, dtype=np.float64)


def guess_from_marker(views: ViewSet, renderer: RobotRenderer, marker: Marker) -> tuple[Pose, int]:
    """Finds the camera from a marker: one perspective-n-point problem over its corners in all views.

    Args:
        views: Views with pictures.
        renderer: Knows where the links are.
        marker: The marker.

    Returns:
        Pose of the optical frame in "base", and the number of views that showed the marker.

    Raises:
        ConfigError: Unknown dictionary or frame.
        RealdiffError: The marker is in no picture, or isn't where `marker` says.
    """
    import cv2

    number = getattr(cv2.aruco, marker.dictionary, None)
    if not isinstance(number, int) or not marker.dictionary.startswith("DICT_"):
        raise ConfigError("unknown marker dictionary", expected="a name such as DICT_4X4_50", got=marker.dictionary)
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(number))
    world, seen = [], []
    for view in views.views:
        if view.picture is None:
            continue
        corners, numbers, _ = detector.detectMarkers(cv2.cvtColor(view.picture, cv2.COLOR_RGB2GRAY))
        for quad, found in zip(corners, [] if numbers is None else numbers.ravel(), strict=True):
            if found == marker.number:
                frame = _frame(renderer, view.joints, marker.frame)
                world.append(marker.corners() @ frame.rotation.T + frame.position)
                seen.append(quad.reshape(4, 2))
    if not seen:
        pictures = sum(view.picture is not None for view in views.views)
        raise RealdiffError(
            f"marker {marker.number} is in no picture",
            expected=f"marker {marker.number} of {marker.dictionary} in at least one view",
            got=f"{pictures} pictures in {len(views.views)} views",
            next_step="check number and dictionary, or give --position and --target instead",
        )
    points, pixels = np.concatenate(world), np.concatenate(seen).astype(np.float64)
    camera = views.camera
    distortion = np.array(camera.distortion)
    found_pose, rotation, translation = cv2.solvePnP(points, pixels, camera.K, distortion, flags=cv2.SOLVEPNP_SQPNP)
    if not found_pose:
        raise RealdiffError("no camera pose explains the marker", next_step="give --position and --target instead")
    rotation, translation = cv2.solvePnPRefineLM(points, pixels, camera.K, distortion, rotation, translation)
    camera_base = Pose.from_rotation(
        np.asarray(translation, dtype=np.float64).ravel(), np.asarray(cv2.Rodrigues(rotation)[0], dtype=np.float64)
    )
    expected = camera.project(points @ camera_base.rotation.T + camera_base.position)
    error = float(np.sqrt(np.mean(np.sum((expected - pixels) ** 2, axis=1))))
    if not error <= _MAX_REPROJECTION_PX:
        raise RealdiffError(
            "the marker isn't where it is said to be",
            expected=f"corners within {_MAX_REPROJECTION_PX:g} px",
            got=f"{error:.1f} px",
            next_step="check size, frame and pose of the marker",
        )
    return camera_base.inverse(), len(seen)


def _frame(renderer: RobotRenderer, joints: FloatArray, name: str) -> Pose:
    if name == BASE_FRAME:
        return Pose.identity()
    links = renderer.link_poses(renderer.articulate(joints))
    if name not in links:
        raise ConfigError("unknown frame of the marker", expected=f"{BASE_FRAME}, {', '.join(links)}", got=name)
    return links[name]
