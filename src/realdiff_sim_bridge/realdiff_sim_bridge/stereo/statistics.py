"""Statistics of depth cameras, the same for simulated and for real frames: curves with intervals over frames.

Every curve is a ratio of sums per bin (or its root), so that frames can be added, and drawn again for intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

Float = NDArray[np.float32]
Sums = dict[str, NDArray[np.float64]]
"""Name of a curve → float64 [bins,2]: numerator and denominator."""

EDGE_BINS = ((0.0, 1.0), (1.0, 2.0), (3.0, 5.0), (8.0, 12.0), (20.0, 40.0), (40.0, 1e9))
COSINE_BINS = ((0.0, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 0.65), (0.65, 0.8), (0.8, 0.97), (0.97, 1.01))
DEPTH_BINS = (
    (0.3, 0.4),
    (0.4, 0.6),
    (0.6, 0.8),
    (0.8, 1.0),
    (1.0, 1.25),
    (1.25, 1.5),
    (1.5, 2.0),
    (2.0, 3.0),
)
LAGS = (1, 4, 8, 16, 32)

_CALM_PX = 8  # farther from every depth edge: beyond the matching window
_OUTLIER_PX = 1.5  # residuals above are wrong matches, not noise
_MOVED = 0.05  # relative change between two frames of a static camera above which something moved


@dataclass(frozen=True)
class Curve:
    """What a curve shows.

    Attributes:
        title: for people.
        labels: one per bin.
        unit: of the values.
        root: the value is the root of the ratio.
        percent: the value is shown in per cent.
    """

    title: str
    labels: tuple[str, ...]
    unit: str
    root: bool = False
    percent: bool = False


def _labels(bins: tuple[tuple[float, float], ...]) -> tuple[str, ...]:
    return tuple(f"{low:g}-{high:g}" if high < 1e8 else f">{low:g}" for low, high in bins)


CURVES: dict[str, Curve] = {
    "holes": Curve("Holes by distance to a depth edge", _labels(EDGE_BINS), "px", percent=True),
    "incidence": Curve("Holes by cosine of incidence, away from edges", _labels(COSINE_BINS), "cos", percent=True),
    "sigma_mm": Curve("Spatial error σ(z), away from edges [mm]", _labels(DEPTH_BINS), "m", root=True),
    "sigma_px": Curve("The same in disparity [px]", _labels(DEPTH_BINS), "m", root=True),
    "correlation_x": Curve("Correlation of the error along rows", tuple(map(str, LAGS)), "px"),
    "correlation_y": Curve("Correlation of the error along columns", tuple(map(str, LAGS)), "px"),
    "temporal_mm": Curve("Temporal σ per pixel, static scene [mm]", _labels(DEPTH_BINS), "m", root=True),
    "persistence": Curve(
        "Holes from frame to frame, static scene", ("a hole stays a hole", "a measured pixel becomes a hole"), ""
    ),
}


def edge_distance(clean: Float) -> Float:
    """Distance in pixels to the next depth edge (a jump of > 4 % + 15 mm between neighbours), float32 [H,W]."""
    filled = np.where(np.isfinite(clean), clean, 0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(filled, kernel) - cv2.erode(np.where(filled > 0, filled, 1e3).astype(np.float32), kernel)
    edge = (jump > 0.015 + 0.04 * filled) & (filled > 0)
    return np.asarray(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)


def incidence_cosine(clean: Float, camera: CameraModel) -> Float:
    """Cosine between surface normal and line of sight, float32 [H,W], NaN where unknown.

    Inverse depth w is linear in the pixel on a plane: the normal is (fx ∂w/∂u, fy ∂w/∂v, w − (u − cx) ∂w/∂u − …), and
    its product with the ray is w.
    """
    known = np.isfinite(clean) & (clean > 0)
    w = np.where(known, 1 / np.where(known, clean, 1), 0).astype(np.float32)
    across, down = cv2.Sobel(w, cv2.CV_32F, 1, 0, ksize=5) / 128, cv2.Sobel(w, cv2.CV_32F, 0, 1, ksize=5) / 128
    u = np.arange(clean.shape[1], dtype=np.float32)[None, :] - np.float32(camera.cx)
    v = np.arange(clean.shape[0], dtype=np.float32)[:, None] - np.float32(camera.cy)
    normal = np.sqrt((camera.fx * across) ** 2 + (camera.fy * down) ** 2 + (w - u * across - v * down) ** 2)
    ray = np.sqrt((u / camera.fx) ** 2 + (v / camera.fy) ** 2 + 1)
    whole = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return np.where(whole, w / (normal * ray + 1e-12), np.nan).astype(np.float32)


def pair_sums(clean: Float, noisy: Float, camera: CameraModel) -> Sums:
    """Sums of one clean/noisy pair.

    Args:
        clean: float32 [H,W] metres, NaN unknown; outside 0.3-3 m is left out.
        noisy: float32 [H,W] metres, NaN = hole.
        camera: its intrinsics and baseline.
    """
    factor = camera.disparity_factor
    known = np.isfinite(clean) & (clean > DEPTH_BINS[0][0]) & (clean < DEPTH_BINS[-1][1])
    # The band on the left that the right imager can't see isn't a property of surfaces.
    columns = np.arange(clean.shape[1])[None, :]
    known &= columns >= np.nan_to_num(factor / np.where(known, clean, np.nan), nan=1e9) + 8
    distance = edge_distance(clean)
    hole = ~np.isfinite(noisy)
    residual = (factor / noisy - factor / clean).astype(np.float32)
    calm = known & ~hole & (distance > _CALM_PX) & (np.abs(residual) < _OUTLIER_PX)
    cosine = np.where(known & (distance > _CALM_PX), incidence_cosine(clean, camera), np.nan)
    sums = {
        "holes": _shares(hole, np.where(known, distance, np.nan), EDGE_BINS),
        "incidence": _shares(hole, cosine, COSINE_BINS),
        "sigma_px": _variances(residual[calm], clean[calm], 1.0),
        "sigma_mm": _variances((noisy - clean)[calm] * 1000, clean[calm], 1.0),
    }
    centred = np.zeros_like(residual)
    if calm.any():
        centred[calm] = residual[calm] - np.median(residual[calm])
    inside = calm & (np.abs(centred) <= 0.6)
    sums["correlation_x"] = _correlation(centred, inside)
    sums["correlation_y"] = _correlation(centred.T, inside.T)
    return sums


def _shares(
    event: NDArray[np.bool_], by: NDArray[np.floating], bins: tuple[tuple[float, float], ...]
) -> NDArray[np.float64]:
    out = np.zeros((len(bins), 2))
    for index, (low, high) in enumerate(bins):
        inside = (by >= low) & (by < high)
        out[index] = np.count_nonzero(event & inside), np.count_nonzero(inside)
    return out


def _variances(values: Float, depth: Float, scale: float) -> NDArray[np.float64]:
    """Robust variance (median absolute deviation) by depth, weighted by the number of pixels."""
    out = np.zeros((len(DEPTH_BINS), 2))
    for index, (low, high) in enumerate(DEPTH_BINS):
        inside = values[(depth >= low) & (depth < high)]
        if len(inside) >= 500:
            sigma = scale * 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
            out[index] = len(inside) * sigma * sigma, len(inside)
    return out


def _correlation(values: Float, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    out = np.zeros((len(LAGS), 2))
    for index, lag in enumerate(LAGS):
        both = inside[:, lag:] & inside[:, :-lag]
        a, b = values[:, lag:][both].astype(np.float64), values[:, :-lag][both].astype(np.float64)
        out[index] = (a * b).sum(), (a * a + b * b).sum() / 2
    return out


def transition_sums(before: Float, after: Float) -> Sums:
    """Sums of two frames of a static camera, float32 [H,W] metres, NaN = hole.

    Changes of more than 5 % are things that moved. The variance is that of the difference divided by two.
    """
    hole, hole_after = ~np.isfinite(before), ~np.isfinite(after)
    change = after - before
    still = ~hole & ~hole_after & (np.abs(change) < _MOVED * before)
    temporal = np.zeros((len(DEPTH_BINS), 2))
    for index, (low, high) in enumerate(DEPTH_BINS):
        values = change[still & (before >= low) & (before < high)].astype(np.float64) * 1000
        temporal[index] = np.square(values).sum() / 2, len(values)
    stays = np.array(
        [
            [np.count_nonzero(hole & hole_after), np.count_nonzero(hole)],
            [np.count_nonzero(~hole & hole_after), np.count_nonzero(~hole)],
        ],
        np.float64,
    )
    return {"temporal_mm": temporal, "persistence": stays}


@dataclass(frozen=True)
class Estimate:
    """A curve with its interval: float64 [bins] each, NaN where there are no data."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def estimate(frames: list[Sums], name: str, *, draws: int = 400, seed: int = 0) -> Estimate:
    """Combine frames (or scenes) and give the 95 % interval of the bootstrap over them.

    Args:
        frames: sums of each frame, or of each scene if its frames are alike.
        name: key of `CURVES`.
        draws: bootstrap draws.
        seed: of the draws.
    """
    stack = np.stack([sums[name] for sums in frames])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(stack), np.full(len(stack), 1 / len(stack)), size=draws)
    drawn = _ratio(np.einsum("dn,nbk->dbk", weights, stack), CURVES[name].root)
    value = _ratio(stack.sum(axis=0), CURVES[name].root)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    for index in range(len(value)):
        column = drawn[:, index][np.isfinite(drawn[:, index])]
        if len(column) and len(stack) > 1:
            low[index], high[index] = np.percentile(column, (2.5, 97.5))
    return Estimate(value, low, high)


def _ratio(sums: NDArray[np.float64], root: bool) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
    return np.sqrt(ratio) if root else np.asarray(ratio)


def add_sums(parts: Iterable[Sums]) -> Sums:
    """Add the sums of several frames, for example of one scene."""
    total: Sums = {}
    for sums in parts:
        for name, values in sums.items():
            total[name] = total[name] + values if name in total else values
    return total


def statistics_of(pairs: Iterable[tuple[Float, Float]], camera: CameraModel) -> dict[str, dict[str, float]]:
    """Curves of (clean, noisy) frames by name and bin, without intervals."""
    total = add_sums(pair_sums(clean, noisy, camera) for clean, noisy in pairs)
    return {
        name: dict(zip(CURVES[name].labels, _ratio(sums, CURVES[name].root).tolist(), strict=True))
        for name, sums in total.items()
    }
