"""Data sets whose folders are laid out in their own way: LASA (ARKitScenes), ByteCameraDepth, ClearGrasp.

- **LASA** annotates ARKitScenes 3dod scenes: ``lowres_depth/VIDEO_TIME.png`` (16 bit, mm), one
  ``lowres_wide_intrinsics/VIDEO_TIME.pincam`` a frame (width height fx fy cx cy), ``lowres_wide.traj`` (time, rotation
  vector, translation; world to camera). Poses are known; intrinsics vary a little with the focus.
- **ByteCameraDepth**: ``recorded_data/SESSION/camera_NAME/depth_000.png`` (16 bit, mm) beside ``color_000.png``,
  several cameras a session, without intrinsics or poses in the folder.
- **ClearGrasp** (real): ``N-transparent-depth-img.exr`` and ``N-opaque-depth-img.exr``: the same scene with transparent
  objects and with painted twins of them, float metres; ``N-mask.png``; ``camera_intrinsics.yaml`` in the folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from realdiff_core.errors import CameraError, ImageError, RealdiffError

#: Farthest a pose may be in time from its frame, s.
_POSE_SLACK_S = 0.005
#: Intrinsics of one LASA video may differ by this share; more is another zoom.
_FOCUS_SHARE = 0.05


def is_lasa(folder: Path) -> bool:
    """Whether a folder is a video of LASA or ARKitScenes, or its frames folder."""
    return _lasa_root(folder) is not None


def _lasa_root(folder: Path) -> Path | None:
    candidates = (folder, *sorted(folder.glob("*_frames"))) if folder.is_dir() else ()
    return next((place for place in candidates if (place / "lowres_depth").is_dir()), None)


@dataclass(frozen=True)
class LasaFrame:
    """One frame of a LASA video.

    Attributes:
        number: milliseconds since the video's first frame.
        depth: the depth image.
        matrix: float64 [3, 3], px.
        pose: T_world_camera, float64 [4, 4].
    """

    number: int
    depth: Path
    matrix: npt.NDArray[np.float64]
    pose: npt.NDArray[np.float64]


def lasa_frames(folder: Path) -> list[LasaFrame]:
    """Find the frames of a LASA video that have a pose, in temporal order.

    Raises:
        RealdiffError: no depth, no trajectory, or a file that isn't understood.
    """
    root = _lasa_root(folder)
    if root is None:
        raise RealdiffError("this is no LASA video", where=folder, expected="lowres_depth/VIDEO_TIME.png")
    poses = _trajectory(root / "lowres_wide.traj")
    times = np.array(sorted(poses))
    frames = []
    images = sorted((root / "lowres_depth").glob("*.png"), key=lambda path: _time(path.stem))
    for path in images:
        time = _time(path.stem)
        nearest = float(times[np.abs(times - time).argmin()])
        if abs(nearest - time) <= _POSE_SLACK_S:
            number = round(1000 * (time - _time(images[0].stem)))
            frames.append(LasaFrame(number, path, _pincam(root, path.stem), poses[nearest]))
    if not frames:
        raise RealdiffError(
            "no depth image has a pose",
            where=root,
            expected=f"lines in lowres_wide.traj within {1e3 * _POSE_SLACK_S:g} ms of the images",
            got=f"{len(images)} images, {len(poses)} poses",
        )
    first = frames[0].matrix[0, 0]
    if any(abs(frame.matrix[0, 0] / first - 1) > _FOCUS_SHARE for frame in frames):
        raise CameraError(
            "the focal length changes within the video", where=root, next_step="use a part: --first, --last"
        )
    return frames


def _time(stem: str) -> float:
    try:
        return float(stem.rpartition("_")[2])
    except ValueError as error:
        raise RealdiffError("file name has no time stamp", where=stem, expected="VIDEO_SECONDS.png") from error


def _trajectory(path: Path) -> dict[float, npt.NDArray[np.float64]]:
    """T_world_camera by time."""
    from scipy.spatial.transform import Rotation

    try:
        table = np.atleast_2d(np.loadtxt(path, dtype=np.float64))
    except FileNotFoundError:
        raise RealdiffError("the camera's trajectory is missing", where=path, expected="lowres_wide.traj") from None
    except ValueError as error:
        raise RealdiffError("the camera's trajectory isn't understood", where=path, got=str(error)) from error
    if table.shape[1] != 7 or not len(table):
        raise RealdiffError(
            "the camera's trajectory isn't understood", where=path, expected="7 columns", got=table.shape
        )
    poses = {}
    for row in table:
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3] = Rotation.from_rotvec(row[1:4]).as_matrix()
        world_to_camera[:3, 3] = row[4:7]
        poses[float(row[0])] = np.asarray(np.linalg.inv(world_to_camera), np.float64)
    return poses


def _pincam(root: Path, stem: str) -> npt.NDArray[np.float64]:
    video, _, text = stem.rpartition("_")
    folder = root / "lowres_wide_intrinsics"
    for shift in (0.0, -0.001, 0.001):  # stamps are rounded to ms, not always the same way
        path = folder / f"{video}_{float(text) + shift:.3f}.pincam"
        if path.is_file():
            values = np.loadtxt(path, dtype=np.float64).ravel()
            if values.size != 6:
                raise CameraError("intrinsics aren't understood", where=path, expected="6 numbers", got=values.size)
            return np.array([[values[2], 0, values[4]], [0, values[3], values[5]], [0, 0, 1.0]])
    raise CameraError("a frame has no intrinsics", where=folder / f"{stem}.pincam", expected="one .pincam a frame")


def byte_camera_folder(folder: Path, sensor: str | None) -> Path | None:
    """Find the frames of one camera in a ByteCameraDepth session (or in the data set's root, if it has one session).

    Args:
        folder: session, root, or something else.
        sensor: name of the camera folder, with or without ``camera_``.

    Returns:
        The camera's folder; None where the layout is another.

    Raises:
        RealdiffError: several cameras or sessions and none chosen, or no such camera.
    """
    if not folder.is_dir():
        return None
    sessions = [item for item in sorted(folder.glob("recorded_data/*")) + sorted(folder.glob("*")) if _is_session(item)]
    if not _is_session(folder):
        if not sessions:
            return None
        if len(sessions) > 1:
            raise RealdiffError(
                "the folder holds several sessions",
                where=folder,
                expected="one of them",
                got=", ".join(item.name for item in sessions[:8]),
                next_step=f"name one, e.g. {sessions[0]}",
            )
        folder = sessions[0]
    cameras = {item.name.removeprefix("camera_"): item for item in sorted(folder.glob("camera_*")) if item.is_dir()}
    wanted = sensor.removeprefix("camera_") if sensor else next(iter(cameras)) if len(cameras) == 1 else None
    if wanted not in cameras:
        raise RealdiffError(
            "the session holds several cameras" if wanted is None else "the session has no such camera",
            where=folder,
            expected=f"one of {', '.join(cameras)}",
            got=sensor or "none named",
            next_step="name it: --sensor NAME",
        )
    return cameras[wanted]


def _is_session(folder: Path) -> bool:
    return folder.is_dir() and any(
        any(camera.glob("depth_*.png")) for camera in folder.glob("camera_*") if camera.is_dir()
    )


@dataclass(frozen=True)
class Twin:
    """The same scene twice.

    Attributes:
        number: number of the capture.
        noisy_m: float32 [H, W], m, NaN = hole: with transparent objects.
        twin_m: float32 [H, W], m, NaN = hole: with painted twins of them, itself measured.
        transparent: bool [H, W], the transparent objects.
        matrix: float64 [3, 3], px.
    """

    number: int
    noisy_m: npt.NDArray[np.float32]
    twin_m: npt.NDArray[np.float32]
    transparent: npt.NDArray[np.bool_]
    matrix: npt.NDArray[np.float64]


def is_clear_grasp(folder: Path) -> bool:
    """Whether a folder holds twin captures."""
    return folder.is_dir() and any(folder.glob("*-transparent-depth-img.exr"))


def read_twins(folder: Path) -> list[Twin]:
    """Read the twin captures of a ClearGrasp folder.

    Raises:
        RealdiffError: a capture lacks its twin, or an image can't be read.
        CameraError: no intrinsics.
    """
    from realdiff_core.frames import find_intrinsics, read_depth, read_intrinsics

    twins: list[Twin] = []
    for path in sorted(folder.glob("*-transparent-depth-img.exr")):
        stem = path.name.removesuffix("-transparent-depth-img.exr")
        other = folder / f"{stem}-opaque-depth-img.exr"
        if not other.is_file():
            raise RealdiffError("a capture lacks its twin", where=other, expected="the painted objects' depth image")
        file = find_intrinsics(folder, path)
        if file is None:
            raise CameraError("camera intrinsics are missing", where=folder, expected="camera_intrinsics.yaml")
        noisy, twin = (_positive(read_depth(item)) for item in (path, other))
        if noisy.shape != twin.shape:
            raise ImageError("a capture and its twin differ in size", where=path, expected=twin.shape, got=noisy.shape)
        camera = read_intrinsics(file).camera(noisy.shape[1], noisy.shape[0], "", None, file)
        digits = re.findall(r"\d+", stem)
        twins.append(
            Twin(
                int(digits[-1]) if digits else len(twins),
                noisy,
                twin,
                _mask(folder / f"{stem}-mask.png", noisy.shape),
                camera.K,
            )
        )
    if not twins:
        raise RealdiffError("no twin captures are found", where=folder, expected="N-transparent-depth-img.exr")
    return twins


def _positive(depth: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    metres = np.asarray(depth, np.float32)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan)).astype(np.float32)


def _mask(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    return np.zeros(shape, bool) if image is None or image.shape != shape else np.asarray(image > 127)
