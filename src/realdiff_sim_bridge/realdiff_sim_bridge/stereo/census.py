"""Centre-symmetric census: whether the first pixel of each point-symmetric pair of a 9 × 7 window is brighter, 31 bits.

Insensitive to the offset and hardly sensitive to the gain of either imager; a threshold keeps image noise out of the
dark between two dots. After Spangenberg, Langner and Rojas, "Weighted semi-global matching and center-symmetric census
transform for robust driver assistance" (CAIP 2013).
"""

from __future__ import annotations

_HALF_HEIGHT, _HALF_WIDTH = 3, 4

PAIRS: tuple[tuple[int, int], ...] = tuple(
    (dy, dx) for dy in range(_HALF_HEIGHT + 1) for dx in range(-_HALF_WIDTH, _HALF_WIDTH + 1) if dy > 0 or dx > 0
)
"""One (dy, dx) per pair: the pixels at −(dy, dx) and +(dy, dx) are compared. Row offset first."""

COST_MAX = len(PAIRS)
"""Largest Hamming distance; also the cost of disparities that lie outside the right image."""
