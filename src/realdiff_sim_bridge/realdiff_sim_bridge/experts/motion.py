"""Smooth motions of the tool centre point through way points, without stopping at those it merely passes.

Each stretch has a minimum-jerk profile (Flash and Hogan, "The coordination of arm movements", J. Neurosci. 1985). A
stretch may begin before its predecessor has ended: the displacements add up, so that the corner is rounded and
acceleration stays continuous.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from realdiff_sim_bridge.geometry import FloatArray, Pose

PEAK_TO_MEAN = 1.875
"""Highest speed of a minimum-jerk stretch over its mean speed."""


@dataclass(frozen=True)
class Stretch:
    """A straight stretch of a motion.

    Attributes:
        end: Where it ends [m].
        speed: Highest speed on the way [m/s].
        overlap: Share of the previous stretch's duration during which this one is under way already, in [0, 1).
    """

    end: FloatArray
    speed: float
    overlap: float = 0.0


class Motion:
    """A motion through several stretches; the hand turns during the first of them.

    Args:
        start: Pose at time 0.
        stretches: The stretches in order.
        quaternion: Orientation from the end of the first stretch on.
        turn_speed: Highest angular speed [rad/s].
    """

    def __init__(self, start: Pose, stretches: list[Stretch], quaternion: FloatArray, turn_speed: float) -> None:
        """Lays out the times."""
        self._start = start
        self._quaternion = quaternion
        self._turn = (Rotation.from_quat(start.quaternion).inv() * Rotation.from_quat(quaternion)).as_rotvec()
        points = [start.position, *(stretch.end for stretch in stretches)]
        self._steps = np.array([after - before for before, after in pairwise(points)])
        durations = [
            PEAK_TO_MEAN * float(np.linalg.norm(step)) / stretch.speed
            for step, stretch in zip(self._steps, stretches, strict=True)
        ]
        durations[0] = max(durations[0], PEAK_TO_MEAN * float(np.linalg.norm(self._turn)) / turn_speed)
        self._durations = np.maximum(durations, 1e-6)
        begins = [0.0]
        for (before, _), (_, stretch) in pairwise(zip(self._durations, stretches, strict=True)):
            begins.append(begins[-1] + (1.0 - stretch.overlap) * float(before))
        self._begins = np.array(begins)
        self.end = Pose(points[-1], quaternion)
        self.duration_s = float(np.max(self._begins + self._durations))

    def at(self, time_s: float) -> Pose:
        """Returns the pose at a time from the motion's start [s]; it stays at the end."""
        if time_s >= self.duration_s:
            return self.end
        share = np.clip((time_s - self._begins) / self._durations, 0.0, 1.0)
        done = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        turned = self._start @ Pose.from_rotation_vector(np.zeros(3), done[0] * self._turn)
        return Pose(self._start.position + done @ self._steps, turned.quaternion)
