"""A policy's continuous gripper width as opening and closing, without chatter."""

from __future__ import annotations

from typing import Literal

from realdiff_policy.safety.limits import GripperConfig

GripperAction = Literal["open", "close"]


class GripperSwitch:
    """Decides when to open and when to close.

    Between the two thresholds nothing changes, and after a change the next one waits for the dwell time.

    Args:
        config: Thresholds and dwell time.
    """

    def __init__(self, config: GripperConfig) -> None:
        """Begins undecided: the first clear wish is acted on."""
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forgets the state of the hand."""
        self.state: GripperAction | None = None
        self._changed_ns: int | None = None

    def update(self, width: float, now_ns: int) -> GripperAction | None:
        """Takes the wanted width.

        Args:
            width: What the policy wants [m].
            now_ns: Now.

        Returns:
            The action to start now; None for none.
        """
        wish: GripperAction | None = self.state
        if width > self.config.open_above:
            wish = "open"
        elif width < self.config.close_below:
            wish = "close"
        if wish is None or wish == self.state:
            return None
        if self._changed_ns is not None and abs(now_ns - self._changed_ns) < self.config.dwell * 1e9:
            return None
        self.state, self._changed_ns = wish, now_ns
        return wish

    @property
    def width(self) -> float:
        """The commanded width [m]: fully open or closed."""
        return 0.0 if self.state == "close" else self.config.open_width
