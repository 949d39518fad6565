"""What the two-sample classifiers are shown: channels, crop positions and the split of the frames.

The input band decides what such a test can find. Depth itself would show the scene, so only the residual is given, in
disparity pixels (in which stereo noise is nearly stationary) and through asinh, which keeps 0.05 px visible beside a
flying pixel of 20 px. Holes are a channel of their own. The clean depth of the same crop is context: with it the
classifier may ask "is this error plausible *here*?". Real and generated crops are taken at the same places, so the
context alone tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import DepthError

from realdiff_enhancer.metrics.frames import CleanContext, Measurement

#: Side of a crop, pixels: several correlation lengths of the residual, small against the image.
CROP = 64
#: A crop takes part where at least this share of its clean depth is known.
MIN_KNOWN = 0.6
#: The residual enters as asinh(residual / this): linear below, logarithmic above. Disparity pixels.
RESIDUAL_SCALE_PX = 0.1
#: The clean disparity enters relative to the crop's mean, divided by this, clipped to ±1. Disparity pixels.
CONTEXT_SCALE_PX = 8.0
#: Decay of the edge-proximity channel, pixels.
EDGE_DECAY_PX = 4.0


@dataclass(frozen=True)
class Fold:
    """One split of the frames of a scene.

    Attributes:
        train: indices of the frames the classifier learns from.
        test: indices of the frames it is asked about.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def temporal_folds(frames: int, groups: Sequence[object] | None = None, gap_share: float = 0.05) -> tuple[Fold, Fold]:
    """Split the frames into an earlier and a later part and use each once for testing.

    A moving camera shows other surfaces later, so a cut in time keeps the same scene region out of both parts as far
    as the sequence allows (what stays in view throughout is in both). Where frames come in groups (windows that were
    fused together and share registration errors), the cut is put at the group border nearest to the middle; otherwise
    a few frames on both sides of the middle are left out.

    Args:
        frames: number of frames in temporal order, at least 4.
        groups: a label per frame.
        gap_share: share of the frames left out at the cut when there is no group border in the middle half.

    Returns:
        Two folds that swap training and test part.

    Raises:
        DepthError: fewer than 4 frames.
    """
    if frames < 4:
        raise DepthError("a two-sample test needs more frames", expected="≥ 4", got=str(frames))
    borders = [] if groups is None else [i for i in range(1, frames) if groups[i] != groups[i - 1]]
    borders = [border for border in borders if frames / 4 <= border <= 3 * frames / 4]
    if borders:
        low = high = min(borders, key=lambda border: abs(border - frames / 2))
    else:
        gap = int(gap_share * frames)
        low, high = frames // 2 - gap // 2, frames // 2 + (gap + 1) // 2
    early, late = tuple(range(low)), tuple(range(high, frames))
    return Fold(early, late), Fold(late, early)


def signal_channels(measurement: Measurement) -> NDArray[np.float16]:
    """Return the two channels that differ between real and generated.

    Returns:
        float16 [2, H, W]: compressed residual (0 in holes and where the clean depth is unknown) and hole mask.
    """
    residual = np.arcsinh(measurement.residual_px / RESIDUAL_SCALE_PX)
    return np.stack([residual, measurement.hole]).astype(np.float16)


def context_channels(context: CleanContext) -> NDArray[np.float16]:
    """Return the channels that real and generated share.

    Returns:
        float16 [3, H, W]: clean disparity divided by :data:`CONTEXT_SCALE_PX` (0 where unknown; the crop's mean is
        taken off later), known mask, edge proximity exp(-distance / :data:`EDGE_DECAY_PX`).
    """
    proximity = np.exp(-context.edge_distance / EDGE_DECAY_PX)
    return np.stack([context.disparity / CONTEXT_SCALE_PX, context.known, proximity]).astype(np.float16)


def grid_corners(known: NDArray[np.bool_], crop: int = CROP) -> NDArray[np.int64]:
    """Return the corners of the crops of a centred grid without overlap that show enough known depth.

    Args:
        known: [H, W].
        crop: side, pixels.

    Returns:
        int64 [N, 2], (top, left).
    """
    height, width = known.shape
    tops = np.arange(height // crop) * crop + (height % crop) // 2
    lefts = np.arange(width // crop) * crop + (width % crop) // 2
    corners = [(t, left) for t in tops for left in lefts if known[t : t + crop, left : left + crop].mean() >= MIN_KNOWN]
    return np.array(corners, dtype=np.int64).reshape(-1, 2)
