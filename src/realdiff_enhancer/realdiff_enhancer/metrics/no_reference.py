"""What a depth image says about its own noise, without clean depth: for any bag, real, simulated or enhanced.

The noise is what remains on smooth surfaces after a quadratic fit to the disparity of 64 px tiles: structure longer
than a tile counts as surface. Two recordings of different scenes can be compared where both show smooth surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel

from realdiff_enhancer.metrics.bins import DEPTH_BINS
from realdiff_enhancer.metrics.bootstrap import Key
from realdiff_enhancer.metrics.frames import clean_edges, disparity_px
from realdiff_enhancer.metrics.structure import power_spectrum, spatial_correlation

TILE = 64
_STEP = 32
_MIN_VALID = 0.95
#: A tile with a larger misfit, or a larger step between neighbours, shows no smooth surface; pixels of disparity.
_MAX_MISFIT_PX = 0.8
_MAX_STEP_PX = 1.5
#: Pixels this near to a depth step are "at edges"; those farther than the second limit are "flat".
_AT_EDGE_PX, _FLAT_PX = 5.0, 12.0
#: A pixel that differs so much from the median around it is flying.
_FLYING_SHARE = 0.03


def _basis() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:TILE, :TILE] / (TILE - 1) * 2 - 1
    columns = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    return columns, np.linalg.pinv(columns)


_COLUMNS, _INVERSE = _basis()


@dataclass(frozen=True)
class Probe:
    """One depth image under measurement by itself.

    Attributes:
        depth: float32 [H, W], m, NaN = hole.
        camera: its camera, with `baseline_m`.
    """

    depth: NDArray[np.float32]
    camera: CameraModel

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels with depth, [H, W]."""
        return np.isfinite(self.depth) & (self.depth > 0)

    @cached_property
    def disparity(self) -> NDArray[np.float32]:
        """Disparity, float32 [H, W], pixels, 0 in holes."""
        return disparity_px(self.depth, self.camera)

    @cached_property
    def filled(self) -> NDArray[np.float32]:
        """Depth with holes closed by the nearest depth to the left (or right), float32 [H, W], m."""
        index = np.where(self.valid, np.arange(self.depth.shape[1]), -1)
        left = np.maximum.accumulate(index, axis=1)
        any_in_row = np.asarray(self.valid.any(axis=1))
        first = np.where(any_in_row, self.valid.argmax(axis=1), 0)
        source = np.where(left >= 0, left, first[:, None])
        return np.where(any_in_row[:, None], np.take_along_axis(self.depth, source, axis=1), np.nan)

    @cached_property
    def edge_distance(self) -> NDArray[np.float32]:
        """Distance to the nearest depth step (holes closed first), float32 [H, W], pixels."""
        import cv2

        edges = clean_edges(self.filled)
        if not edges.any():
            return np.full(self.depth.shape, np.inf, np.float32)
        return np.asarray(cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 5), np.float32)

    @cached_property
    def noise(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Noise on smooth surfaces, float32 [H, W], pixels of disparity, and where it is known, [H, W]."""
        total = np.zeros(self.depth.shape, np.float32)
        count = np.zeros(self.depth.shape, np.float32)
        for top, left, residual, inside in self._tiles():
            place = (slice(top, top + TILE), slice(left, left + TILE))
            total[place] += np.where(inside, residual, 0)
            count[place] += inside
        return (total / np.maximum(count, 1)).astype(np.float32), count > 0

    def _tiles(self) -> list[tuple[int, int, NDArray[np.float32], NDArray[np.bool_]]]:
        height, width = self.depth.shape
        found = []
        for top in range(0, height - TILE + 1, _STEP):
            for left in range(0, width - TILE + 1, _STEP):
                inside = self.valid[top : top + TILE, left : left + TILE]
                if inside.mean() < _MIN_VALID:
                    continue
                tile = self.disparity[top : top + TILE, left : left + TILE].astype(np.float64)
                tile = np.where(inside, tile, tile[inside].mean())
                if max(np.abs(np.diff(tile, axis=axis)).max() for axis in (0, 1)) > _MAX_STEP_PX:
                    continue
                residual = tile - (_COLUMNS @ (_INVERSE @ tile.ravel())).reshape(TILE, TILE)
                if residual[inside].std() <= _MAX_MISFIT_PX:
                    found.append((top, left, residual.astype(np.float32), inside))
        return found


def probe_statistics(probe: Probe) -> dict[Key, tuple[float, float]]:
    """Measure one depth image by itself.

    Names: ``hole_rate_pct``, ``hole_rate_edges_pct``, ``hole_rate_flat_pct``, ``flying_pct`` (valid pixels off by > 3 %
    from the median around them), ``noise_px`` and ``noise_mm`` (σ on smooth surfaces, by depth), ``smooth_pct`` (share
    of the image on which that is known), ``correlation_rows``, ``correlation_columns``, ``spectrum_px2``,
    ``spectrum_row_share`` (see :mod:`~realdiff_enhancer.metrics.structure`), ``depth_pct`` (share of the valid pixels
    by depth).

    Returns:
        Values and weights by (name, bin).
    """
    pixels = float(probe.depth.size)
    statistics: dict[Key, tuple[float, float]] = {("hole_rate_pct", ""): (100 * float((~probe.valid).mean()), pixels)}
    for name, region in (
        ("hole_rate_edges_pct", probe.edge_distance <= _AT_EDGE_PX),
        ("hole_rate_flat_pct", probe.edge_distance > _FLAT_PX),
    ):
        count = int(region.sum())
        if count:
            statistics[name, ""] = 100 * float((~probe.valid)[region].mean()), float(count)
    statistics.update(_flying(probe))
    noise, known = probe.noise
    statistics["smooth_pct", ""] = 100 * float(known.mean()), pixels
    valid_count = int(probe.valid.sum())
    for depth_bin in DEPTH_BINS:
        inside = probe.valid & depth_bin.contains(probe.depth)
        if valid_count:
            statistics["depth_pct", depth_bin.label] = 100 * float(inside.sum()) / valid_count, float(valid_count)
        inside &= known
        count = int(inside.sum())
        if count >= TILE * TILE:
            sigma = float(noise[inside].std())
            depth = float(probe.depth[inside].mean())
            statistics["noise_px", depth_bin.label] = sigma, float(count)
            statistics["noise_mm", depth_bin.label] = (
                1e3 * sigma * depth**2 / probe.camera.disparity_factor,
                float(count),
            )
    if known.any():
        statistics["noise_px", "all"] = float(noise[known].std()), float(known.sum())
        statistics.update(spatial_correlation(noise, known))
        statistics.update(power_spectrum(noise, known))
    return statistics


def _flying(probe: Probe) -> dict[Key, tuple[float, float]]:
    import cv2

    filled = np.nan_to_num(probe.filled).astype(np.float32)
    median = cv2.medianBlur(filled, 5)
    usable = probe.valid & (median > 0)
    count = int(usable.sum())
    if not count:
        return {}
    off = np.abs(probe.depth[usable] / median[usable] - 1) > _FLYING_SHARE
    return {("flying_pct", ""): (100 * float(off.mean()), float(count))}


def probe_pair_statistics(earlier: Probe, later: Probe) -> dict[Key, tuple[float, float]]:
    """Measure how one frame differs from the next at the same pixel; motion is in it, if there is any.

    Names: ``change_px`` (standard deviation of the change of the noise on smooth surfaces), ``temporal_correlation`` of
    that noise, ``hole_persistence_pct``, ``hole_appearance_pct``.
    """
    statistics: dict[Key, tuple[float, float]] = {}
    first, second = earlier.noise, later.noise
    both = first[1] & second[1]
    count = int(both.sum())
    if count >= TILE * TILE:
        a, b = first[0][both].astype(np.float64), second[0][both].astype(np.float64)
        statistics["change_px", ""] = float((a - b).std()), float(count)
        if a.std() > 0 and b.std() > 0:
            statistics["temporal_correlation", ""] = float(np.corrcoef(a, b)[0, 1]), float(count)
    for name, condition in (("hole_persistence_pct", ~earlier.valid), ("hole_appearance_pct", earlier.valid)):
        pixels = int(condition.sum())
        if pixels:
            statistics[name, ""] = 100 * float((~later.valid)[condition].mean()), float(pixels)
    return statistics
