"""Folders of depth frames from real cameras: find the files, read images, intrinsics and poses."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_core.camera import CameraModel
from realdiff_core.episode import natural_key
from realdiff_core.errors import CameraError, ImageError, RealdiffError

# In order of preference; the first that matches is taken. Each may also lie in the folder data/.
DEPTH_GLOBS = ("depth/*.png", "*depth*.png", "noisy/*.png", "native_raw/*.raw", "*.raw", "*depth*.exr", "depth/*.exr")
COLOUR_GLOBS = ("color/*", "colour/*", "rgb/*", "*color*.png", "*color*.jpg", "*colour*.png", "*rgb*.png", "*rgb*.jpg")
POSE_GLOBS = ("*.pose.txt", "pose/*.txt", "poses/*.txt")
INTRINSICS_GLOBS = (
    "*intrinsic*.json",
    "camera_params.json",
    "K.txt",
    "*intrinsic*.txt",
    "*intrinsic*.y*ml",
    "camera_info.y*ml",
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr", ".raw")


@dataclass(frozen=True)
class FrameFiles:
    """The files of a sequence.

    Args:
        depth: Depth images by frame number, ascending.
        colour: Colour images by frame number; for some or all of the depth images.
        poses: Camera poses by frame number.
        depth_glob: The pattern that found the depth images.
    """

    depth: dict[int, Path]
    colour: dict[int, Path] = field(default_factory=dict)
    poses: dict[int, Path] = field(default_factory=dict)
    depth_glob: str = ""


@dataclass(frozen=True)
class Intrinsics:
    """Camera intrinsics from a file; many files don't tell the image size."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def camera(self, width: int, height: int, frame_id: str, baseline_m: float | None, where: object) -> CameraModel:
        """Return the camera of images of a given size.

        Raises:
            CameraError: The intrinsics are those of images of another size.
        """
        if (self.width or width, self.height or height) != (width, height):
            raise CameraError(
                "intrinsics and images differ in size",
                where=where,
                expected=f"{width}×{height} px, as the images",
                got=f"{self.width}×{self.height} px",
                next_step="give the intrinsics of this resolution with --intrinsics or --fx --fy --cx --cy",
            )
        numbers = (self.fx, self.fy, self.cx, self.cy)
        return CameraModel(width, height, *numbers, self.distortion, frame_id=frame_id, baseline_m=baseline_m)


def find_frames(folder: Path, depth_glob: str | None = None, colour_glob: str | None = None) -> FrameFiles:
    """Find the frames of a sequence.

    The frame number is the last group of digits in a file's name; a name without digits is frame 0. Colour images and
    poses belong to the depth image of the same number, or, where as many as depth images were found without common
    numbers, of the same rank.

    Raises:
        RealdiffError: No folder, no depth images, or several with one number.
    """
    if not folder.is_dir():
        raise RealdiffError("folder doesn't exist", where=folder, next_step="check the path")
    pattern, depth = _first_match(folder, (depth_glob,) if depth_glob else DEPTH_GLOBS)
    if not depth:
        raise RealdiffError(
            "no depth images are found",
            where=folder,
            expected=f"files like {depth_glob or ', '.join(DEPTH_GLOBS)}",
            got=", ".join(sorted(item.name for item in folder.iterdir())[:8]) or "an empty folder",
            next_step="name them: --depth-glob 'PATTERN', relative to the folder",
        )
    numbered = _by_number(depth, pattern, "--depth-glob")
    _, colour = _first_match(folder, (colour_glob,) if colour_glob else COLOUR_GLOBS)
    if colour_glob and not colour:
        raise RealdiffError(
            "no colour images are found",
            where=folder,
            expected=f"files like {colour_glob}",
            next_step="correct --colour-glob, or leave it out",
        )
    _, poses = _first_match(folder, POSE_GLOBS, suffixes=(".txt",))
    return FrameFiles(
        depth=numbered,
        colour=_matched(
            numbered, _by_number(colour, colour_glob or "colour images", "--colour-glob") if colour else {}
        ),
        poses={number: path for number, path in _by_number(poses, "poses", "").items() if number in numbered},
        depth_glob=pattern,
    )


def _first_match(
    folder: Path, globs: tuple[str, ...], suffixes: tuple[str, ...] = _IMAGE_SUFFIXES
) -> tuple[str, list[Path]]:
    for prefix in ("", "data/"):
        for pattern in globs:
            found = [path for path in folder.glob(prefix + pattern) if path.suffix.lower() in suffixes]
            if found:
                return prefix + pattern, sorted(found, key=natural_key)
    return "", []


def _by_number(paths: list[Path], pattern: str, option: str) -> dict[int, Path]:
    numbered: dict[int, Path] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.name.removesuffix(path.suffix))
        number = int(digits[-1]) if digits else 0
        if number in numbered:
            raise RealdiffError(
                f"two files have the frame number {number}",
                where=path.parent,
                expected="one file a frame number",
                got=f"{numbered[number].name}, {path.name} (pattern {pattern})",
                next_step=f"narrow the pattern: {option} 'PATTERN'" if option else "remove one of them",
            )
        numbered[number] = path
    return dict(sorted(numbered.items()))


def _matched(depth: dict[int, Path], colour: dict[int, Path]) -> dict[int, Path]:
    common = {number: path for number, path in colour.items() if number in depth}
    if not common and len(colour) == len(depth):
        return dict(zip(depth, colour.values(), strict=True))
    return common


def read_depth(path: Path) -> NDArray[Any]:
    """Read a depth image.

    Returns:
        uint16 [H, W] (PNG, raw Z16) or float32 [H, W] (EXR), in the file's own unit.

    Raises:
        ImageError: The file can't be read or isn't a depth image.
    """
    if path.suffix == ".raw":
        metadata = _raw_metadata(path)
        width, height = int(metadata["Resolution x"]), int(metadata["Resolution y"])
        pixels = np.fromfile(path, "<u2")
        if pixels.size != width * height:
            raise ImageError(
                "raw depth file has the wrong length",
                where=path,
                expected=f"{width * height * 2} bytes for {width}×{height}",
                got=f"{path.stat().st_size} bytes",
            )
        return pixels.reshape(height, width)
    image = _read_exr(path) if path.suffix == ".exr" else _imread(path, unchanged=True)
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise ImageError(
            "this is no depth image",
            where=path,
            expected="16-bit grey values (PNG) or floats (EXR)",
            got=f"{image.dtype} {list(image.shape)}",
            next_step="name the depth images with --depth-glob",
        )
    return np.asarray(image)


def read_colour(path: Path) -> NDArray[np.uint8]:
    """Read a colour image as uint8 [H, W, 3], RGB.

    Raises:
        ImageError: The file can't be read.
    """
    return np.ascontiguousarray(_imread(path, unchanged=False)[..., ::-1], np.uint8)


def _imread(path: Path, unchanged: bool) -> NDArray[Any]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if unchanged else cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError("image can't be read", where=path, expected="a complete image file", next_step="copy it again")
    return np.asarray(image)


def _read_exr(path: Path) -> NDArray[Any]:
    """Read the first channel of an OpenEXR image as float32 [H, W]; depth is repeated in R, G and B."""
    try:
        import OpenEXR
    except ImportError:
        raise ImageError(
            "OpenEXR images can't be read here",
            where=path,
            expected="the Python package OpenEXR (OpenCV's wheels come without this format)",
            next_step="pip install OpenEXR, or convert the images to 16-bit PNG",
        ) from None
    try:
        with OpenEXR.File(str(path)) as file:
            pixels = next(iter(file.channels().values())).pixels
    except (RuntimeError, ValueError) as error:
        raise ImageError("image can't be read", where=path, got=str(error), next_step="copy it again") from error
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., 0], np.float32)


def find_intrinsics(folder: Path, depth_file: Path) -> Path | None:
    """Return the file with the intrinsics: beside the images, in the folder or one above; None where there is none."""
    if depth_file.suffix == ".raw" and _raw_metadata_path(depth_file).is_file():
        return _raw_metadata_path(depth_file)
    for place in (depth_file.parent, folder, folder.parent):
        for pattern in INTRINSICS_GLOBS:
            if found := sorted(place.glob(pattern)):
                return found[0]
    return None


def read_intrinsics(path: Path) -> Intrinsics:
    """Read intrinsics from the formats in use.

    * JSON: Open3D's ``intrinsic_matrix`` (9 numbers, column by column), or ``fx, fy`` with ``cx, cy``, ``ppx, ppy``
    or ``x_offset, y_offset``;
    * text: the 3×3 matrix, row by row;
    * YAML: ROS' ``camera_matrix``, or ``fx, fy, cx, cy`` with ``xres, yres``;
    * CSV: RealSense's metadata of a raw frame.

    Raises:
        CameraError: The file is missing or of none of these formats.
    """
    try:
        if path.suffix == ".csv":
            metadata = _read_metadata(path)
            fx, fy, cx, cy = (float(metadata[name]) for name in ("Fx", "Fy", "PPx", "PPy"))
            return Intrinsics(fx, fy, cx, cy, int(metadata["Resolution x"]), int(metadata["Resolution y"]))
        if path.suffix == ".txt":
            rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return _from_matrix(np.array(rows, np.float64))
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return _from_mapping(json.loads(text))
        import yaml

        return _from_mapping(yaml.safe_load(text))
    except FileNotFoundError:
        raise CameraError("intrinsics file doesn't exist", where=path, next_step="check --intrinsics") from None
    except (KeyError, ValueError, TypeError) as error:
        raise CameraError(
            "intrinsics file isn't understood",
            where=path,
            expected="JSON, YAML, CSV or a text file with the 3×3 camera matrix",
            got=f"{type(error).__name__}: {error}",
            next_step="give --fx --fy --cx --cy instead",
        ) from error


def _from_matrix(matrix: NDArray[np.float64], width: int | None = None, height: int | None = None) -> Intrinsics:
    if matrix.shape != (3, 3):
        raise ValueError(f"the matrix is {matrix.shape}, not 3×3")
    fx, fy, cx, cy = (float(matrix[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Intrinsics(fx, fy, cx, cy, width, height)


def _from_mapping(content: dict[str, Any]) -> Intrinsics:
    def pick(*names: str) -> Any:
        for name in names:
            if name in content:
                return content[name]
        raise KeyError(" or ".join(names))

    def size(*names: str) -> int | None:
        return next((int(content[name]) for name in names if name in content), None)

    width = size("width", "img_width", "image_width", "xres")
    height = size("height", "img_height", "image_height", "yres")
    if "intrinsic_matrix" in content:
        column_by_column = np.array(content["intrinsic_matrix"], np.float64).reshape(3, 3)
        return _from_matrix(column_by_column.T, width=width, height=height)
    if "camera_matrix" in content:
        matrix = np.array(content["camera_matrix"]["data"], np.float64).reshape(3, 3)
        given = [float(value) for value in (content.get("distortion_coefficients") or {}).get("data", [])]
        found = _from_matrix(matrix, width=width, height=height)
        if any(given[5:]):
            raise ValueError("more than five distortion coefficients")
        distortion = tuple((given + [0.0] * 5)[:5])
        return Intrinsics(found.fx, found.fy, found.cx, found.cy, width, height, distortion)
    return Intrinsics(
        float(pick("fx")),
        float(pick("fy")),
        float(pick("cx", "ppx", "x_offset")),
        float(pick("cy", "ppy", "y_offset")),
        width,
        height,
    )


def read_pose(path: Path) -> NDArray[np.float64]:
    """Read a pose, float64 [4, 4], camera to world [m], row by row.

    Raises:
        RealdiffError: The file doesn't hold a rigid transform.
    """
    try:
        pose = np.loadtxt(path, dtype=np.float64)
    except ValueError as error:
        raise RealdiffError("pose file isn't understood", where=path, expected="4×4 numbers", got=str(error)) from error
    if pose.shape != (4, 4) or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-2):
        raise RealdiffError("this is no pose", where=path, expected="a rigid transform, 4×4", got=f"shape {pose.shape}")
    return pose


def _raw_metadata_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_metadata.csv")


def _raw_metadata(path: Path) -> dict[str, str]:
    if not _raw_metadata_path(path).is_file():
        raise ImageError(
            "size of the raw depth image isn't known",
            where=path,
            expected=_raw_metadata_path(path).name,
            next_step="export the frames with their metadata from the RealSense viewer, or as PNG",
        )
    return _read_metadata(_raw_metadata_path(path))


def _read_metadata(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) >= 2}
