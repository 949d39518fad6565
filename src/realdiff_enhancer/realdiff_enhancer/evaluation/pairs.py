"""Held-out scenes: folders of clean/noisy pairs on one pixel grid.

Layout of a folder: ``clean/NNNNNN.png`` (16 bit, 0.1 mm, 0 = unknown), ``noisy/NNNNNN.png`` (16 bit, 1 mm as recorded,
0 = hole), ``K.txt`` (3×3 camera matrix), and optionally ``pairs.csv`` with a column ``frame`` and a column ``window``
(frames that were fused together) and ``colour/NNNNNN.png`` or ``.jpg`` (same pixels), for models that look at colour.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile, find_config, load_yaml
from realdiff_core.errors import ConfigError, DepthError, ImageError
from realdiff_core.frames import read_colour

from realdiff_enhancer.data.pair_folder import read_camera_matrix, read_windows
from realdiff_enhancer.data.pairs import CLEAN_UNIT_M, NOISY_UNIT_M

#: Frame numbers count exposures at this rate.
FRAME_RATE_HZ = 30


@dataclass(frozen=True)
class PairFrame:
    """One pair.

    Attributes:
        number: the source's frame number.
        window: label of the fusion window; "" where none is stated.
        clean: path of the clean image.
        noisy: path of the recorded image.
        colour: path of the colour image on the same pixel grid; None where there is none.
    """

    number: int
    window: str
    clean: Path
    noisy: Path
    colour: Path | None = None

    @property
    def stamp_ns(self) -> int:
        """Time of exposure from the frame number, nanoseconds."""
        return self.number * 1_000_000_000 // FRAME_RATE_HZ


@dataclass(frozen=True)
class Scene:
    """A held-out scene.

    Attributes:
        name: label in tables.
        folder: where it lies.
        profile: the camera that recorded it.
        camera: intrinsics of the images, with the profile's baseline.
        frames: in temporal order.
    """

    name: str
    folder: Path
    profile: CameraProfile
    camera: CameraModel
    frames: tuple[PairFrame, ...]

    def clean(self, index: int) -> NDArray[np.float32]:
        """Read the clean depth of a frame: float32 [H, W], metres, NaN where unknown."""
        return self._read(self.frames[index].clean, CLEAN_UNIT_M)

    def noisy(self, index: int) -> NDArray[np.float32]:
        """Read the recorded depth of a frame: float32 [H, W], metres, NaN in holes."""
        return self._read(self.frames[index].noisy, NOISY_UNIT_M)

    def colour(self, index: int) -> NDArray[np.uint8] | None:
        """Read the colour image of a frame: uint8 [H, W, 3] RGB; None where there is none."""
        path = self.frames[index].colour
        if path is None:
            return None
        image = read_colour(path)
        size = (self.camera.height, self.camera.width)
        if image.shape[:2] != size:
            raise ImageError("colour and depth differ in size", where=path, expected=size, got=image.shape[:2])
        return image

    def _read(self, path: Path, unit_m: float) -> NDArray[np.float32]:
        depth = _read_png(path, unit_m)
        size = (self.camera.height, self.camera.width)
        if depth.shape != size:
            raise DepthError(
                "image has another size than the scene's first", where=path, expected=size, got=depth.shape
            )
        return depth

    def digest(self) -> str:
        """Return the SHA-256 of all images and the camera matrix, so that a result names its data."""
        digest = hashlib.sha256((self.folder / "K.txt").read_bytes())
        for frame in self.frames:
            digest.update(frame.clean.read_bytes())
            digest.update(frame.noisy.read_bytes())
            if frame.colour is not None:
                digest.update(frame.colour.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class SceneArgument:
    """A scene as named on the command line: ``[NAME=]FOLDER[:PROFILE]``."""

    name: str
    folder: Path
    profile: str


def parse_scene(text: str, default_profile: str) -> SceneArgument:
    """Read ``[NAME=]FOLDER[:PROFILE]``.

    Args:
        text: for example ``tron=pairs/tron:d435``. A folder whose own name holds ``=`` or ``:`` can't be named so.
        default_profile: profile where none is given.

    Returns:
        The parts; the name defaults to the folder's.

    Raises:
        ConfigError: a part is empty.
    """
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = "", text
    folder_text, colon, profile = rest.rpartition(":")
    if not colon:
        folder_text, profile = rest, default_profile
    folder = Path(folder_text)
    if not folder_text or not profile or (equals and not name):
        raise ConfigError("scene is incomplete", where=f"--pairs {text}", expected="[NAME=]FOLDER[:PROFILE]", got=text)
    return SceneArgument(name or folder.resolve().name, folder, profile)


def load_scene(
    argument: SceneArgument, max_frames: int | None = None, first: int | None = None, last: int | None = None
) -> Scene:
    """Find the pairs of a scene and read its camera.

    Args:
        argument: what the command line says.
        max_frames: keep this many of these frames, evenly spread; all of them where None.
        first: leave out frames with a smaller number.
        last: leave out frames with a larger number.

    Returns:
        The scene.

    Raises:
        ConfigError: the profile is unknown, ``K.txt`` is missing or malformed.
        DepthError: there are no pairs, none in the range, or the first image can't be read.
    """
    folder = argument.folder
    profile = load_yaml(find_config(f"cameras/{argument.profile}.yaml"), CameraProfile)
    windows = read_windows(folder / "pairs.csv")
    frames = [
        PairFrame(
            int(clean.stem),
            windows.get(int(clean.stem), ""),
            clean,
            folder / "noisy" / clean.name,
            _colour(folder, clean.stem),
        )
        for clean in sorted((folder / "clean").glob("*.png"))
        if clean.stem.isdigit() and (folder / "noisy" / clean.name).is_file()
    ]
    if not frames:
        raise DepthError(
            "folder holds no pairs",
            where=folder,
            expected="clean/NNNNNN.png and noisy/NNNNNN.png",
            next_step="name the folder that holds clean/ and noisy/",
        )
    frames.sort(key=lambda frame: frame.number)
    frames = _in_range(frames, folder, first, last)
    matrix = read_camera_matrix(folder / "K.txt")
    height, width = _read_png(frames[0].clean, CLEAN_UNIT_M).shape
    camera = CameraModel(
        width=width,
        height=height,
        fx=matrix[0, 0],
        fy=matrix[1, 1],
        cx=matrix[0, 2],
        cy=matrix[1, 2],
        baseline_m=profile.baseline_m,
    )
    return thinned(Scene(argument.name, folder, profile, camera, tuple(frames)), max_frames)


def thinned(scene: Scene, max_frames: int | None) -> Scene:
    """The scene with at most so many frames, evenly spread; all of them where None."""
    if max_frames is None or max_frames >= len(scene.frames):
        return scene
    keep = np.unique(np.linspace(0, len(scene.frames) - 1, max_frames).round().astype(int))
    return replace(scene, frames=tuple(scene.frames[i] for i in keep))


def _in_range(frames: list[PairFrame], folder: Path, first: int | None, last: int | None) -> list[PairFrame]:
    numbers = [frame.number for frame in frames]
    low = numbers[0] if first is None else first
    high = numbers[-1] if last is None else last
    kept = [frame for frame in frames if low <= frame.number <= high]
    if not kept:
        raise DepthError(
            "no pair has a number in the range",
            where=folder,
            expected=f"numbers {low} to {high}",
            got=f"{numbers[0]} to {numbers[-1]}",
            next_step="correct --first or --last",
        )
    return kept


def _colour(folder: Path, stem: str) -> Path | None:
    paths = (folder / "colour" / f"{stem}{suffix}" for suffix in (".png", ".jpg"))
    return next((path for path in paths if path.is_file()), None)


def _read_png(path: Path, unit_m: float) -> NDArray[np.float32]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None:
        raise DepthError("image can't be read", where=path, expected="a 16-bit greyscale PNG")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DepthError(
            "image is not depth", where=path, expected="16-bit greyscale", got=f"{image.dtype} {image.shape}"
        )
    depth = image.astype(np.float32) * np.float32(unit_m)
    depth[image == 0] = np.nan
    return depth
