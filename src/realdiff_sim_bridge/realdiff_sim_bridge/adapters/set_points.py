"""From commands at the control rate to the set-points of every physics step, alike in all simulators."""

from __future__ import annotations

import numpy as np

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, GRIPPER_SPEED, Command
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.build import PHYSICS_STEP_S
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH

_TRAVEL_M = GRIPPER_SPEED * PHYSICS_STEP_S


class SetPoints:
    """Moves the arm's set-point evenly to each command within one control period, the fingers' at their own speed.

    Args:
        joint_positions: float64[7], where the arm stands at time 0 [rad].
        gripper_width: Distance between the fingers at time 0 [m].
    """

    def __init__(self, joint_positions: FloatArray, gripper_width: float) -> None:
        """Begins at rest."""
        self._start_ns = 0
        self._before = self._after = joint_positions
        self._width = self._wanted_width = gripper_width

    def apply(self, command: Command, time_ns: int) -> None:
        """Takes a command that is to be reached one control period after `time_ns`.

        Raises:
            SimulationError: It holds NaN or infinity.
        """
        if not np.all(np.isfinite(command.joint_positions)) or not np.isfinite(command.gripper_width):
            raise SimulationError("a command holds NaN or infinity", expected="finite numbers", got=str(command))
        self._before = self.arm(time_ns)[0]
        self._after = np.asarray(command.joint_positions, dtype=np.float64).copy()
        self._start_ns = time_ns
        self._wanted_width = float(np.clip(command.gripper_width, 0.0, MAX_GRIPPER_WIDTH))

    def arm(self, time_ns: int) -> tuple[FloatArray, FloatArray]:
        """The arm's set-point at a time: positions [rad] and velocities [rad/s]."""
        share = (time_ns - self._start_ns) / CONTROL_PERIOD_NS
        if share >= 1.0:
            return self._after, np.zeros(7)
        way = self._after - self._before
        return self._before + share * way, way / (CONTROL_PERIOD_NS * 1e-9)

    def step_width(self) -> float:
        """Moves the fingers' set-point by one physics step and returns it [m]."""
        self._width += min(max(self._wanted_width - self._width, -_TRAVEL_M), _TRAVEL_M)
        return self._width
