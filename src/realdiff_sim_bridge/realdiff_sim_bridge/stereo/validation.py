"""Collect the statistics of the simulated stereo camera and of real frames for one page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.cli import progress
from realdiff_core.errors import CameraError, OutputError

from realdiff_sim_bridge.stereo.infrared import ImagerView
from realdiff_sim_bridge.stereo.pairs import CAMERAS, FRAMES_PER_SCENE, SceneKind, simulate_scene, simulate_static
from realdiff_sim_bridge.stereo.sensor import StereoSensor
from realdiff_sim_bridge.stereo.settings import StereoRanges
from realdiff_sim_bridge.stereo.statistics import Sums, add_sums, pair_sums, transition_sums

Float = NDArray[np.float32]

RULE_PX = 0.08
"""Sub-pixel error of Intel's rule σ = z² · s / (f · B) ("Best-Known-Methods for Tuning D400 Cameras", 2018)."""

WALL_DEPTHS_M = (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
_STATIC_FRAMES = 6
_WALL_UNITS = 3
_WALL_SLOPE = 0.15  # slightly turned, so that every fraction of a pixel occurs


@dataclass(frozen=True)
class Source:
    """Frames of one camera.

    Attributes:
        name: for people.
        frames: sums of each frame, or of each scene where frames of a scene are alike.
        unit: what `frames` are: ``frames``, ``scenes`` or ``transitions``.
    """

    name: str
    frames: list[Sums]
    unit: str


@dataclass(frozen=True)
class Walls:
    """Flat walls: error σ in mm and temporal part in px, float64 [units, len(WALL_DEPTHS_M)]."""

    sigma_mm: NDArray[np.float64]
    temporal_px: NDArray[np.float64]
    disparity_factor: float


def simulated(ranges: StereoRanges, *, frames: int, seed: int, kind: SceneKind, size: str) -> tuple[Source, Source]:
    """Simulate pairs (summed by scene) and static scenes."""
    camera = dataclasses.replace(CAMERAS[size], baseline_m=ranges.middle().baseline_m)
    scenes = max(2, -(-frames // FRAMES_PER_SCENE))
    paired: list[Sums] = []
    static: list[Sums] = []
    with progress("simulating", scenes, unit="scenes") as bar:
        for scene in range(scenes):
            pairs = simulate_scene(ranges, camera, seed, scene, set(), kind).values()
            paired.append(add_sums(pair_sums(pair.clean, pair.noisy, camera) for pair in pairs))
            still = simulate_static(ranges, camera, seed, scene, _STATIC_FRAMES, kind)
            static.append(add_sums(transition_sums(a, b) for a, b in zip(still, still[1:], strict=False)))
            bar.advance(1)
    name = f"simulated, {ranges.purpose}"
    return Source(name, paired, "scenes"), Source(name, static, "scenes")


def flat_walls(ranges: StereoRanges, *, size: str) -> Walls:
    """Measure flat walls at `WALL_DEPTHS_M` with settings in the middle of the ranges."""
    settings, camera = ranges.middle(), CAMERAS[size]
    factor = camera.fx * settings.baseline_m
    sigma, temporal = (np.full((_WALL_UNITS, len(WALL_DEPTHS_M)), np.nan) for _ in range(2))
    for unit in range(_WALL_UNITS):
        sensor = StereoSensor(camera, settings, ranges.unit_seed(np.random.default_rng(unit)))
        for index, depth in enumerate(WALL_DEPTHS_M):
            views = [_wall(camera, depth, x) for x in (0.0, settings.baseline_m)]
            first, second = (sensor.measure(views[0], views[1], seed) for seed in (1, 2))
            valid = np.isfinite(first.depth) & np.isfinite(second.depth)
            if valid.mean() < 0.1:
                continue
            error = (first.depth - views[0].depth)[valid] * 1000
            sigma[unit, index] = 1.4826 * np.median(np.abs(error - np.median(error)))
            change = (first.disparity - second.disparity)[valid]
            temporal[unit, index] = np.sqrt(np.mean(np.square(change)) / 2)
    return Walls(sigma, temporal, factor)


def _wall(camera: CameraModel, depth_m: float, x_m: float) -> ImagerView:
    tangent = (np.arange(camera.width) - camera.cx) / camera.fx
    row = (depth_m + _WALL_SLOPE * x_m) / (1 - _WALL_SLOPE * tangent)
    depth = np.broadcast_to(row.astype(np.float32), (camera.height, camera.width)).copy()
    return ImagerView(depth, np.full_like(depth, 0.5), np.full_like(depth, 0.02))


def pair_folder(folder: Path, baseline_m: float, limit: int | None = None) -> Source:
    """Sums of every frame of a pair folder: ``clean/*.png`` (0.1 mm), ``noisy/*.png`` (1 mm), ``K.txt``.

    Args:
        folder: the folder.
        baseline_m: stereo baseline, unless the folder's meta.yaml names one.
        limit: at most so many frames, evenly spread.

    Raises:
        OutputError: files are missing or broken.
        CameraError: K.txt is no camera matrix.
    """
    numbers = sorted(path.stem for path in (folder / "noisy").glob("*.png"))
    if not numbers or not (folder / "K.txt").exists():
        raise OutputError(
            "not a folder of pairs", where=str(folder), expected="clean/*.png, noisy/*.png and K.txt", got="not all"
        )
    if (folder / "meta.yaml").exists():
        meta: Any = yaml.safe_load((folder / "meta.yaml").read_text())
        baseline_m = float(meta.get("baseline_m", baseline_m)) if isinstance(meta, dict) else baseline_m
    camera: CameraModel | None = None
    frames: list[Sums] = []
    for number in _spread(numbers, limit):
        clean = _metres(folder / "clean" / f"{number}.png", 1e-4)
        noisy = _metres(folder / "noisy" / f"{number}.png", 1e-3)
        if clean.shape != noisy.shape:
            raise OutputError("clean and noisy differ in size", where=f"{folder}: {number}.png")
        camera = camera or _camera(folder / "K.txt", clean.shape, baseline_m)
        frames.append(pair_sums(clean, noisy, camera))
    return Source(folder.name, frames, "frames")


def static_folder(folder: Path, first: int | None = None) -> Source:
    """Sums of the transitions of a static camera's depth images (16-bit PNG, mm, in order of their names).

    Frames that repeat the one before bit by bit are left out: some recorders store a frame twice.

    Args:
        folder: of depth images, or with a folder ``depth``.
        first: only the first so many images.

    Raises:
        OutputError: fewer than two different frames.
    """
    inner = folder / "depth" if (folder / "depth").is_dir() else folder
    images = [_metres(path, 1e-3) for path in sorted(inner.glob("*.png"))[:first]]
    different = [
        image
        for index, image in enumerate(images)
        if index == 0 or not np.array_equal(image, images[index - 1], equal_nan=True)
    ]
    if len(different) < 2:
        raise OutputError("a static sequence needs two different frames", where=str(inner), got=str(len(different)))
    sums = [transition_sums(a, b) for a, b in zip(different, different[1:], strict=False)]
    return Source(folder.name, sums, "transitions")


def _spread(numbers: list[str], limit: int | None) -> list[str]:
    if limit is None or limit >= len(numbers):
        return numbers
    return [numbers[round(i)] for i in np.linspace(0, len(numbers) - 1, limit)]


def _metres(path: Path, unit_m: float) -> Float:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or image.dtype != np.uint16:
        raise OutputError("not a 16-bit depth image", where=str(path))
    return np.where(image > 0, image * np.float32(unit_m), np.float32(np.nan)).astype(np.float32)


def _camera(path: Path, shape: tuple[int, ...], baseline_m: float) -> CameraModel:
    try:
        matrix = np.loadtxt(path).reshape(3, 3)
    except ValueError as error:
        raise CameraError("not a camera matrix", where=str(path), expected="3 × 3 numbers", got=str(error)) from error
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return CameraModel(shape[1], shape[0], fx, fy, cx, cy, baseline_m=baseline_m)
