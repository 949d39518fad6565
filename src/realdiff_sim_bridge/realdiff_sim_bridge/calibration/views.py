"""What a calibration starts from: views of the robot at known joint positions, with silhouettes.

A folder of views holds `views.yaml` (or .json) and the pictures it names:

    camera: {width: 640, height: 480, fx: 615.1, fy: 615.0, cx: 320.4, cy: 240.1}
    views:
      - {mask: masks/000.png, picture: colour/000.png, joints: [0.0, -0.78, 0.0, -2.36, 0.0, 1.57, 0.78, 0.04, 0.04]}

A mask is an 8-bit picture: 0 where the robot isn't, 255 where it is, 128 where nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from realdiff_core.camera import CameraModel
from realdiff_core.config import Strict, load_yaml
from realdiff_core.errors import ConfigError, ImageError
from realdiff_core.frames import read_colour
from realdiff_core.topics import COLOR_FRAME

from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS

VIEWS_FILES = ("views.yaml", "views.yml", "views.json")
BACKGROUND, UNKNOWN, ROBOT = 0, 128, 255
"""Values of a mask's pixels."""

MINIMUM_ROBOT_PIXELS = 400
"""A mask with fewer robot pixels is taken for an empty one."""

_JOINT_COUNT = len(ARM_JOINTS) + len(FINGER_JOINTS)


class CameraEntry(Strict):
    """Intrinsics in views.yaml, as in camera_info."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fx: FiniteFloat = Field(gt=0)
    fy: FiniteFloat = Field(gt=0)
    cx: FiniteFloat
    cy: FiniteFloat
    distortion: tuple[FiniteFloat, ...] = Field(default=(0.0,) * 5, min_length=5, max_length=5)
    frame_id: str = COLOR_FRAME

    def model(self) -> CameraModel:
        """Returns the camera model."""
        return CameraModel(**self.model_dump())


Joints = Annotated[tuple[FiniteFloat, ...], Field(min_length=_JOINT_COUNT, max_length=_JOINT_COUNT)]


class ViewEntry(Strict):
    """A view in views.yaml; paths are relative to that file."""

    mask: str
    joints: Joints = Field(description="fr3_joint1 … 7 [rad], fr3_finger_joint1, 2 [m]")
    picture: str | None = None


class ViewsFile(Strict):
    """The content of views.yaml."""

    camera: CameraEntry
    views: tuple[ViewEntry, ...]


@dataclass(frozen=True)
class View:
    """The robot seen once.

    Attributes:
        name: For messages and file names.
        joints: float64[9], arm [rad] and fingers [m].
        mask: bool[H, W], where the robot is.
        known: bool[H, W], where the mask says anything.
        picture: uint8[H, W, 3], RGB, if there is one.
    """

    name: str
    joints: FloatArray
    mask: NDArray[np.bool_]
    known: NDArray[np.bool_]
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ViewSet:
    """Views of one camera that didn't move."""

    camera: CameraModel
    views: tuple[View, ...]

    def without(self, names: Sequence[str]) -> ViewSet:
        """Returns the views except the named ones.

        Raises:
            ConfigError: There is no view of that name.
        """
        known = [view.name for view in self.views]
        for name in names:
            if name not in known:
                raise ConfigError(f"there is no view '{name}'", expected=f"one of: {', '.join(known)}", got=name)
        return ViewSet(self.camera, tuple(view for view in self.views if view.name not in names))


def load_views(path: Path, camera: CameraModel | None = None) -> ViewSet:
    """Reads a folder of views.

    Args:
        path: The folder, or its views file.
        camera: Intrinsics to use instead of those in the file.

    Raises:
        ConfigError: The file is missing or wrong (names the key).
        ImageError: A picture is missing, damaged, of the wrong size or has no robot in it.
    """
    file = _views_file(path)
    content = load_yaml(file, ViewsFile)
    camera = camera or content.camera.model()
    return ViewSet(camera, tuple(_load_view(file.parent, entry, camera) for entry in content.views))


def _views_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in VIEWS_FILES:
        if (path / name).is_file():
            return path / name
    raise ConfigError(
        "folder of views is missing" if not path.is_dir() else "folder has no views file",
        where=path,
        expected=f"a folder with {VIEWS_FILES[0]} and the masks it names",
        next_step="make one from a bag: ros2 run realdiff_sim_bridge calibrate views --help",
    )


def _load_view(folder: Path, entry: ViewEntry, camera: CameraModel) -> View:
    path = folder / entry.mask
    levels = _read_mask(path)
    _check_size(path, levels, camera)
    odd = ~np.isin(levels, (BACKGROUND, UNKNOWN, ROBOT))
    if odd.mean() > 0.02:  # anti-aliased outlines are rounded below
        raise ImageError(
            "this is no mask",
            where=path,
            expected=f"the values {BACKGROUND} (background), {ROBOT} (robot) and {UNKNOWN} (unknown)",
            got=f"{odd.mean():.0%} of the pixels have other values",
            next_step="export the mask without smoothing, as 8-bit PNG",
        )
    known = np.abs(levels.astype(int) - UNKNOWN) > 32
    mask = (levels > UNKNOWN) & known
    if int(mask.sum()) < MINIMUM_ROBOT_PIXELS:
        raise ImageError(
            "the mask shows no robot",
            where=path,
            expected=f"at least {MINIMUM_ROBOT_PIXELS} pixels of value {ROBOT}",
            got=f"{int(mask.sum())}",
            next_step="correct the mask, or leave the view out",
        )
    picture = None
    if entry.picture is not None:
        picture = read_colour(_existing(folder / entry.picture))
        _check_size(folder / entry.picture, picture, camera)
    return View(Path(entry.mask).stem, np.array(entry.joints, dtype=np.float64), mask, known, picture)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ImageError(
            "file is missing", where=path, expected="a picture named in the views file", next_step="check the name"
        )
    return path


def _read_mask(path: Path) -> NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(_existing(path)), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ImageError("mask can't be read", where=path, expected="an 8-bit PNG", next_step="export it again")
    return np.asarray(image, dtype=np.uint8)


def _check_size(path: Path, image: NDArray[np.uint8], camera: CameraModel) -> None:
    if image.shape[:2] != (camera.height, camera.width):
        raise ImageError(
            "picture and camera differ in size",
            where=path,
            expected=f"{camera.width}×{camera.height} px, as the intrinsics",
            got=f"{image.shape[1]}×{image.shape[0]} px",
            next_step="use masks of the size at which the camera publishes, and its camera_info of that size",
        )
