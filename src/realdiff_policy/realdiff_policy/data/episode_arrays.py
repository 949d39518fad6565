"""Reads one episode bag into arrays at the policy's rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.episode import decode_image, read_camera
from realdiff_core.errors import BagError
from realdiff_core.messages import to_ns
from realdiff_core.provenance import DepthKind
from realdiff_core.stamps import StampGuard

from realdiff_core import topics
from realdiff_policy.contract import ARM_JOINTS, STATE_SIZE, FloatArray
from realdiff_policy.images import fit_colour, fit_depth

DEPTH_UNIT_M = 0.00025
"""Stored depth is uint16 in quarter millimetres, 0 invalid: 16UC1 is kept exactly, the range is 16 m."""

_MAX_GAP = 1.5
"""Longest distance of two consecutive frames, in periods of the policy's rate."""


@dataclass(frozen=True)
class EpisodeArrays:
    """An episode with F frames.

    Attributes:
        colour: uint8[F, H, W, 3], RGB.
        depth: uint16[F, H, W], in units of DEPTH_UNIT_M, 0 invalid, registered to the colour image.
        state: float64[F, 8]: measured arm joint positions [rad], gripper width [m], at the frame's stamp.
        action: float64[F, 8]: commanded joint positions [rad] and gripper width [m] that are to be reached one period
            after the frame's stamp.
        hand: float64[F, 7]: the pose of fr3_hand_tcp in "base" that belongs to `action`: xyz [m], quaternion xyzw.
        stamps_ns: int64[F].
        camera: The colour camera at the arrays' image size.
        depth_kind: Where the depth comes from.
        task: The task's name; empty where the bag doesn't say.
        success: Whether the episode succeeded; None where the bag doesn't say.
    """

    colour: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    state: FloatArray
    action: FloatArray
    hand: FloatArray
    stamps_ns: NDArray[np.int64]
    camera: CameraModel
    depth_kind: DepthKind
    task: str
    success: bool | None


def read_episode(path: Path, *, width: int, height: int, rate_hz: float) -> EpisodeArrays:
    """Reads an episode bag.

    Args:
        path: The bag.
        width: Width of the arrays' images [px].
        height: Their height [px].
        rate_hz: Frames per second; a bag with a multiple of this rate is thinned out.

    Raises:
        BagError: The bag is damaged, lacks a topic, or its frames don't fit together (names topic and remedy).
        ImageError: An image can't be decoded.
    """
    with BagReader(path) as bag:
        for name in _NEEDED:
            bag.require_topic(name)
        camera, depth_camera = (read_camera(bag, name) for name in (topics.COLOR_IMAGE, topics.ALIGNED_DEPTH_IMAGE))
        if (depth_camera.width, depth_camera.height) != (camera.width, camera.height):
            raise BagError(
                "depth isn't registered to colour",
                where=f"{path}, topic {topics.ALIGNED_DEPTH_IMAGE}",
                expected=f"{camera.width}×{camera.height}",
                got=f"{depth_camera.width}×{depth_camera.height}",
                next_step="record with align_depth.enable:=true",
            )
        provenance = bag.provenance()
        kind = provenance.depth.get(topics.ALIGNED_DEPTH_IMAGE) if provenance else None
        if kind is None:
            raise BagError(
                "the bag doesn't say where its depth comes from",
                where=f"{path}, topic {topics.ALIGNED_DEPTH_IMAGE}",
                expected="a provenance record: clean_sim, enhanced, sensor or stereo_sim",
                got="none",
                next_step="record with this project's recorder, or import real frames with import_frames",
            )
        tracks = _read_tracks(bag)
        stamps = _frame_stamps(tracks.colour, tracks.depth, rate_hz, path)
        colour, depth = _read_images(bag, stamps, width, height)
    period_ns = round(1e9 / rate_hz)
    lead_ns = int(np.median(np.diff(tracks.command_ns))) if len(tracks.command_ns) > 1 else 0
    commanded = _latest(tracks.command_ns, stamps + period_ns - lead_ns)
    return EpisodeArrays(
        colour=colour,
        depth=depth,
        state=np.column_stack(
            [
                tracks.arm[_latest(tracks.arm_ns, stamps)],
                tracks.gripper[_latest(tracks.gripper_ns, stamps)],
            ]
        ),
        action=tracks.command[commanded],
        hand=tracks.hand[commanded],
        stamps_ns=stamps,
        camera=camera.scaled(width, height),
        depth_kind=kind,
        task=(provenance.task if provenance else None) or "",
        success=provenance.success if provenance else None,
    )


_NEEDED = (
    topics.COLOR_IMAGE,
    topics.ALIGNED_DEPTH_IMAGE,
    topics.JOINT_STATES,
    topics.GRIPPER_JOINT_STATES,
    topics.COMMANDED_ACTION,
)


@dataclass(frozen=True)
class _Tracks:
    """Stamps [ns] and values of everything in a bag but pixels."""

    colour: NDArray[np.int64]
    depth: NDArray[np.int64]
    arm_ns: NDArray[np.int64]
    arm: FloatArray
    gripper_ns: NDArray[np.int64]
    gripper: FloatArray
    command_ns: NDArray[np.int64]
    command: FloatArray
    hand: FloatArray


def _read_tracks(bag: BagReader) -> _Tracks:
    guard = StampGuard(bag.path)
    stamps: dict[str, list[int]] = {name: [] for name in _NEEDED}
    values: dict[str, list[list[float]]] = {name: [] for name in _NEEDED}
    hands: list[list[float]] = []
    for raw in bag.messages(_NEEDED):
        message = bag.deserialize(raw)
        stamp = to_ns(message.header.stamp)
        guard.check(raw.topic, stamp)
        if raw.topic == topics.JOINT_STATES:
            row = _joints(message, bag, raw.topic)
        elif raw.topic == topics.GRIPPER_JOINT_STATES:
            row = [float(sum(message.position))]
        elif raw.topic == topics.COMMANDED_ACTION:
            row = [*map(float, message.joint_positions), float(message.gripper_width)]
            pose = message.end_effector_pose
            hands.append([getattr(pose.position, axis) for axis in "xyz"])
            hands[-1] += [getattr(pose.orientation, axis) for axis in "xyzw"]
        else:
            row = []
        if not np.all(np.isfinite(row)):
            raise BagError(
                "a message holds NaN or infinity",
                where=f"{bag.path}, topic {raw.topic}, stamp {stamp} ns",
                expected="finite numbers",
                got=str(row),
                next_step="leave this episode out of the training data",
            )
        stamps[raw.topic].append(stamp)
        values[raw.topic].append(row)

    def times(name: str) -> NDArray[np.int64]:
        return np.asarray(stamps[name], dtype=np.int64)

    def rows(name: str, size: int) -> FloatArray:
        for row in values[name]:
            if len(row) != size:
                raise BagError(
                    "a message has another number of joints",
                    where=f"{bag.path}, topic {name}",
                    expected=size,
                    got=len(row),
                    next_step="this data is from another robot",
                )
        return np.asarray(values[name], dtype=np.float64).reshape(-1, size)

    return _Tracks(
        colour=times(topics.COLOR_IMAGE),
        depth=times(topics.ALIGNED_DEPTH_IMAGE),
        arm_ns=times(topics.JOINT_STATES),
        arm=rows(topics.JOINT_STATES, 7),
        gripper_ns=times(topics.GRIPPER_JOINT_STATES),
        gripper=rows(topics.GRIPPER_JOINT_STATES, 1)[:, 0],
        command_ns=times(topics.COMMANDED_ACTION),
        command=rows(topics.COMMANDED_ACTION, STATE_SIZE),
        hand=np.asarray(hands, dtype=np.float64).reshape(-1, 7),
    )


def _joints(message: Any, bag: BagReader, topic: str) -> list[float]:
    """The arm's joints in order; a message may hold further joints."""
    positions = dict(zip(message.name, message.position, strict=False))
    try:
        return [float(positions[name]) for name in ARM_JOINTS]
    except KeyError as missing:
        raise BagError(
            f"joint {missing} is missing",
            where=f"{bag.path}, topic {topic}",
            expected=", ".join(ARM_JOINTS),
            got=", ".join(message.name),
            next_step="record the joint states of the whole arm",
        ) from None


def _frame_stamps(colour: NDArray[np.int64], depth: NDArray[np.int64], rate_hz: float, path: Path) -> NDArray[np.int64]:
    """The stamps of the frames to use: those of both images, thinned out to the policy's rate."""
    both = np.intersect1d(colour, depth)
    period = 1e9 / rate_hz
    if len(both) < 2:
        raise BagError(
            "colour and aligned depth have no stamps in common",
            where=path,
            expected="pairs of images with equal stamps",
            got=f"{len(colour)} colour and {len(depth)} depth images, {len(both)} pairs",
            next_step="record with enable_sync:=true",
        )
    # Frame k is the one nearest to k periods after the first.
    wanted = both[0] + np.arange(int((both[-1] - both[0]) / period + 1e-6) + 1) * period
    right = np.searchsorted(both, wanted).clip(1, len(both) - 1)
    nearest = np.where(wanted - both[right - 1] < both[right] - wanted, right - 1, right)
    chosen = both[np.unique(nearest)]
    longest = float(np.max(np.diff(chosen))) if len(chosen) > 1 else np.inf
    if longest > _MAX_GAP * period:
        raise BagError(
            "frames are missing",
            where=path,
            expected=f"a frame every {period * 1e-6:.0f} ms",
            got=f"{longest * 1e-6:.0f} ms without one",
            next_step=f"record at {rate_hz:g} Hz or more, or train with a lower rate",
        )
    return chosen.astype(np.int64)


def _read_images(
    bag: BagReader, stamps: NDArray[np.int64], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    index = {int(stamp): number for number, stamp in enumerate(stamps)}
    colour = np.zeros((len(stamps), height, width, 3), np.uint8)
    depth = np.zeros((len(stamps), height, width), np.uint16)
    for raw in bag.messages((topics.COLOR_IMAGE, topics.ALIGNED_DEPTH_IMAGE)):
        message, pixels = decode_image(bag, raw)
        number = index.get(to_ns(message.header.stamp))
        if number is None:
            continue
        if raw.topic == topics.ALIGNED_DEPTH_IMAGE:
            metres = depth_to_metres(fit_depth(pixels, width, height), message.encoding)
            units = np.rint(np.nan_to_num(metres, nan=0.0) / DEPTH_UNIT_M)
            depth[number] = np.where(units <= np.iinfo(np.uint16).max, units, 0).astype(np.uint16)
        elif message.encoding in ("rgb8", "bgr8"):
            rgb = pixels if message.encoding == "rgb8" else np.ascontiguousarray(pixels[..., ::-1])
            colour[number] = fit_colour(rgb, width, height)
        else:
            raise BagError(
                "colour images have an encoding that policies don't take",
                where=f"{bag.path}, topic {raw.topic}",
                expected="rgb8 or bgr8",
                got=message.encoding,
                next_step="record the camera's colour stream as rgb8",
            )
    return colour, depth


def _latest(stamps: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the newest sample that isn't later than each moment; the first one before the first sample."""
    index: NDArray[np.int64] = np.searchsorted(stamps, at, side="right").astype(np.int64) - 1
    return index.clip(0)
