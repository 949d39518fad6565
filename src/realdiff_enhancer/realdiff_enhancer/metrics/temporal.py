"""How noise persists from frame to frame, from clips of a camera at rest; no clean depth is needed.

What a camera at rest measures is the scene, plus an error that never changes (it sticks to the surfaces), plus jitter.
The difference of two frames k apart holds only what changed, so its variance D(k), the structure function, is known
without clean depth. With the variance σ² of the whole error (from pairs, :mod:`~realdiff_enhancer.metrics.residual`)
the frame-to-frame correlation of the error is ρ(k) = 1 − D(k) / (2σ²). An AR(1) process has ρ(k) = aᵏ: ``ar1`` is the
coefficient with the least squared error over the lags. A fixed part beside it, of share s of the variance, gives
ρ(k) = s + (1 − s)·aᵏ: :func:`fit_fixed_and_ar1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import DepthError

#: Distances in time, frames.
TEMPORAL_LAGS = (1, 2, 4, 8, 16)
_LARGEST_STEP_PX = 1.0
_MIN_PIXELS = 1000
#: A correlation may come out this far below 0 by chance and rounding.
_CHANCE = 0.2
_LARGEST_AR1 = 0.95


@dataclass(frozen=True)
class TemporalStatistics:
    """What a clip says about the noise's behaviour in time.

    Attributes:
        lags: int [L], frames.
        difference_px: float64 [L], standard deviation of the change of disparity over each lag, pixels: √D(k). Changes
            over 1 px (things that move, flickering edges) are left out; a robust σ would stick to the steps of whole
            mm.
        jitter_px: σ of the part that changes at all: √(D of the longest lag / 2), pixels.
        hole_persistence: P(hole in the next frame | hole now).
        hole_appearance: P(hole in the next frame | valid now).
        frames: number of frames.
    """

    lags: NDArray[np.int64]
    difference_px: NDArray[np.float64]
    jitter_px: float
    hole_persistence: float
    hole_appearance: float
    frames: int

    def correlation(self, sigma_px: float) -> NDArray[np.float64]:
        """Correlation of the error over each lag, float64 [L], given the σ of the whole error, pixels of disparity."""
        return np.asarray(1.0 - self.difference_px**2 / (2.0 * sigma_px**2))

    def ar1(self, sigma_px: float) -> float:
        """AR(1) coefficient that fits the correlations best, in [0, 1).

        Raises:
            DepthError: the jitter alone is larger than σ: they don't belong to the same camera and depth.
        """
        from scipy.optimize import minimize_scalar

        measured = self.correlation(sigma_px)
        if measured[0] < -_CHANCE:
            raise DepthError(
                "the clip's frames differ by more than the whole error",
                expected=f"a change of less than {np.sqrt(2) * sigma_px:.3f} px from frame to frame",
                got=f"{self.difference_px[0]:.3f} px",
                next_step="give the σ of the same camera at the same distance: --sigma-px",
            )
        fit = minimize_scalar(
            lambda a: float(((a**self.lags - measured) ** 2).sum()), bounds=(0.0, 1.0 - 1e-6), method="bounded"
        )
        return float(fit.x)


@dataclass(frozen=True)
class FixedAndAr1:
    """Noise of which a share never changes: ρ(k) = s + (1 − s)·aᵏ.

    Attributes:
        static_share: s, in [0, 1].
        correlation: a, of the rest between consecutive frames, in [0, 0.95].
    """

    static_share: float
    correlation: float

    def at(self, lags: NDArray[np.int64]) -> NDArray[np.float64]:
        """Correlation over each lag, float64 [L]."""
        return np.asarray(self.static_share + (1.0 - self.static_share) * self.correlation**lags)


def fit_fixed_and_ar1(lags: NDArray[np.int64], correlation: NDArray[np.floating]) -> FixedAndAr1:
    """The share and the coefficient with the least squared error over the lags.

    For every a of a grid the best s is that of a linear regression; of equals the smallest a is taken. What decays
    slower than the grid's largest a can't be told from a fixed part in a clip of seconds.

    Args:
        lags: int [L], frames.
        correlation: [L], over these lags.
    """
    grid = np.arange(0.0, _LARGEST_AR1 + 1e-9, 0.01)
    decay = grid[:, None] ** lags
    share = ((correlation - decay) * (1 - decay)).sum(1) / ((1 - decay) ** 2).sum(1)
    share = np.clip(share, 0.0, 1.0)
    misfit = np.square(share[:, None] + (1 - share[:, None]) * decay - correlation).sum(1)
    best = int(misfit.argmin())
    return FixedAndAr1(float(share[best]), float(grid[best]))


def error_correlation(error_px: NDArray[np.floating], lags: Sequence[int]) -> NDArray[np.float64]:
    """Correlation of a clip's error over each lag, from the pixels that are valid in both frames.

    Args:
        error_px: [N, ...], pixels of disparity, NaN = unknown. Errors over 1 px (flickering edges) are left out.
        lags: distances in frames, each below N.

    Returns:
        float64 [L]: Σ e(t)·e(t+k) / ½Σ (e(t)² + e(t+k)²), over all t and pixels.

    Raises:
        DepthError: too few pixels are known.
    """
    error = np.where(np.abs(error_px) < _LARGEST_STEP_PX, error_px, np.nan).astype(np.float64)
    result = []
    for lag in lags:
        earlier, later = error[:-lag], error[lag:]
        both = np.isfinite(earlier) & np.isfinite(later)
        if both.sum() < _MIN_PIXELS:
            raise DepthError(
                "the clip has too few pixels to compare over time", expected=f"≥ {_MIN_PIXELS}", got=int(both.sum())
            )
        a, b = earlier[both], later[both]
        power = 0.5 * float((a * a + b * b).sum())
        result.append(float((a * b).sum()) / power if power > 0 else float("nan"))
    return np.array(result)


def temporal_statistics_of_clip(
    disparity_px: Sequence[NDArray[np.floating]],
    usable: NDArray[np.bool_] | None = None,
    still: NDArray[np.bool_] | None = None,
    lags: Sequence[int] = TEMPORAL_LAGS,
) -> TemporalStatistics:
    """Measure a clip of a camera at rest.

    Args:
        disparity_px: N images, float [H, W], pixels, NaN = hole; evenly spaced in time.
        usable: bool [H, W], pixels whose changes count (away from edges, nothing moving); all by default.
        still: bool [H, W], pixels whose holes count (nothing moving); all by default.
        lags: distances in time; those the clip is too short for are left out.

    Raises:
        DepthError: fewer than 3 frames, or too few pixels that are valid in several frames.
    """
    if len(disparity_px) < 3:
        raise DepthError("a clip needs more frames to say something about time", expected="≥ 3", got=len(disparity_px))
    images = np.stack([np.asarray(image, np.float32) for image in disparity_px])
    everywhere = np.ones(images.shape[1:], bool)
    mask = everywhere if usable is None else usable
    still = everywhere if still is None else still
    kept = [lag for lag in lags if lag < len(images)]
    differences = []
    for lag in kept:
        change = (images[lag:] - images[:-lag])[:, mask]
        change = change[np.isfinite(change) & (np.abs(change) < _LARGEST_STEP_PX)]
        if change.size < _MIN_PIXELS:
            raise DepthError(
                "the clip has too few pixels to compare over time", expected=f"≥ {_MIN_PIXELS}", got=change.size
            )
        differences.append(float(np.sqrt(np.mean(np.square(change, dtype=np.float64)))))
    hole = ~np.isfinite(images[:, still])
    now, later = hole[:-1], hole[1:]
    return TemporalStatistics(
        lags=np.array(kept, np.int64),
        difference_px=np.array(differences),
        jitter_px=float(differences[-1] / np.sqrt(2)),
        hole_persistence=float(later[now].mean()) if now.any() else float("nan"),
        hole_appearance=float(later[~now].mean()) if (~now).any() else float("nan"),
        frames=len(images),
    )
