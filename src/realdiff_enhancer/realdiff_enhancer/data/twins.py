"""Pairs from twin captures: transparent objects against painted twins of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from realdiff_enhancer.data.layouts import Twin
from realdiff_enhancer.data.pair_maker import PairCandidate
from realdiff_enhancer.data.pair_quality import drop_wrong_places, measure
from realdiff_enhancer.data.static_camera import StaticConfig, even_planes


def make_twin_pairs(
    twins: Sequence[Twin], baseline_m: float, config: StaticConfig | None = None
) -> Iterator[PairCandidate]:
    """Make a pair of every twin capture.

    The twin was measured by the same camera: planes are evened (see :mod:`~realdiff_enhancer.data.static_camera`), the
    rest keeps the twin's own noise. Inside the transparent objects nothing is gated: that is where the camera fails.

    Args:
        twins: captures.
        baseline_m: stereo baseline.
        config: limits.

    Yields:
        One candidate a capture, accepted or not.
    """
    config = config or StaticConfig()
    for twin in twins:
        factor = float(twin.matrix[0, 0]) * baseline_m
        known = np.isfinite(twin.twin_m)
        disparity = np.where(known, factor / np.where(known, twin.twin_m, 1.0), np.nan).astype(np.float32)
        level, _ = even_planes(disparity, config)
        clean = np.where(np.isfinite(level), factor / np.where(np.isfinite(level), level, 1.0), np.nan).astype(
            np.float32
        )
        clean[clean > config.clean_far_m] = np.nan
        gated = drop_wrong_places(clean, twin.noisy_m, factor, config.gate)
        clean = np.where(twin.transparent, clean, gated)
        outside = np.where(twin.transparent, np.float32(np.nan), twin.noisy_m)
        statistics = measure(clean, outside, factor, (config.near_m, config.clean_far_m), config.gate)
        yield PairCandidate(
            twin.number, twin.number, clean, twin.noisy_m, statistics, tuple(statistics.failures(config.gate))
        )
