"""Simulated clean/noisy depth pairs in a folder, and packed into one file for training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.cli import progress
from realdiff_core.errors import OutputError

from realdiff_sim_bridge.stereo.scene_views import RenderedScene, Scene, SceneRenderer, is_plausible
from realdiff_sim_bridge.stereo.scenes import RandomScene
from realdiff_sim_bridge.stereo.sensor import StereoSensor
from realdiff_sim_bridge.stereo.settings import StereoRanges, require_trainable

SceneKind = Literal["random", "robot"]

FRAMES_PER_SCENE = 4
_POSE_TRIES = 12

# The D435's left imager at the two sizes in use (no distortion: rectified images).
CAMERAS: dict[str, CameraModel] = {
    "640x480": CameraModel(width=640, height=480, fx=384.0, fy=384.0, cx=319.5, cy=239.5),
    "848x480": CameraModel(width=848, height=480, fx=424.0, fy=424.0, cx=423.5, cy=239.5),
}


@dataclass(frozen=True)
class SimulatedPair:
    """One frame.

    Attributes:
        clean: float32 [H,W] metres, NaN unknown.
        noisy: float32 [H,W] metres, NaN = hole.
        colour: uint8 [H,W,3] RGB, registered to the depth pixels.
        infrared: uint8 [H,W], left imager.
    """

    clean: NDArray[np.float32]
    noisy: NDArray[np.float32]
    colour: NDArray[np.uint8]
    infrared: NDArray[np.uint8]


def simulate_scene(
    ranges: StereoRanges, camera: CameraModel, seed: int, scene: int, skip: set[int], kind: SceneKind = "random"
) -> dict[int, SimulatedPair]:
    """Simulate the frames of one scene: one room, one camera unit, `FRAMES_PER_SCENE` poses and settings.

    Every frame depends only on (`ranges`, `camera`, `seed`, `scene`, its index).

    Args:
        ranges: the settings' ranges.
        camera: the imagers.
        seed: of the whole set.
        scene: number of the scene.
        skip: indices within the scene that aren't needed.
        kind: ``random`` rooms, or the ``robot``'s cell.

    Returns:
        Index within the scene → pair.
    """
    pairs: dict[int, SimulatedPair] = {}
    wanted = [index for index in range(FRAMES_PER_SCENE) if index not in skip]
    for index, rendered, sensor, noise_seed in _shots(ranges, camera, seed, scene, wanted, kind):
        frame = sensor.measure(rendered.left, rendered.right, noise_seed, rendered.projector_depth)
        pairs[index] = SimulatedPair(rendered.left.depth, frame.depth, rendered.colour, frame.left)
    return pairs


def simulate_static(
    ranges: StereoRanges, camera: CameraModel, seed: int, scene: int, frames: int, kind: SceneKind = "random"
) -> list[NDArray[np.float32]]:
    """Measure a static scene several times: depth float32 [H,W] per frame, NaN = hole; see `simulate_scene`."""
    ((_, rendered, sensor, noise_seed),) = _shots(ranges, camera, seed, scene, [0], kind)
    return [
        sensor.measure(rendered.left, rendered.right, noise_seed + number, rendered.projector_depth).depth
        for number in range(frames)
    ]


def _shots(
    ranges: StereoRanges, camera: CameraModel, seed: int, scene: int, wanted: list[int], kind: SceneKind
) -> Iterator[tuple[int, RenderedScene, StereoSensor, int]]:
    """Render the wanted frames of a scene: index, views, the sensor with the frame's settings, seed of the noise."""
    rng = np.random.default_rng([seed, scene])
    room: Scene
    if kind == "robot":
        from realdiff_sim_bridge.stereo.robot_scene import RobotScene

        room = RobotScene(rng, camera)
    else:
        room = RandomScene(rng, camera)
    unit = ranges.unit_seed(rng)
    nominal = ranges.middle()
    with SceneRenderer(camera, nominal.baseline_m, nominal.projector_offset_m).open(room) as view:
        for index in wanted:
            frame_rng = np.random.default_rng([seed, scene, index])
            position, rotation = room.random_pose(frame_rng)
            for _ in range(_POSE_TRIES):
                if is_plausible(view.depth(position, rotation)):
                    break
                position, rotation = room.random_pose(frame_rng)
            sensor = StereoSensor(camera, ranges.sample(frame_rng), unit)
            rendered = view.render(position, rotation)
            yield index, rendered, sensor, int(frame_rng.integers(2**62))


def simulate_pairs(
    folder: Path,
    frames: int,
    ranges: StereoRanges,
    *,
    seed: int = 0,
    size: str = "640x480",
    purpose: Literal["training", "evaluation"] = "training",
    kind: SceneKind = "random",
) -> int:
    """Fill `folder` with simulated pairs; frames that exist are kept, so an interrupted run goes on.

    Layout: ``clean/NNNNNN.png`` (16 bit, 0.1 mm, 0 = unknown), ``noisy/NNNNNN.png`` (16 bit, 1 mm, 0 = hole),
    ``colour/NNNNNN.jpg`` (registered to the depth pixels), ``infrared/NNNNNN.jpg`` (left imager), ``K.txt``,
    ``meta.yaml``.

    Args:
        folder: created if missing.
        frames: how many in all.
        ranges: where the settings are drawn from.
        seed: of the whole set.
        size: a key of `CAMERAS`.
        purpose: what the pairs are for.
        kind: ``random`` rooms, or the ``robot``'s cell.

    Returns:
        Frames newly made.

    Raises:
        ProvenanceError: evaluation settings for training pairs.
        OutputError: the folder holds pairs made with other arguments.
    """
    if purpose == "training":
        require_trainable(ranges)
    camera = CAMERAS[size]
    settings = ranges.model_dump(mode="json")
    meta = {
        "source": "simulation (procedural scenes, active-stereo sensor model)",
        "purpose": purpose,
        "seed": seed,
        "size": size,
        "baseline_m": ranges.middle().baseline_m,
        "settings": settings,
        "scenes": kind,
    }
    _prepare(folder, meta, camera)
    made = 0
    scenes = -(-frames // FRAMES_PER_SCENE)
    with progress("simulating pairs", frames) as bar:
        for scene in range(scenes):
            numbers = range(scene * FRAMES_PER_SCENE, (scene + 1) * FRAMES_PER_SCENE)
            skip = {i for i, number in enumerate(numbers) if number >= frames or _exists(folder, number)}
            bar.advance(sum(number < frames for i, number in enumerate(numbers) if i in skip))
            if len(skip) == FRAMES_PER_SCENE:
                continue
            for index, pair in simulate_scene(ranges, camera, seed, scene, skip, kind).items():
                _write(folder, numbers[index], pair)
                made += 1
                bar.advance(1)
    return made


def _prepare(folder: Path, meta: dict[str, Any], camera: CameraModel) -> None:
    for name in ("clean", "noisy", "colour", "infrared"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "meta.yaml"
    if path.exists():
        found = yaml.safe_load(path.read_text())
        if found != meta:
            different = [key for key in meta if not isinstance(found, dict) or found.get(key) != meta[key]]
            raise OutputError(
                "the folder holds pairs made with other arguments",
                where=str(path),
                expected=json.dumps({k: meta[k] for k in different}),
                got=json.dumps({k: found.get(k) for k in different}) if isinstance(found, dict) else "no mapping",
                next_step="choose another output folder, or repeat the arguments of the first run to continue it",
            )
        return
    np.savetxt(folder / "K.txt", camera.K)
    path.write_text(yaml.safe_dump(meta, sort_keys=False))


def _exists(folder: Path, number: int) -> bool:
    return (folder / "noisy" / f"{number:06d}.png").exists()  # the last file of a frame to be written


def _write(folder: Path, number: int, pair: SimulatedPair) -> None:
    clean = np.rint(np.nan_to_num(pair.clean) * 10_000)
    clean[clean > 65535] = 0
    noisy = np.nan_to_num(np.rint(pair.noisy * 1000))
    _write_image(folder / "colour" / f"{number:06d}.jpg", np.ascontiguousarray(pair.colour[..., ::-1]))
    _write_image(folder / "infrared" / f"{number:06d}.jpg", pair.infrared)
    _write_image(folder / "clean" / f"{number:06d}.png", clean.astype(np.uint16))
    _write_image(folder / "noisy" / f"{number:06d}.png", noisy.astype(np.uint16))


def _write_image(path: Path, image: NDArray[Any]) -> None:
    """Write beside the final name and move: a killed run leaves no broken file that a resumed one would keep."""
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise OutputError("the image can't be encoded", where=str(path))
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)


def pack_pairs(folder: Path, output: Path, *, clean_step_px: float = 0.02, part: int = 0, parts: int = 1) -> int:
    """Pack a pair folder, or every `parts`-th frame of it, into one compressed file.

    Keys: ``clean_01mm`` uint16 [N,H,W] (0.1 mm, 0 unknown), ``noisy_mm`` uint16 [N,H,W] (0 hole), ``grey`` uint8
    [N,H/2,W/2] (luminance of the colour image), ``K`` float64 [3,3], ``baseline_m``, ``source``, ``frames`` int64 [N],
    ``windows`` int64 [N] (first frame of the scene).

    Args:
        folder: written by `simulate_pairs`.
        output: the .npz file.
        clean_step_px: the clean depth is rounded to steps of at most this disparity (a fraction of the noise), which
            makes the file half as large; 0 keeps it as it is.
        part: frames part, part + parts, …
        parts: in how many files the folder is packed.

    Returns:
        Bytes written.

    Raises:
        OutputError: the folder holds no pairs.
    """
    numbers = sorted(path.stem for path in (folder / "noisy").glob("*.png"))[part::parts]
    if not numbers:
        raise OutputError("no pairs to pack", where=str(folder), next_step="run simulate_pairs first")
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    K = np.loadtxt(folder / "K.txt")
    factor = float(K[0, 0]) * float(meta["baseline_m"])
    clean, noisy, grey = [], [], []
    for number in numbers:
        exact = _read(folder / "clean" / f"{number}.png", cv2.IMREAD_UNCHANGED)
        clean.append(round_to_disparity(exact, factor, clean_step_px) if clean_step_px > 0 else exact)
        noisy.append(_read(folder / "noisy" / f"{number}.png", cv2.IMREAD_UNCHANGED))
        luminance = _read(folder / "colour" / f"{number}.jpg", cv2.IMREAD_GRAYSCALE)
        grey.append(cv2.resize(luminance, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial.npz")
    np.savez_compressed(
        partial,
        clean_01mm=np.stack(clean),
        noisy_mm=np.stack(noisy),
        grey=np.stack(grey),
        K=K,
        baseline_m=np.float64(meta["baseline_m"]),
        source=np.str_(f"simulated stereo, {meta['settings']['purpose']} settings, seed {meta['seed']}"),
        frames=np.array([int(number) for number in numbers], np.int64),
        windows=np.array([int(number) // FRAMES_PER_SCENE * FRAMES_PER_SCENE for number in numbers], np.int64),
    )
    partial.replace(output)
    return output.stat().st_size


def _read(path: Path, mode: int) -> NDArray[Any]:
    image = cv2.imread(str(path), mode)
    if image is None:
        raise OutputError(
            "an image of the pair folder can't be read", where=str(path), next_step="simulate the pairs again"
        )
    return image


def round_to_disparity(clean_01mm: NDArray[np.uint16], disparity_factor: float, step_px: float) -> NDArray[np.uint16]:
    """Round depth to power-of-two multiples of 0.1 mm that stay under `step_px` of disparity.

    Args:
        clean_01mm: uint16, 0.1 mm.
        disparity_factor: fx · baseline, px·m.
        step_px: largest step.

    Returns:
        uint16, 0.1 mm; no value is off by more than half a step; 0 stays 0.
    """
    metres = clean_01mm.astype(np.float64) / 10_000
    steps = np.maximum(metres * metres * step_px / disparity_factor * 10_000, 1.0)
    step = np.exp2(np.floor(np.log2(steps))).astype(np.int64)
    rounded = (clean_01mm.astype(np.int64) + step // 2) // step * step
    return np.where(rounded > 65535, clean_01mm, rounded).astype(np.uint16)
