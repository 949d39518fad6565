"""The bins of every table: one definition, so that tables of different runs can be laid side by side."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bin:
    """One closed interval of a quantity, with the label that tables print.

    Attributes:
        label: text such as ``"0.4-0.6"``.
        low: lower bound.
        high: upper bound; ``inf`` for an open end.
        low_inclusive: whether ``low`` itself belongs to the bin (the upper bound always does, except for depth bins).
        high_inclusive: whether ``high`` itself belongs to the bin.
    """

    label: str
    low: float
    high: float
    low_inclusive: bool = True
    high_inclusive: bool = True

    def contains(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which values fall into the bin.

        Args:
            values: any shape; NaN falls into no bin.

        Returns:
            Boolean array of the same shape.
        """
        above = values >= self.low if self.low_inclusive else values > self.low
        below = values <= self.high if self.high_inclusive else values < self.high
        return np.asarray(above & below)


def _half_open(edges: tuple[float, ...]) -> tuple[Bin, ...]:
    return tuple(Bin(f"{low:g}-{high:g}", low, high, high_inclusive=False) for low, high in itertools.pairwise(edges))


#: Depth of the clean surface, metres.
DEPTH_BINS = _half_open((0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5))

#: Distance in the image to the nearest depth edge of the clean image, pixels. The gaps are meant: bins that touch would
#: blur the step from one regime (occlusion, edge fattening, flat) to the next.
EDGE_BINS = (
    Bin("0-1", 0.0, 1.0),
    Bin("1-2", 1.0, 2.0, low_inclusive=False),
    Bin("3-5", 3.0, 5.0),
    Bin("8-12", 8.0, 12.0),
    Bin("20-40", 20.0, 40.0),
    Bin(">40", 40.0, float("inf"), low_inclusive=False),
)

#: Cosine of the angle between the viewing ray and the surface normal of the clean depth; 1 is seen frontally.
INCIDENCE_BINS = (
    *_half_open((0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.97)),
    Bin(">0.97", 0.97, 1.0 + 1e-6),
)

#: Displacements at which the spatial correlation is measured, pixels.
CORRELATION_LAGS = (1, 4, 8, 16, 32)

#: Errors beyond which a valid pixel counts as an outlier, metres, with the labels of the tables.
OUTLIER_LIMITS = ((0.02, "2cm"), (0.05, "5cm"))
