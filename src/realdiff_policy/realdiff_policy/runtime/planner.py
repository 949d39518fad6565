"""From rows of joint positions to a smooth trajectory that the gate accepts.

The rows become a cubic spline. At the join the new spline starts elsewhere, and at another speed, than the trajectory
that the arm is on; that difference in position, velocity and acceleration is faded out by a quintic, so that nothing
jumps. Every trajectory ends at rest: it slows down along the chunk's last rows, which in normal operation are never
reached because the next chunk comes before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from realdiff_policy.runtime.chunks import Chunk
from realdiff_policy.runtime.settings import RuntimeSettings
from realdiff_policy.safety import Fault, MotionLimits, Reason, SafetyGate, Trajectory

FloatArray = NDArray[np.float64]

JUMP_RAD = 0.5
"""A row farther than this from where the arm will be is no continuation of its motion."""

_CLIP_RAD = 0.05
"""Rows this little outside a joint's range are put on its edge; farther ones are the gate's to refuse."""

_EDGE_RAD = 0.003
_SPEEDS = (1.0, 0.75, 0.55, 0.4, 0.25)
_LONGEST_FADE_S = 1.2
_SHARE = 0.45
"""Share of the limits that fading out a difference may use; the motion itself needs the rest."""


@dataclass
class PlanReport:
    """What happened to a chunk on its way.

    Attributes:
        fault: Why it was refused; None if a trajectory was accepted.
        speed: Share of the policy's speed at which it is executed.
        shortened: Whether its end was cut off because it led outside the limits.
        faults: All objections of the gate.
    """

    fault: Fault | None = None
    speed: float = 1.0
    shortened: bool = False
    faults: list[Fault] = field(default_factory=list)


class ChunkPlanner:
    """Makes trajectories of chunks and submits them to the gate.

    Args:
        limits: Used to choose how gently to join; the gate decides.
        settings: Rates and durations.
        row_s: Time between two rows of a chunk [s].
    """

    def __init__(self, limits: MotionLimits, settings: RuntimeSettings, row_s: float) -> None:
        """Keeps the settings."""
        self._limits = limits
        self._settings = settings
        self._row_s = row_s
        self._step_s = 1.0 / settings.control_rate_hz

    def submit(self, gate: SafetyGate, chunk: Chunk, now_ns: int, keep_s: float) -> PlanReport:
        """Plans a chunk, slower or shorter where the gate objects, until it accepts.

        Args:
            gate: The gate, with the trajectory that the arm is on.
            chunk: The rows.
            now_ns: Now; the arm leaves its present trajectory `settings.lead_s` later.
            keep_s: For how long from now the chunk should be followed at full speed [s].
        """
        report = PlanReport()
        join_ns = now_ns + round(self._settings.lead_s * 1e9)
        times = np.asarray((chunk.times_ns - join_ns) * 1e-9, dtype=np.float64)
        problem = self._not_a_continuation(gate, chunk, times)
        if problem is not None:
            report.fault = problem
            report.faults.append(problem)
            return report
        until = len(times)
        speeds = list(_SPEEDS)
        while speeds:
            report.speed = speeds[0]
            keep = 0.0 if report.shortened else keep_s
            candidate = self._trajectory(
                gate.active, times[:until], chunk.joints[:until], now_ns, join_ns, report.speed, keep
            )
            report.fault = gate.submit(candidate, now_ns)
            if report.fault is None:
                return report
            report.faults.append(report.fault)
            if report.fault.reason in (Reason.JOINT_POSITION, Reason.TABLE, Reason.WORKSPACE):
                into_s = (gate.fault_s - self._settings.lead_s) * report.speed
                until = min(until - 1, int(np.searchsorted(times, into_s)))
                report.shortened = True
                if until < 1 or times[until - 1] <= 0.0:
                    return report
            else:
                speeds.pop(0)
        return report

    def _not_a_continuation(self, gate: SafetyGate, chunk: Chunk, times: FloatArray) -> Fault | None:
        ahead = np.flatnonzero(times > 0.0)
        if not len(ahead):
            late = -float(times[-1])
            return Fault(Reason.POLICY_SILENT, f"the chunk came {late:.2f} s after the last moment that it is about")
        first = int(ahead[0])
        position, _ = gate.active.sample(int(chunk.times_ns[first]))
        apart = np.abs(chunk.joints[first] - position)
        if np.any(apart > JUMP_RAD):
            joint = int(np.argmax(apart))
            return Fault(
                Reason.JUMP,
                f"the policy wants fr3_joint{joint + 1} {apart[joint]:.2f} rad away from where it will be, allowed "
                f"{JUMP_RAD} rad",
            )
        return None

    def _trajectory(
        self,
        active: Trajectory,
        times: FloatArray,
        rows: FloatArray,
        now_ns: int,
        join_ns: int,
        speed: float,
        keep_s: float,
    ) -> Trajectory:
        path = self._path(times, rows)
        end_s = float(times[-1])
        travel_s, along, rate, slowing = self._timing(end_s, speed, keep_s)
        positions, slopes, bends = _beyond(path, along, end_s)
        velocities = slopes * rate[:, None]
        accelerations = bends * rate[:, None] ** 2 + slopes * slowing[:, None]
        elapsed = active.seconds(join_ns)
        start, start_velocity, start_acceleration = (part[0] for part in active.sample_many(np.array([elapsed])))
        offset = np.stack([start - positions[0], start_velocity - velocities[0], start_acceleration - accelerations[0]])
        fade_s = self._fade_duration(offset)
        if fade_s > travel_s[-1]:
            extra = np.arange(travel_s[-1] + self._step_s, fade_s + self._step_s, self._step_s)
            travel_s = np.concatenate([travel_s, extra])
            positions = np.vstack([positions, np.repeat(positions[-1:], len(extra), axis=0)])
            velocities = np.vstack([velocities, np.zeros((len(extra), 7))])
        faded, faded_velocities = _fade(offset, fade_s, travel_s)
        positions, velocities = positions + faded, velocities + faded_velocities
        velocities[-1] = 0.0
        before = active.after(now_ns)
        lead_s = (join_ns - now_ns) * 1e-9
        kept = before.times_s < lead_s - 1e-6
        return Trajectory(
            now_ns,
            np.concatenate([before.times_s[kept], lead_s + travel_s]),
            np.vstack([before.positions[kept], positions]),
            np.vstack([before.velocities[kept], velocities]),
        )

    def _path(self, times: FloatArray, rows: FloatArray) -> CubicSpline:
        """The spline through the rows; before the first it goes on straight."""
        lower, upper = self._limits.lower + _EDGE_RAD, self._limits.upper - _EDGE_RAD
        near = (rows > lower - _CLIP_RAD) & (rows < upper + _CLIP_RAD)
        rows = np.where(near, np.clip(rows, lower, upper), rows)
        if len(rows) == 1:
            rows, times = np.repeat(rows, 2, axis=0), np.array([times[0] - self._row_s, times[0]])
        # Rows of the past shape the beginning only slightly; two of them are enough.
        first = max(0, int(np.searchsorted(times, 0.0)) - 2)
        times, rows = times[first:], rows[first:]
        if len(rows) == 1:
            rows, times = np.repeat(rows, 2, axis=0), np.array([times[0] - self._row_s, times[0]])
        while times[0] > 0.0:
            times = np.concatenate([[times[0] - self._row_s], times])
            rows = np.vstack([2.0 * rows[0] - rows[1], rows])
        return CubicSpline(times, rows, bc_type="natural")

    def _timing(
        self, end_s: float, speed: float, keep_s: float
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """When the arm is where on the path: times, places on the path [s], their rate and its change [1/s]."""
        brake_s = self._settings.brake_s
        room_s = brake_s / 2.0 * speed  # of the path, travelled while braking
        cruise_s = max(end_s - room_s, min(keep_s * speed, end_s)) / speed
        cruise_s = max(self._step_s, round(cruise_s / self._step_s) * self._step_s)
        left_s = max(end_s - cruise_s * speed, 0.0)
        # Where too little of the path is left the arm overshoots its end straight on, rather than braking harder.
        stretch_s = max(left_s, room_s)
        brake_s = 2.0 * stretch_s / speed
        count = max(2, round(brake_s / self._step_s))
        share = np.arange(1, count + 1) / count
        cruise = np.arange(0, round(cruise_s / self._step_s) + 1) * self._step_s
        travel = np.concatenate([cruise, cruise[-1] + share * brake_s])
        along = np.concatenate(
            [cruise * speed, cruise[-1] * speed + speed * brake_s * (share - share**3 + share**4 / 2.0)]
        )
        rate = np.concatenate([np.full(len(cruise), speed), speed * (1.0 - 3.0 * share**2 + 2.0 * share**3)])
        slowing = np.concatenate([np.zeros(len(cruise)), speed / brake_s * (6.0 * share**2 - 6.0 * share)])
        return travel, along, rate, slowing

    def _fade_duration(self, offset: FloatArray) -> float:
        """How long fading out a difference takes, so that it uses only a share of the limits [s].

        The factors are the peaks of the unit quintics: 1.875 and 5.77 for a difference in position, 3.94 in velocity.
        """
        velocity, acceleration = self._limits.velocity * _SHARE, self._limits.acceleration * _SHARE
        apart, faster = np.abs(offset[0]), np.abs(offset[1])
        needed = np.max([1.875 * apart / velocity, np.sqrt(5.77 * apart / acceleration), 3.94 * faster / acceleration])
        return float(np.clip(needed, self._settings.blend_s, _LONGEST_FADE_S))


def _beyond(path: CubicSpline, along: FloatArray, end_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions and two derivatives, float64[K, 7] each, along a path that goes on straight after its end."""
    inside = np.minimum(along, end_s)
    slopes = path(inside, 1)
    positions = path(inside) + slopes * (along - inside)[:, None]
    return positions, slopes, np.where((along < end_s)[:, None], path(inside, 2), 0.0)


def _fade(offset: FloatArray, duration_s: float, times_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A quintic from a difference in position, velocity and acceleration to zero in all three.

    Args:
        offset: float64[3, 7].
        duration_s: Its duration.
        times_s: float64[K], times from its start.

    Returns:
        Positions and velocities, float64[K, 7] each.
    """
    share = np.clip(times_s / duration_s, 0.0, 1.0)[:, None]
    a, b, c = offset[0], offset[1] * duration_s, offset[2] * duration_s**2 / 2.0
    d, e, f = -(10.0 * a + 6.0 * b + 3.0 * c), 15.0 * a + 8.0 * b + 3.0 * c, -(6.0 * a + 3.0 * b + c)
    positions = a + share * (b + share * (c + share * (d + share * (e + share * f))))
    velocities = (b + share * (2.0 * c + share * (3.0 * d + share * (4.0 * e + share * 5.0 * f)))) / duration_s
    return np.where(share < 1.0, positions, 0.0), np.where(share < 1.0, velocities, 0.0)
