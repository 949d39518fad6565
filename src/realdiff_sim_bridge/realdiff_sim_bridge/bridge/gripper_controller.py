"""The hand without ROS: move, grasp, homing and stop as the Franka hand does them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH

MAX_SPEED = 0.1
"""Highest speed of the width [m/s]; also what `gripper_action` uses."""

DEFAULT_EPSILON_M = 0.005
"""Tolerance of a grasped object's width, as the driver's default [m]."""

_ARRIVED_M = 0.002
_STILL_M_S = 0.002
_STILL_S = 0.2
_RELEASE_S = 1.0
"""So long may opening fingers rest before they count as stopped: simulated objects stick to them at first."""
_GRACE_S = 3.0


@dataclass
class Motion:
    """A motion of the hand.

    Attributes:
        stages: Widths to go to, one after the other [m].
        speed: Speed of the width [m/s].
        accept: Says whether the final width [m] is a success: an empty text, or what is wrong.
        ended: Called once with why it failed, or an empty text.
    """

    stages: tuple[float, ...]
    speed: float
    accept: Callable[[float], str]
    ended: Callable[[str], None]


class GripperController:
    """Moves the fingers at the speeds asked for and notices when they rest.

    Args:
        width: Distance between the fingers now [m].
    """

    def __init__(self, width: float) -> None:
        """Holds the width."""
        self._motion: Motion | None = None
        self.restart(width, "")

    def restart(self, width: float, reason: str) -> None:
        """Holds a width that the fingers have been put to; a motion ends unsuccessfully for a reason."""
        self._end(reason)
        self.command = float(width)

    def start(self, motion: Motion) -> None:
        """Starts a motion; one that is under way ends unsuccessfully.

        Raises:
            ConfigError: Width or speed is out of range; nothing has changed then.
        """
        for width in motion.stages:
            if not (np.isfinite(width) and 0.0 <= width <= MAX_GRIPPER_WIDTH):
                raise ConfigError("gripper width out of range", expected=f"0 … {MAX_GRIPPER_WIDTH} m", got=width)
        if not (np.isfinite(motion.speed) and motion.speed > 0.0):
            raise ConfigError(
                "gripper speed out of range", expected=f"more than 0, up to {MAX_SPEED} m/s", got=motion.speed
            )
        self._end("replaced by a new command")
        self._motion, self._stage = motion, 0
        self._elapsed_s = self._still_s = 0.0

    def stop(self, width: float) -> bool:
        """Stops a motion where the fingers are [m]; what is held stays held. Returns whether there was one."""
        if self._motion is None:
            return False
        self.command = float(np.clip(width, 0.0, MAX_GRIPPER_WIDTH))
        self._end("stopped")
        return True

    @property
    def busy(self) -> bool:
        """Whether a motion is under way."""
        return self._motion is not None

    def _end(self, error: str) -> None:
        motion, self._motion = self._motion, None
        if motion is not None:
            motion.ended(error)

    def update(self, width: float, finger_speed: float) -> float:
        """Runs one period of control.

        Args:
            width: Measured width [m].
            finger_speed: Largest speed of a finger [m/s].

        Returns:
            The width to be reached one period from now [m].
        """
        motion = self._motion
        if motion is None:
            return self.command
        period = CONTROL_PERIOD_NS * 1e-9
        target = motion.stages[self._stage]
        step = min(motion.speed, MAX_SPEED) * period
        if target > width:  # opening: what was held was pressed with a command well below its width
            self.command = max(self.command, width)
        self.command += float(np.clip(target - self.command, -step, step))
        self._elapsed_s += period
        moving = finger_speed > _STILL_M_S or abs(target - self.command) > 1e-9
        # Fingers that rest against an object end the motion although the command goes on closing.
        blocked = finger_speed <= _STILL_M_S and abs(width - self.command) > _ARRIVED_M
        self._still_s = 0.0 if moving and not blocked else self._still_s + period
        sticking = target - width > _ARRIVED_M
        if self._still_s > (_RELEASE_S if sticking else _STILL_S):
            self._still_s = 0.0
            if self._stage + 1 < len(motion.stages):
                self._stage += 1
            else:
                if blocked:
                    self.command = target
                self._end(motion.accept(width))
        elif self._elapsed_s > _GRACE_S + len(motion.stages) * MAX_GRIPPER_WIDTH / min(motion.speed, MAX_SPEED):
            self._end("the fingers don't come to rest")
        return self.command


def moved_to(width: float) -> Callable[[float], str]:
    """The acceptance test of a move: the fingers are there."""

    def accept(reached: float) -> str:
        return "" if abs(reached - width) <= DEFAULT_EPSILON_M else f"stopped at {reached:.4f} m"

    return accept


def grasped(width: float, inner: float, outer: float) -> Callable[[float], str]:
    """The acceptance test of a grasp: something of about this width [m] is between the fingers."""

    def accept(reached: float) -> str:
        if width - inner <= reached <= width + outer:
            return ""
        return (
            f"closed to {reached:.4f} m, outside {width - inner:.4f} … {width + outer:.4f} m: nothing, or something "
            "else, is held"
        )

    return accept
