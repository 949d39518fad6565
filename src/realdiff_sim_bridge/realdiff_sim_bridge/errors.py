"""Errors of this package."""

from __future__ import annotations

from realdiff_core.errors import RealdiffError


class SimulationError(RealdiffError):
    """The simulation can't start or has become unusable."""


class RenderingError(RealdiffError):
    """No picture can be rendered on this machine."""


class MotionError(RealdiffError):
    """A motion source (expert, MimicGen) finds no motion in the current situation."""
