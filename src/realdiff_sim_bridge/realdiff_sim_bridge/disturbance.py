"""Pushes the arm off its way while it demonstrates, so that a policy sees how to come back (DART, Laskey et al. 2017).

The robot executes the demonstrator's command plus a smooth offset; what is recorded as the commanded action stays the
demonstrator's. Near the objects the offset fades out: grasping and placing are shown as they should be.
"""

from __future__ import annotations

import numpy as np
from realdiff_core.seeds import rng

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, Command, SimState
from realdiff_sim_bridge.geometry import FloatArray

_STREAM = 0xD1
"""Keeps these random numbers apart from those of the reset and the expert, which use the same seed."""

_MEMORY_S = 0.6
"""Correlation time of the offsets: a push lasts about a second."""

_SMOOTHING_S = 0.2
"""Lag behind the random walk, so that the arm isn't jerked."""

_NEAR_M, _FAR_M = 0.08, 0.16
"""Distance of the tool centre point to the nearest object: no offset below the first, the whole beyond the second."""


class Disturbance:
    """Offsets of the arm's joints in one episode: an Ornstein–Uhlenbeck process behind a low pass.

    Args:
        size_rad: Standard deviation of the process, each joint by itself [rad]; 0 for none.
        seed: Seed of the episode.
    """

    def __init__(self, size_rad: float, seed: int) -> None:
        """Begins at rest."""
        self._size = size_rad
        self._random = rng(seed ^ (_STREAM << 56))
        self._walk = np.zeros(7)
        self._offset = np.zeros(7)

    def applied_to(self, command: Command, state: SimState) -> Command:
        """The command that the robot is given for the coming control period.

        Args:
            command: What the demonstrator wants.
            state: The state at the beginning of the period.
        """
        if self._size == 0.0:
            return command
        step_s = CONTROL_PERIOD_NS * 1e-9
        kept = np.exp(-step_s / _MEMORY_S)
        self._walk = kept * self._walk + self._size * np.sqrt(1.0 - kept**2) * self._random.standard_normal(7)
        self._offset += (1.0 - np.exp(-step_s / _SMOOTHING_S)) * (self._walk - self._offset)
        return Command(command.joint_positions + _share(state) * self._offset, command.gripper_width)


def _share(state: SimState) -> float:
    distances: list[FloatArray] = [state.tcp.position - pose.position for pose in state.objects.values()]
    nearest = min((float(np.linalg.norm(distance)) for distance in distances), default=np.inf)
    return float(np.clip((nearest - _NEAR_M) / (_FAR_M - _NEAR_M), 0.0, 1.0))
