"""The model that does nothing: the lower end of every comparison, and the speed of everything around a model."""

from __future__ import annotations

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames

__all__ = ["NoneModel"]


class NoneModel:
    """Leaves every pixel as it is."""

    name = "none"
    history = 0
    weights_sha256: str | None = None
    uses_colour = False

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the depth unchanged (the same array)."""
        return EnhancedFrames(depth=frames.depth)
