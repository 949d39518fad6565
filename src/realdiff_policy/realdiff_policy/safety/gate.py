"""The safety gate: the last thing between a policy and the robot.

It holds the trajectory that the robot follows, and lets a new one take its place only if the new one continues it
without a jump, stays within all limits and ends at rest. So whatever happens, the arm comes to a checked stop by
itself: when nothing new is accepted, when the policy falls silent, even when this whole process dies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.safety.checks import first_fault
from realdiff_policy.safety.limits import MotionLimits
from realdiff_policy.safety.reasons import Fault, Reason
from realdiff_policy.safety.trajectory import Trajectory

FloatArray = NDArray[np.float64]

VELOCITY_JUMP = 0.02
"""Largest jump of a joint's velocity where one trajectory takes over from another, as a share of its limit."""

POSITION_JUMP_RAD = 1e-3
_HANDOVER_S = (0.0, 0.01, 0.02, 0.04)
"""A new trajectory reaches the controller a little after it is accepted: it must fit until then."""

_STOPS_S = (0.1, 0.14, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
_STOP_STEP_S = 0.01


class SafetyGate:
    """Accepts or refuses trajectories, and stops the arm.

    Args:
        limits: What the robot may do.
        handover_s: For how long a new trajectory must coincide with the old one [s]; 0 where set-points are taken
            directly from `active`.
    """

    def __init__(self, limits: MotionLimits, *, handover_s: float = 0.0) -> None:
        """Begins without a trajectory: `start` comes first."""
        self.limits = limits
        self._handover_s = [moment for moment in _HANDOVER_S if moment <= handover_s]
        self._active: Trajectory | None = None
        self._fault_s = 0.0

    @property
    def active(self) -> Trajectory:
        """What the robot follows.

        Raises:
            RuntimeError: `start` hasn't been called.
        """
        if self._active is None:
            raise RuntimeError("the safety gate doesn't know where the arm is: call start() first")
        return self._active

    @property
    def started(self) -> bool:
        """Whether the gate knows where the arm is."""
        return self._active is not None

    @property
    def fault_s(self) -> float:
        """How far into the refused trajectory its first violation lies [s]."""
        return self._fault_s

    def start(self, positions: FloatArray, now_ns: int) -> Fault | None:
        """Takes the arm, at rest, where it is.

        Args:
            positions: float64[7], commanded or measured [rad].
            now_ns: Now.

        Returns:
            Why the arm can't be moved from there; the gate then keeps what it had. None if it can.
        """
        still = Trajectory.rest(positions, now_ns)
        problem = first_fault(self.limits, still.times_s, still.positions, still.velocities)
        if problem is not None:
            return Fault(problem[0].reason, f"the arm stands outside its limits: {problem[0].text}")
        self._active = still
        return None

    def submit(self, candidate: Trajectory, now_ns: int) -> Fault | None:
        """Checks a trajectory, and lets it take over if nothing is wrong with it.

        Args:
            candidate: Begins now or earlier.
            now_ns: Now.

        Returns:
            Why it was refused; the active trajectory goes on. None if it has been accepted.
        """
        fault = self._malformed(candidate, now_ns)
        if fault is None:
            problem = first_fault(self.limits, candidate.times_s, candidate.positions, candidate.velocities)
            fault, self._fault_s = problem if problem is not None else (None, 0.0)
        if fault is None:
            fault = self._jump(candidate, now_ns)
        if fault is None:
            self._active = candidate
        return fault

    def _malformed(self, candidate: Trajectory, now_ns: int) -> Fault | None:
        self._fault_s = 0.0
        count = len(candidate.times_s)
        if count == 0 or candidate.positions.shape != (count, 7) or candidate.velocities.shape != (count, 7):
            shapes = [list(values.shape) for values in (candidate.times_s, candidate.positions, candidate.velocities)]
            return Fault(Reason.MALFORMED, f"a trajectory has arrays of shapes {shapes}, expected [N], [N, 7], [N, 7]")
        if candidate.start_ns > now_ns or candidate.times_s[0] != 0.0:
            return Fault(Reason.MALFORMED, "a trajectory begins in the future or not at its own time 0")
        return None

    def _jump(self, candidate: Trajectory, now_ns: int) -> Fault | None:
        for after_s in self._handover_s:
            moment = now_ns + round(after_s * 1e9)
            (position, velocity), (wanted, speed) = self.active.sample(moment), candidate.sample(moment)
            apart = np.abs(wanted - position)
            if np.any(apart > POSITION_JUMP_RAD):
                joint = int(np.argmax(apart))
                return Fault(Reason.JUMP, f"fr3_joint{joint + 1} would jump by {apart[joint]:.4f} rad")
            share = np.abs(speed - velocity) / self.limits.velocity
            if np.any(share > VELOCITY_JUMP):
                joint = int(np.argmax(share))
                percent = f"{100 * share[joint]:.1f} % of its limit"
                return Fault(Reason.JUMP, f"fr3_joint{joint + 1}'s velocity would jump by {percent}")
        return None

    def stop(self, now_ns: int) -> Trajectory:
        """Brings the arm to rest on the path it is on, as fast as the limits allow.

        Slowing down along an accepted path leaves neither the joints' ranges nor the workspace. Where no quicker stop
        is within the acceleration limits, the active trajectory simply ends as it was accepted: at rest.

        Returns:
            What the robot follows from now on.
        """
        rest = self.active.after(now_ns)
        _, velocity = self.active.sample(now_ns)
        if np.all(np.abs(velocity) < 1e-6) and _still(rest):
            self._active = Trajectory.rest(rest.positions[0], now_ns)
            return self._active
        for duration in _STOPS_S:
            if duration / 2.0 >= rest.times_s[-1]:
                break
            slowed = _slowed(rest, duration)
            # The path is the accepted one; what slowing down can violate is acceleration.
            if first_fault(self.limits, slowed.times_s, slowed.positions, slowed.velocities) is None:
                self._active = slowed
                return slowed
        self._active = rest
        return rest

    def shift(self, delta_ns: int) -> None:
        """Moves the active trajectory in time: the clock itself has jumped by `delta_ns`."""
        active = self.active
        self._active = Trajectory(active.start_ns + delta_ns, active.times_s, active.positions, active.velocities)


def _still(trajectory: Trajectory) -> bool:
    moves = np.ptp(trajectory.positions, axis=0).max() > 1e-6 or np.abs(trajectory.velocities).max() > 1e-6
    return not moves


def _slowed(path: Trajectory, duration_s: float) -> Trajectory:
    """Travels a path from its start at a speed that falls smoothly from 1 to 0 within `duration_s`."""
    steps = max(2, round(duration_s / _STOP_STEP_S))
    share = np.linspace(0.0, 1.0, steps + 1)
    along_s = duration_s * (share - share**3 + share**4 / 2.0)
    speed = 1.0 - 3.0 * share**2 + 2.0 * share**3
    positions, velocities, _ = path.sample_many(along_s)
    velocities = velocities * speed[:, None]
    velocities[-1] = 0.0
    return Trajectory(path.start_ns, share * duration_s, positions, velocities)
