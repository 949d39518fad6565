"""Clean depth from a camera at rest: robust fusion over time, moving things taken out, planes evened.

Time averages the jitter away, but not the part of the error that never changes. On surfaces that are locally flat that
part is taken off too: a plane is affine in disparity, so an affine fit over a window wider than the error's correlation
length (10 to 20 px) evens it. On curved surfaces the clean depth is unknown. Near edges the median over time stays,
with its fixed error: holes there are right, residuals too small. A recording of a moving camera (`make_pairs` without
``--static``) doesn't have these limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from realdiff_core.errors import DepthError

from realdiff_enhancer.data.gap_filling import fill_gaps
from realdiff_enhancer.data.pair_maker import DepthSequence, PairCandidate
from realdiff_enhancer.data.pair_quality import GateConfig, drop_wrong_places, edges, measure
from realdiff_enhancer.defaults import CLEAN_FAR_M

#: Consecutive frames that are kept apart from the others together (for validation): the scene is the same in all.
_BLOCK = 10

FloatArray = npt.NDArray[np.floating]


class StaticConfig(BaseModel):
    """How a camera at rest is fused; lengths in px, steps in px of disparity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_frames: int = Field(default=10, ge=3, description="fewest frames")
    min_valid: float = Field(default=0.2, gt=0, le=1, description="share of frames in which a pixel must be measured")
    moving_px: float = Field(default=0.4, gt=0, description="mean change over a place that no noise explains")
    moving_size_px: int = Field(default=15, ge=3, description="size of such a place")
    moving_share: float = Field(
        default=0.25, gt=0, le=1, description="changed share of a frame that is a moving camera"
    )
    plane_windows_px: tuple[int, ...] = Field(default=(49, 25), description="windows of the affine fit, widest first")
    edge_px: int = Field(default=12, ge=0, description="so near to an edge, clean depth is kept though it isn't flat")
    plane_rms_px: float = Field(default=0.25, gt=0, description="largest misfit of what counts as flat")
    fill_px: int = Field(default=48, ge=0, description="longest gap beside an edge that the background is continued in")
    clean_far_m: float = Field(default=CLEAN_FAR_M, gt=0, description="clean depth beyond this is unknown")
    near_m: float = Field(default=0.15, gt=0, description="depth under which nothing is expected")
    gate: GateConfig = GateConfig(sigma_px=0.5, bias_px=0.15, low_frequency_px=0.3, coverage=0.25)


@dataclass(frozen=True)
class StaticScene:
    """What a camera at rest looked at.

    Attributes:
        clean_m: float32 [H, W], m, NaN = unknown.
        flat: bool [H, W], where the fixed error has been evened.
        moving: bool [N, H, W], where something moved through a frame.
    """

    clean_m: npt.NDArray[np.float32]
    flat: npt.NDArray[np.bool_]
    moving: npt.NDArray[np.bool_]


def fuse_static(sequence: DepthSequence, config: StaticConfig | None = None) -> StaticScene:
    """Fuse the frames of a camera at rest.

    Args:
        sequence: frames in temporal order.
        config: limits.

    Raises:
        DepthError: too few frames, or the camera moved.
    """
    config = config or StaticConfig()
    count = len(sequence.depths_m)
    if count < config.min_frames:
        raise DepthError(
            "too few depth frames to fuse over time",
            expected=f"at least {config.min_frames} frames of a camera at rest",
            got=count,
            next_step="record some seconds",
        )
    factor = float(sequence.K[0, 0]) * sequence.baseline_m
    depth = np.stack(sequence.depths_m)
    disparity = np.where(np.isfinite(depth), factor / np.where(np.isfinite(depth), depth, 1.0), np.nan)
    disparity = disparity.astype(np.float32)
    moving = _moving(disparity, _median(disparity), config)
    share = moving.mean(axis=(1, 2))
    if float(np.median(share)) > config.moving_share or share[-1] + share[0] > 2 * config.moving_share:
        raise DepthError(
            "the camera moves, or most of what it sees does",
            expected=f"a change in less than {config.moving_share:.0%} of the image",
            got=f"{float(np.median(share)):.0%} of the image in half of the frames",
            next_step="leave out --static: pairs of a moving camera are fused with its motion",
        )
    still = np.where(moving, np.nan, disparity)
    median = _median(still)
    measured = np.isfinite(still).sum(axis=0)
    median[measured < max(config.min_frames // 2, config.min_valid * count)] = np.nan
    level, flat = even_planes(median, config)
    level[~flat & ~_near_edge(median, config.edge_px)] = np.nan
    clean = np.where(np.isfinite(level), factor / np.where(np.isfinite(level), level, 1.0), np.nan)
    clean[clean > config.clean_far_m] = np.nan
    return StaticScene(clean.astype(np.float32), flat & np.isfinite(clean), moving)


def make_static_pairs(
    sequence: DepthSequence, config: StaticConfig | None = None, advance: Callable[[int], None] = lambda _: None
) -> Iterator[PairCandidate]:
    """Make a pair of every frame of a camera at rest.

    Args:
        sequence: frames in temporal order.
        config: limits.
        advance: called with the number of frames finished since the last call.

    Yields:
        One candidate a frame, accepted or not, in order. Where something moved, the clean depth is unknown.

    Raises:
        DepthError: see :func:`fuse_static`.
    """
    config = config or StaticConfig()
    scene = fuse_static(sequence, config)
    factor = float(sequence.K[0, 0]) * sequence.baseline_m
    for index, (number, noisy, moving) in enumerate(
        zip(sequence.numbers, sequence.depths_m, scene.moving, strict=True)
    ):
        clean = np.where(moving, np.float32(np.nan), scene.clean_m)
        clean = fill_gaps(clean, noisy, factor, max_gap_px=config.fill_px, step_px=config.gate.edge_px)
        clean = drop_wrong_places(clean, noisy, factor, config.gate)
        clean[moving] = np.nan
        statistics = measure(clean, noisy, factor, (config.near_m, config.clean_far_m), config.gate)
        failures = tuple(statistics.failures(config.gate))
        window = sequence.numbers[index // _BLOCK * _BLOCK]
        yield PairCandidate(number, window, clean, noisy, statistics, failures)
        advance(1)


def evened_error(disparity_px: npt.NDArray[np.float32], config: StaticConfig | None = None) -> npt.NDArray[np.float32]:
    """Error of every frame on locally flat surfaces: what is measured minus the local plane through the time's median.

    No clean depth is needed, so a camera and a model can be measured alike. Error smoother than the window of the fit
    counts as surface.

    Args:
        disparity_px: float32 [N, H, W], pixels of disparity, NaN = hole; from a camera at rest.
        config: windows and limits of the fit.

    Returns:
        float32 [N, H, W], pixels, NaN in holes and where no surface is flat.
    """
    level, flat = even_planes(_median(disparity_px), config or StaticConfig())
    return np.where(flat, disparity_px - level, np.float32(np.nan)).astype(np.float32)


def _median(disparity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median over time of what is measured, NaN where nothing ever is; row by row to bound the memory."""
    count = np.isfinite(disparity).sum(axis=0)
    ordered = np.sort(disparity, axis=0)  # NaN goes last
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count // 2, 0)
    high = np.minimum(high, np.maximum(count - 1, 0))
    picked = [np.take_along_axis(ordered, index[None], axis=0)[0] for index in (low, high)]
    return np.where(count > 0, 0.5 * (picked[0] + picked[1]), np.nan).astype(np.float32)


def _moving(
    disparity: npt.NDArray[np.float32], median: npt.NDArray[np.float32], config: StaticConfig
) -> npt.NDArray[np.bool_]:
    """Where a frame differs from the median by more than noise: bool [N, H, W].

    Jitter changes sign from place to place and from frame to frame; a thing that moves does not.
    """
    import cv2

    size = config.moving_size_px
    jitter = 1.4826 * _median(np.abs(disparity - median))
    jitter = cv2.blur(np.nan_to_num(jitter), (size, size))
    # Far surfaces flicker more; but a moving camera must not pass as flicker.
    limit = np.clip(3.0 * jitter, config.moving_px, 2.0 * config.moving_px)
    moving = np.zeros(disparity.shape, bool)
    for index, image in enumerate(disparity):
        change = image - median
        both = np.isfinite(change)
        box = (size, size)
        share = cv2.boxFilter(both.astype(np.float32), -1, box, borderType=cv2.BORDER_CONSTANT)
        total = cv2.boxFilter(
            np.where(both, np.clip(change, -2, 2), 0).astype(np.float32), -1, box, borderType=cv2.BORDER_CONSTANT
        )
        mean = total / np.maximum(share, 1e-6)
        changed = (np.abs(mean) > limit) & (share > 0.3)
        # A single place is an edge that flickers; a hand is larger than the box.
        changed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((size // 2, size // 2), np.uint8))
        moving[index] = cv2.dilate(changed, np.ones((2 * size + 1, 2 * size + 1), np.uint8)) > 0
    return moving


def even_planes(
    disparity: npt.NDArray[np.float32], config: StaticConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Replace the disparity by its local affine fit where that fits: in a wide window, else in a narrow one.

    Returns:
        Disparity float32 [H, W], NaN where unknown, and where a fit was taken.
    """
    level, flat = disparity, np.zeros(disparity.shape, bool)
    for window in config.plane_windows_px:
        fit, fits = _affine_fit(disparity, window, config.plane_rms_px)
        level = np.where(fits & ~flat, fit, level)
        flat = flat | fits
    return level.astype(np.float32), flat


def _near_edge(disparity: npt.NDArray[np.float32], distance_px: int) -> npt.NDArray[np.bool_]:
    """Pixels within a distance of a step between known disparities."""
    import cv2

    known = np.isfinite(disparity)
    inverse = np.where(known, 1.0 / np.maximum(np.where(known, disparity, 1.0), 1e-6), np.nan)
    steps = edges(inverse, 1.0, 0.5)  # 1.0: what is given is disparity already
    side = 2 * distance_px + 1
    return np.asarray(cv2.dilate(steps.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def _affine_fit(
    disparity: npt.NDArray[np.float32], window: int, largest_rms_px: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Fit a plane to the window around every pixel, by box means of the moments; and where it fits."""
    import cv2

    known = np.isfinite(disparity)
    height, width = disparity.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    box = (window, window)
    value = np.where(known, disparity, 0.0).astype(np.float64)
    weight = known.astype(np.float64)

    def mean(image: FloatArray) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.boxFilter(image, cv2.CV_64F, box, borderType=cv2.BORDER_CONSTANT))

    share = np.maximum(mean(weight), 1e-9)
    mx, my, md = (mean(weight * image) / share for image in (x, y, value))
    xx = mean(weight * x * x) / share - mx * mx
    yy = mean(weight * y * y) / share - my * my
    xy = mean(weight * x * y) / share - mx * my
    xd = mean(weight * x * value) / share - mx * md
    yd = mean(weight * y * value) / share - my * md
    dd = mean(weight * value * value) / share - md * md
    determinant = np.maximum(xx * yy - xy * xy, 1e-9)
    a, b = (xd * yy - yd * xy) / determinant, (yd * xx - xd * xy) / determinant
    fit = md + a * (x - mx) + b * (y - my)
    misfit = np.sqrt(np.maximum(dd - a * xd - b * yd, 0.0))
    fits = known & (misfit < largest_rms_px) & (share > 0.5) & ~_near_edge(disparity, window // 4)
    return fit, fits & (np.abs(fit - value) < 4 * largest_rms_px)
