"""Temporal ensembling: overlapping chunks averaged with the weights of ACT."""

from __future__ import annotations

import numpy as np
from realdiff_policy.runtime.chunks import Chunk, ChunkHistory
from realdiff_policy.runtime.settings import RuntimeSettings

MS = 1_000_000


def chunk(begin_ms: int, rows: int, value: float, slope: float = 0.0) -> Chunk:
    """Rows 100 ms apart, the first 100 ms after `begin_ms`: joints and width are value + slope · seconds."""
    times = begin_ms * MS + 100 * MS * np.arange(1, rows + 1)
    values = value + slope * times * 1e-9
    return Chunk(begin_ms * MS, times, np.repeat(values[:, None], 7, axis=1), values)


def test_the_newest_chunk_alone_is_taken_as_it_is() -> None:
    history = ChunkHistory(RuntimeSettings(ensemble="newest"))
    history.add(chunk(0, 8, 1.0))
    newest = chunk(400, 8, 2.0)
    assert history.add(newest) is newest


def test_overlapping_chunks_are_averaged_by_age_and_each_only_where_it_speaks() -> None:
    """exp(−decay·i), i = 0 for the oldest, by hand for two and three chunks."""
    decay = 0.7
    history = ChunkHistory(RuntimeSettings(ensemble="average", ensemble_decay=decay))
    first, second, third = chunk(0, 6, 1.0), chunk(200, 6, 2.0), chunk(400, 6, 4.0)
    assert np.allclose(history.add(first).joints, 1.0)
    two = history.add(second)
    weight = np.exp(-decay)
    both = (1.0 + 2.0 * weight) / (1.0 + weight)
    assert np.allclose(two.joints[:, 3], [both] * 4 + [2.0] * 2)  # the first speaks up to 600 ms
    assert np.allclose(two.widths, two.joints[:, 0])
    three = history.add(third)
    all_three = (1.0 + 2.0 * weight + 4.0 * weight**2) / (1.0 + weight + weight**2)
    later = (2.0 * weight + 4.0 * weight**2) / (weight + weight**2)
    assert np.allclose(three.joints[:, 0], [all_three] * 2 + [later] * 2 + [4.0] * 2)
    assert three.stamp_ns == third.stamp_ns and np.array_equal(three.times_ns, third.times_ns)


def test_chunks_whose_rows_lie_at_other_times_are_interpolated() -> None:
    history = ChunkHistory(RuntimeSettings(ensemble="average", ensemble_decay=0.0))
    history.add(chunk(0, 10, 0.0, slope=1.0))
    average = history.add(chunk(250, 4, 0.0, slope=1.0))  # rows between those of the first
    assert np.allclose(average.joints[:, 0], average.times_ns * 1e-9)


def test_what_is_over_or_cleared_has_no_say() -> None:
    history = ChunkHistory(RuntimeSettings(ensemble="average", ensemble_decay=0.01))
    history.add(chunk(0, 4, 1.0))
    assert np.allclose(history.add(chunk(1000, 4, 5.0)).joints, 5.0)
    history.clear()
    assert np.allclose(history.add(chunk(1100, 4, 7.0)).joints, 7.0)
