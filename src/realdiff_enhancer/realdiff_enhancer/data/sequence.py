"""Depth sequences for the making of pairs, from a folder of frames or a bag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from realdiff_core.errors import ImageError, ProvenanceError, RealdiffError

from realdiff_enhancer.data.layouts import byte_camera_folder, is_lasa, lasa_frames
from realdiff_enhancer.data.pair_maker import DepthSequence

if TYPE_CHECKING:
    from realdiff_core.bag import BagReader, RawMessage

_INVALID_Z16 = 65535


@dataclass(frozen=True)
class SequenceOptions:
    """What is read of a source.

    Attributes:
        baseline_m: stereo baseline of the camera.
        topic: depth topic of a bag; its only one by default.
        depth_glob: depth images of a folder; the usual names by default.
        intrinsics: file with the intrinsics of a folder; the usual names by default.
        focal: fx, fy, cx, cy in px, instead of a file.
        scale: metres per unit; 0.001 for integers, 1 for floats by default.
        first: leave out frames of a folder with a smaller number.
        last: leave out frames of a folder with a larger number.
        every: use every N-th frame.
        limit: read at most so many frames.
        sensor: camera of a ByteCameraDepth session.
        colour: also find the colour images that are registered to the depth.
    """

    baseline_m: float
    topic: str | None = None
    depth_glob: str | None = None
    intrinsics: Path | None = None
    focal: tuple[float, float, float, float] | None = None
    scale: float | None = None
    first: int | None = None
    last: int | None = None
    every: int = 1
    limit: int | None = None
    sensor: str | None = None
    colour: bool = False


def read_sequence(source: Path, options: SequenceOptions) -> DepthSequence:
    """Read the depth frames of a folder or a bag; all stay in memory (1.2 MB each at 640×480).

    Raises:
        RealdiffError: nothing found, frames of several sizes, intrinsics missing, a bag that does not hold a
            camera's own depth, or no colour where it is asked for.
    """
    sequence = _read(source, options)
    missing = [number for number in sequence.numbers if number not in sequence.colours] if options.colour else []
    if missing:
        raise RealdiffError(
            "frames have no colour image on the pixels of their depth",
            where=source,
            expected="colour of the same number (folder), or of the same optical frame and size (bag)",
            got=f"none for {len(missing)} of {len(sequence.numbers)} frames, the first is {missing[0]}",
            next_step="record depth aligned to colour, or leave --colour out",
        )
    return sequence


def _read(source: Path, options: SequenceOptions) -> DepthSequence:
    if not source.exists():
        raise RealdiffError("the source does not exist", where=source, next_step="check the path")
    if source.suffix in (".mcap", ".db3") or (source / "metadata.yaml").exists():
        return _read_bag(source, options)
    if is_lasa(source):
        return _read_lasa(source, options)
    return _read_folder(byte_camera_folder(source, options.sensor) or source, options)


def _read_lasa(folder: Path, options: SequenceOptions) -> DepthSequence:
    from realdiff_core.frames import read_depth

    frames = lasa_frames(folder)
    low = options.first if options.first is not None else frames[0].number
    high = options.last if options.last is not None else frames[-1].number
    frames = [frame for frame in frames if low <= frame.number <= high][:: options.every][: options.limit]
    if not frames:
        raise RealdiffError("no depth image lies in the range", where=folder, expected=f"{low} to {high} ms")
    depths = [_metres(read_depth(frame.depth), options.scale) for frame in frames]
    _check_sizes(depths, [frame.depth for frame in frames])
    matrix = np.mean([frame.matrix for frame in frames], axis=0)
    return DepthSequence(
        depths, [frame.number for frame in frames], matrix, options.baseline_m, [frame.pose for frame in frames]
    )


def _read_folder(folder: Path, options: SequenceOptions) -> DepthSequence:
    from realdiff_core.errors import CameraError
    from realdiff_core.frames import (
        Intrinsics,
        find_frames,
        find_intrinsics,
        read_colour,
        read_depth,
        read_intrinsics,
        read_pose,
    )

    files = find_frames(folder, options.depth_glob)
    low = options.first if options.first is not None else min(files.depth)
    high = options.last if options.last is not None else max(files.depth)
    numbers = [n for n in files.depth if low <= n <= high][:: options.every][: options.limit]
    if not numbers:
        raise RealdiffError(
            "no depth image has a number in the range",
            where=folder,
            expected=f"numbers {low} to {high}",
            got=f"{min(files.depth)} to {max(files.depth)}",
        )
    depths = [_metres(read_depth(files.depth[n]), options.scale) for n in numbers]
    _check_sizes(depths, [files.depth[n] for n in numbers])
    if options.focal:
        where, intrinsics = "--fx --fy --cx --cy", Intrinsics(*options.focal)
    else:
        path = options.intrinsics or find_intrinsics(folder, files.depth[numbers[0]])
        if path is None:
            raise CameraError(
                "camera intrinsics are missing",
                where=folder,
                expected="camera_intrinsic.json, K.txt, … beside the images",
                next_step="give them: --intrinsics FILE, or --fx --fy --cx --cy",
            )
        where, intrinsics = str(path), read_intrinsics(path)
    height, width = depths[0].shape
    camera = intrinsics.camera(width, height, "", options.baseline_m, where)
    poses = [read_pose(files.poses[n]) for n in numbers] if all(n in files.poses for n in numbers) else None
    colours = {n: partial(read_colour, files.colour[n]) for n in numbers if options.colour and n in files.colour}
    return DepthSequence(depths, numbers, np.asarray(camera.K, np.float64), options.baseline_m, poses, colours)


def _read_bag(path: Path, options: SequenceOptions) -> DepthSequence:
    from realdiff_core.bag import BagReader
    from realdiff_core.depth import depth_to_metres
    from realdiff_core.episode import decode_image, depth_topics, read_camera, require_depth_topic
    from realdiff_core.provenance import DepthKind

    with BagReader(path) as reader:
        topic = options.topic
        if topic is None:
            found = depth_topics(reader)
            if len(found) != 1:
                raise RealdiffError(
                    "the bag has not exactly one depth topic",
                    where=path,
                    expected="one, or its name",
                    got=", ".join(found) or "none",
                    next_step="name it: --topic NAME",
                )
            topic = found[0]
        encoding = require_depth_topic(reader, topic)
        provenance = reader.provenance()
        kind = provenance.depth.get(topic) if provenance else None
        if kind is not None and kind != DepthKind.SENSOR:
            raise ProvenanceError(
                "pairs are made of what a real camera measured",
                where=f"{path}, topic {topic}",
                expected=DepthKind.SENSOR.value,
                got=kind.value,
                next_step="give a raw bag of the camera",
            )
        camera = read_camera(reader, topic, options.baseline_m)
        depths: list[npt.NDArray[np.float32]] = []
        numbers: list[int] = []
        colour_topic = _colour_topic(reader, topic) if options.colour else None
        colours = _NearestColour(reader, colour_topic)
        number = -1
        for raw in reader.messages([topic, colour_topic] if colour_topic else [topic]):
            if raw.topic == colour_topic:
                colours.see(raw)
                continue
            number += 1
            if number % options.every:
                continue
            if options.limit is not None and len(depths) == options.limit:
                break
            depths.append(depth_to_metres(decode_image(reader, raw)[1], encoding))
            numbers.append(number)
            colours.wait(number, raw.stamp_ns)
    if not depths:
        raise RealdiffError("the depth topic holds no images", where=f"{path}, topic {topic}")
    _check_sizes(depths, [f"{path}, {topic}, image {n}" for n in numbers])
    return DepthSequence(depths, numbers, np.asarray(camera.K, np.float64), options.baseline_m, colours=colours.found())


def _colour_topic(reader: BagReader, topic: str) -> str | None:
    from realdiff_enhancer.bag_streams import colour_topic_for

    first = reader.first(topic)
    if first is None:
        return None
    image = reader.deserialize(first)
    return colour_topic_for(reader, topic, image.header.frame_id, (int(image.height), int(image.width)))


class _NearestColour:
    """Finds for every depth image of a bag the colour image nearest in time, whichever is recorded first."""

    def __init__(self, reader: BagReader, topic: str | None) -> None:
        self._reader = reader
        self._where = f"{reader.path}, topic {topic}"
        self._last: RawMessage | None = None
        self._waiting: list[tuple[int, int]] = []
        self._found: dict[int, Callable[[], npt.NDArray[np.uint8]]] = {}

    def wait(self, number: int, stamp_ns: int) -> None:
        """Notes a depth image."""
        self._waiting.append((number, stamp_ns))

    def see(self, raw: RawMessage) -> None:
        """Gives a colour image to the depth images since the last one that are nearer to it."""
        for number, stamp in self._waiting:
            before = self._last
            nearer = raw if before is None or raw.stamp_ns - stamp <= stamp - before.stamp_ns else before
            self._take(number, nearer)
        self._waiting.clear()
        self._last = raw

    def found(self) -> dict[int, Callable[[], npt.NDArray[np.uint8]]]:
        """What reads the colour, by number of the depth image; empty without colour."""
        if self._last is not None:
            for number, _ in self._waiting:
                self._take(number, self._last)
        return self._found

    def _take(self, number: int, raw: RawMessage) -> None:
        self._found[number] = partial(_rgb, self._reader.deserialize(raw), self._where)


def _rgb(message: Any, where: str) -> npt.NDArray[np.uint8]:
    from realdiff_enhancer.bag_streams import rgb_pixels

    pixels = rgb_pixels(message)
    if pixels is None:
        raise ImageError("this is no colour image", where=where, expected="rgb8, bgr8, …", got=message.encoding)
    return pixels


def _metres(raw: npt.NDArray[np.generic], scale: float | None) -> npt.NDArray[np.float32]:
    from realdiff_core.depth import depth_to_metres

    if raw.dtype == np.uint16:
        raw = np.where(raw == _INVALID_Z16, 0, raw).astype(np.uint16)
        if scale is None:
            return depth_to_metres(raw, "16UC1")
    metres = raw.astype(np.float64) * (1.0 if scale is None else scale)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan).astype(np.float32)


def _check_sizes(depths: Sequence[npt.NDArray[np.float32]], places: Sequence[object]) -> None:
    for depth, place in zip(depths, places, strict=True):
        if depth.shape != depths[0].shape:
            raise ImageError(
                "depth images of one sequence differ in size", where=place, expected=depths[0].shape, got=depth.shape
            )
