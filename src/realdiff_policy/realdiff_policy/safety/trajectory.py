"""A joint trajectory as the arm's controller follows it: cubic between points with position and velocity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Set-points of the arm, interpolated as ros2_controllers' joint_trajectory_controller does ("splines").

    Attributes:
        start_ns: Time of the first point.
        times_s: float64[N], times of the points from the start, strictly increasing from 0.
        positions: float64[N, 7] [rad].
        velocities: float64[N, 7] [rad/s].
    """

    start_ns: int
    times_s: FloatArray
    positions: FloatArray
    velocities: FloatArray

    @classmethod
    def rest(cls, positions: FloatArray, now_ns: int) -> Trajectory:
        """Returns the trajectory that stays where it is: float64[7] [rad]."""
        return cls(now_ns, np.zeros(1), np.array(positions, dtype=np.float64)[None], np.zeros((1, 7)))

    @cached_property
    def _spline(self) -> CubicHermiteSpline:
        return CubicHermiteSpline(self.times_s, self.positions, self.velocities)

    @cached_property
    def _derivatives(self) -> tuple[CubicHermiteSpline, CubicHermiteSpline]:
        return self._spline.derivative(), self._spline.derivative(2)

    @property
    def end_ns(self) -> int:
        """Time of the last point."""
        return self.start_ns + round(float(self.times_s[-1]) * 1e9)

    def seconds(self, time_ns: int) -> float:
        """Time from the start [s]."""
        return (time_ns - self.start_ns) * 1e-9

    def sample(self, time_ns: int) -> tuple[FloatArray, FloatArray]:
        """Returns positions float64[7] [rad] and velocities float64[7] [rad/s] at a time."""
        positions, velocities, _ = self.sample_many(np.array([self.seconds(time_ns)]))
        return positions[0], velocities[0]

    def sample_many(self, times_s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Positions, velocities and accelerations, each float64[K, 7], at times [s] from the start.

        Before the first and after the last point the arm rests there.
        """
        if len(self.times_s) == 1:
            still = np.zeros((len(times_s), 7))
            return np.repeat(self.positions, len(times_s), axis=0), still, still
        inside = ((times_s >= 0.0) & (times_s < self.times_s[-1] - 1e-9))[:, None]
        clipped = np.clip(times_s, 0.0, self.times_s[-1])
        first, second = self._derivatives
        return self._spline(clipped), np.where(inside, first(clipped), 0.0), np.where(inside, second(clipped), 0.0)

    def after(self, time_ns: int) -> Trajectory:
        """Returns what is left from a time on; the point at that time is new, the others stay."""
        elapsed = self.seconds(time_ns)
        if elapsed >= self.times_s[-1]:
            return Trajectory.rest(self.positions[-1], time_ns)
        later = self.times_s > elapsed + 1e-9
        position, velocity = self.sample(time_ns)
        return Trajectory(
            time_ns,
            np.concatenate([[0.0], self.times_s[later] - elapsed]),
            np.vstack([position, self.positions[later]]),
            np.vstack([velocity, self.velocities[later]]),
        )
