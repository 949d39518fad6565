"""Clean/noisy pairs from a depth sequence: windows, camera motion, fusion without the measured frame, gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from realdiff_core.errors import RealdiffError

from realdiff_enhancer.data.fusion import FusionConfig, WindowVolume
from realdiff_enhancer.data.gap_filling import fill_gaps
from realdiff_enhancer.data.pair_quality import GateConfig, PairStatistics, drop_wrong_places, measure
from realdiff_enhancer.data.registration import (
    InverseDepthFrame,
    RegistrationConfig,
    align,
    prepare,
    refine_jointly,
    track,
)
from realdiff_enhancer.defaults import CLEAN_FAR_M, PAIR_WINDOW

FloatArray = npt.NDArray[np.floating]


class PairConfig(BaseModel):
    """How pairs are made of a sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(
        default=PAIR_WINDOW, ge=4, description="frames fused together; long windows drift, short ones leave gaps"
    )
    step: int = Field(default=PAIR_WINDOW // 2, ge=1, description="frames from one window to the next")
    apart_px: float = Field(
        default=8.0, ge=0, description="views whose image moved less than this are left out as well"
    )
    fill_px: int = Field(
        default=48, ge=0, description="longest gap in a row, beside an edge, that the background is continued in"
    )
    clean_far_m: float = Field(default=CLEAN_FAR_M, gt=0, description="clean depth beyond this is unknown")
    refine_iterations: int = Field(
        default=2, ge=0, description="alignments of the measured frame with the fused surface"
    )
    registration: RegistrationConfig = RegistrationConfig()
    fusion: FusionConfig = FusionConfig()
    gate: GateConfig = GateConfig()


@dataclass(frozen=True)
class DepthSequence:
    """Depth frames of one moving camera in a static scene, in the order of recording.

    Attributes:
        depths_m: float32 [H,W] each, m, NaN = hole.
        numbers: the source's frame number of each.
        K: float64 [3,3], px.
        baseline_m: stereo baseline.
        poses: T_world_camera [4,4] of each frame where known, else None: they are estimated.
        colours: by frame number, what reads the colour image on the depth's pixels (uint8 [H,W,3] RGB); empty if not
            asked for.
    """

    depths_m: Sequence[npt.NDArray[np.float32]]
    numbers: Sequence[int]
    K: npt.NDArray[np.float64]
    baseline_m: float
    poses: Sequence[npt.NDArray[np.float64]] | None = None
    colours: Mapping[int, Callable[[], npt.NDArray[np.uint8]]] = field(default_factory=dict)


@dataclass(frozen=True)
class PairCandidate:
    """One measured frame with its clean depth; ``failures`` is empty if the gate let it pass.

    Attributes:
        number: the source's frame number.
        window: frame number of the window's first frame.
        clean_m: float32 [H,W], m, NaN = unknown.
        noisy_m: float32 [H,W], m, NaN = hole.
        statistics: figures of the pair.
        failures: limits of the gate that are exceeded.
    """

    number: int
    window: int
    clean_m: npt.NDArray[np.float32]
    noisy_m: npt.NDArray[np.float32]
    statistics: PairStatistics
    failures: tuple[str, ...]


def window_starts(frames: int, window: int, step: int) -> list[int]:
    """First indices of the windows; the last one ends with the last frame."""
    if frames <= window:
        return [0]
    starts = list(range(0, frames - window + 1, step))
    if starts[-1] != frames - window:
        starts.append(frames - window)
    return starts


def make_pairs(
    sequence: DepthSequence, config: PairConfig, advance: Callable[[int], None] = lambda _: None
) -> Iterator[PairCandidate]:
    """Make a pair of every frame, in the window where the frame is nearest to the middle.

    Args:
        sequence: at least 4 frames.
        config: windows, ranges, gate.
        advance: called with the number of frames finished since the last call.

    Yields:
        One candidate a frame, accepted or not, in order.

    Raises:
        RealdiffError: too few frames, or Open3D is missing.
    """
    count = len(sequence.depths_m)
    if count < 4:
        raise RealdiffError(
            "too few depth frames to fuse",
            expected="at least 4 frames of a moving camera",
            got=count,
            next_step="give a longer sequence",
        )
    starts = window_starts(count, config.window, config.step)
    middle = [start + (min(config.window, count - start) - 1) / 2 for start in starts]
    owner = [int(np.argmin([abs(m - index) for m in middle])) for index in range(count)]
    for number, start in enumerate(starts):
        chosen = range(start, min(start + config.window, count))
        measured = [index for index in chosen if owner[index] == number]
        if not measured:
            continue
        frames = [prepare(sequence.depths_m[i], sequence.K, sequence.baseline_m, config.registration) for i in chosen]
        poses = _window_poses(frames, sequence, chosen, config)
        volume = WindowVolume([sequence.depths_m[i] for i in chosen], sequence.K, poses, config.fusion)
        for index in measured:
            yield _candidate(sequence, frames[index - start], volume, poses, chosen, index, config)
            advance(1)


def _window_poses(
    frames: Sequence[InverseDepthFrame], sequence: DepthSequence, chosen: range, config: PairConfig
) -> list[npt.NDArray[np.float64]]:
    if sequence.poses is not None:
        first = np.linalg.inv(sequence.poses[chosen[0]])
        poses = [first @ sequence.poses[i] for i in chosen]
    else:
        poses = track(frames, config.registration)
    return refine_jointly(frames, poses, config.registration)


def views_to_leave_out(
    frame: InverseDepthFrame, poses: Sequence[FloatArray], measured: int, apart_px: float
) -> list[int]:
    """The measured view, and those so near that they repeat its error instead of averaging it out.

    The error of a stereo camera is a pattern with a correlation length of 10 to 20 px that moves with the camera: a
    view whose image is shifted by much less shares it.

    Args:
        frame: the measured frame.
        poses: T_world_camera of all views.
        measured: index of the measured one.
        apart_px: median shift of its points under which a view is left out.
    """
    points = frame.points(24)
    inverse = np.linalg.inv(poses[measured])
    pixels = points[:, :2] / points[:, 2:]
    left_out = []
    for index, pose in enumerate(poses):
        motion = np.linalg.inv(inverse @ pose)
        moved = points @ motion[:3, :3].T + motion[:3, 3]
        shift = np.linalg.norm(moved[:, :2] / np.maximum(moved[:, 2:], 1e-3) - pixels, axis=1) * frame.K[0, 0]
        if index == measured or (shift.size and float(np.median(shift)) < apart_px):
            left_out.append(index)
    return left_out


def _candidate(
    sequence: DepthSequence,
    frame: InverseDepthFrame,
    volume: WindowVolume,
    poses: Sequence[FloatArray],
    chosen: range,
    index: int,
    config: PairConfig,
) -> PairCandidate:
    noisy, factor = sequence.depths_m[index], frame.factor
    local = index - chosen.start
    range_m = (config.fusion.near_m, config.clean_far_m)
    clean = np.full(noisy.shape, np.nan, np.float32)
    scene = volume.scene_without(views_to_leave_out(frame, poses, local, config.apart_px))
    if scene is not None:
        pose = np.array(poses[local])
        clean = volume.cast(scene, pose)
        for _ in range(config.refine_iterations):
            model = prepare(clean, sequence.K, sequence.baseline_m, config.registration)
            pose = pose @ align(frame, model, np.eye(4), config.registration, levels=[1, 2]).T
            clean = volume.cast(scene, pose)
        clean[clean > config.clean_far_m] = np.nan
        clean = fill_gaps(clean, noisy, factor, max_gap_px=config.fill_px, step_px=config.gate.edge_px)
        clean = drop_wrong_places(clean, noisy, factor, config.gate)
    statistics = measure(clean, noisy, factor, range_m, config.gate)
    return PairCandidate(
        number=sequence.numbers[index],
        window=sequence.numbers[chosen.start],
        clean_m=clean,
        noisy_m=noisy,
        statistics=statistics,
        failures=tuple(statistics.failures(config.gate)),
    )
