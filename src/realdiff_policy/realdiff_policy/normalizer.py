"""Scales states and actions to [-1, 1] by the range they had in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from realdiff_core.config import Strict
from torch import Tensor

_SMALLEST_RANGE = 1e-3
"""Narrower ranges are widened to this (rad, m): a joint that never moves must not be blown up."""


class RangeNormalizer(Strict):
    """Maps [lowest, highest] of each number linearly to [-1, 1].

    Attributes:
        lowest: Smallest value of each number in training.
        highest: Largest value.
    """

    lowest: tuple[float, ...] = Field(min_length=1)
    highest: tuple[float, ...]

    @model_validator(mode="after")
    def _ordered(self) -> RangeNormalizer:
        if len(self.lowest) != len(self.highest):
            raise ValueError(f"{len(self.lowest)} lowest and {len(self.highest)} highest values")
        if any(not low < high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError("a lowest value isn't below its highest one")
        return self

    @classmethod
    def fit(cls, rows: Sequence[NDArray[np.floating]], unscaled: slice | None = None) -> RangeNormalizer:
        """Takes the ranges from data.

        Args:
            rows: Arrays [N, size].
            unscaled: Numbers to leave as they are: their range is set to [-1, 1] (rotations are in it already).
        """
        lowest = np.min([part.min(axis=0) for part in rows], axis=0).astype(np.float64)
        highest = np.max([part.max(axis=0) for part in rows], axis=0).astype(np.float64)
        middle, half = (lowest + highest) / 2, np.maximum((highest - lowest) / 2, _SMALLEST_RANGE / 2)
        if unscaled is not None:
            middle[unscaled], half[unscaled] = 0.0, 1.0
        return cls(lowest=tuple(map(float, middle - half)), highest=tuple(map(float, middle + half)))

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        lowest = torch.tensor(self.lowest, dtype=like.dtype, device=like.device)
        highest = torch.tensor(self.highest, dtype=like.dtype, device=like.device)
        return (lowest + highest) / 2, (highest - lowest) / 2

    def normalize(self, values: Tensor) -> Tensor:
        """[…, size] in units to [-1, 1] (beyond it where the values are)."""
        middle, half = self._tensors(values)
        return (values - middle) / half

    def restore(self, values: Tensor) -> Tensor:
        """Inverse of `normalize`."""
        middle, half = self._tensors(values)
        return values * half + middle
