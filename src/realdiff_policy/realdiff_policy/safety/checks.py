"""Checks of whole trajectories against the limits: exact for the cubic curves that the controller follows.

Written over a leading batch axis, so that one call checks one trajectory or ten thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.safety.kinematics import FINGERTIP_COUNT, REACH_M, SPHERE_RADII, forward
from realdiff_policy.safety.limits import MotionLimits
from realdiff_policy.safety.reasons import Fault, Reason

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ROUNDING = 1e-9
"""Rounding errors of positions, velocities, … that count as equal to a limit."""

LONGEST_STEP_S = 0.1
"""Points of a trajectory are at most this far apart; between them the hand is bounded, not computed."""


_SENSELESS = (Reason.NOT_FINITE, Reason.MALFORMED)


@dataclass(frozen=True)
class Violations:
    """What is violated, and where; each array is bool[B, S] over a batch's S segments (or its single points).

    Attributes:
        masks: By reason, in the order in which they are reported.
        joints: By reason of a joint, int[B, S]: the worst joint's index.
    """

    masks: dict[Reason, BoolArray]
    joints: dict[Reason, NDArray[np.int64]]

    @property
    def any(self) -> BoolArray:
        """bool[B], whether a trajectory violates anything."""
        return np.any(np.stack([np.any(mask, axis=-1) for mask in self.masks.values()]), axis=0)


def violations(limits: MotionLimits, times_s: FloatArray, positions: FloatArray, velocities: FloatArray) -> Violations:
    """Finds violations of a batch of trajectories.

    Args:
        limits: The limits.
        times_s: float64[N] or float64[B, N], times of the points, N ≥ 1.
        positions: float64[B, N, 7] [rad].
        velocities: float64[B, N, 7] [rad/s].

    Returns:
        The violations; a trajectory with numbers that aren't finite, or times that don't increase, violates at least
        that.
    """
    times_s = np.broadcast_to(times_s, positions.shape[:2])
    finite = np.isfinite(times_s) & np.all(np.isfinite(positions) & np.isfinite(velocities), axis=-1)
    times_s = np.where(finite, times_s, 0.0)
    positions, velocities = (np.where(finite[..., None], values, 0.0) for values in (positions, velocities))
    if positions.shape[1] == 1:  # a single point: the arm stays there
        times_s = np.concatenate([times_s, times_s + LONGEST_STEP_S], axis=1)
        positions, velocities = (np.repeat(values, 2, axis=1) for values in (positions, velocities))
        finite = np.repeat(finite, 2, axis=1)
    step = np.diff(times_s, axis=1)
    ordered = (step > 0.0) & (step <= LONGEST_STEP_S + ROUNDING)
    peaks = _Peaks.of(np.where(ordered, step, LONGEST_STEP_S)[..., None], positions, velocities)
    slowest, fastest = limits.velocity_range(positions)
    slowest = np.maximum(slowest[:, :-1], slowest[:, 1:])
    fastest = np.minimum(fastest[:, :-1], fastest[:, 1:])
    excess = {
        Reason.JOINT_POSITION: np.maximum(limits.lower - peaks.lowest, peaks.highest - limits.upper),
        Reason.JOINT_VELOCITY: np.maximum(slowest - peaks.slowest, peaks.fastest - fastest),
        Reason.JOINT_ACCELERATION: peaks.acceleration - limits.acceleration,
    }
    masks = {Reason.NOT_FINITE: ~(finite[:, :-1] & finite[:, 1:]), Reason.MALFORMED: ~ordered}
    masks |= {reason: np.any(over > ROUNDING, axis=-1) for reason, over in excess.items()}
    masks |= _walls(limits, step, positions, peaks)
    at_rest = np.all(np.abs(velocities[:, -1]) <= ROUNDING, axis=-1)
    masks[Reason.MALFORMED][:, -1] |= ~at_rest
    return Violations(masks, {reason: np.argmax(over, axis=-1) for reason, over in excess.items()})


@dataclass(frozen=True)
class _Peaks:
    """Bounds of each cubic segment and joint, float64[B, S, 7]; exact but for the positions' (the control polygon)."""

    lowest: FloatArray
    highest: FloatArray
    slowest: FloatArray
    fastest: FloatArray
    acceleration: FloatArray

    @classmethod
    def of(cls, step: FloatArray, positions: FloatArray, velocities: FloatArray) -> _Peaks:
        p0, p1, v0, v1 = positions[:, :-1], positions[:, 1:], velocities[:, :-1], velocities[:, 1:]
        slope = (p1 - p0) / step
        quadratic = (3.0 * slope - 2.0 * v0 - v1) / step
        cubic = (v0 + v1 - 2.0 * slope) / step**2
        # A cubic lies within its Bézier control points.
        polygon = np.stack([p0, p0 + v0 * step / 3.0, p1 - v1 * step / 3.0, p1])
        # The velocity is a parabola: extreme at its ends, or at its vertex where that lies between them.
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = -quadratic / (3.0 * cubic)
            inside = (vertex > 0.0) & (vertex < step)
            extreme = np.where(inside, v0 + quadratic * vertex, v0)
        speeds = np.stack([v0, v1, extreme])
        acceleration = np.maximum(np.abs(2.0 * quadratic), np.abs(2.0 * quadratic + 6.0 * cubic * step))
        return cls(polygon.min(0), polygon.max(0), speeds.min(0), speeds.max(0), acceleration)


def _walls(limits: MotionLimits, step: FloatArray, positions: FloatArray, peaks: _Peaks) -> dict[Reason, BoolArray]:
    """Box and table: both are convex, so a path between two points inside leaves them by no more than its sagitta."""
    frames = forward(positions)
    hand, spheres = frames.hand_points, frames.sphere_centres
    lowest, highest = hand.min(axis=-2), hand.max(axis=-2)
    fingers = hand[..., :FINGERTIP_COUNT, 2].min(axis=-1)
    others = np.minimum(hand[..., FINGERTIP_COUNT:, 2].min(-1), (spheres[..., 2] - SPHERE_RADII).min(-1))
    # |p''| ≤ r·Σ|q''| + r·(Σ|q'|)², and a curve is at most |p''|·h²/8 away from its chord.
    speed = np.sum(np.maximum(np.abs(peaks.slowest), np.abs(peaks.fastest)), axis=-1)
    sagitta = REACH_M * (np.sum(peaks.acceleration, axis=-1) + speed**2) * step**2 / 8.0
    low, high = np.minimum(lowest[:, :-1], lowest[:, 1:]), np.maximum(highest[:, :-1], highest[:, 1:])
    outside = np.any(low - sagitta[..., None] < limits.box_lowest - ROUNDING, axis=-1)
    outside |= np.any(high + sagitta[..., None] > limits.box_highest + ROUNDING, axis=-1)
    below = np.minimum(fingers[:, :-1], fingers[:, 1:]) - sagitta < limits.finger_floor - ROUNDING
    below |= np.minimum(others[:, :-1], others[:, 1:]) - sagitta < limits.arm_floor - ROUNDING
    return {Reason.TABLE: below, Reason.WORKSPACE: outside}


def first_fault(
    limits: MotionLimits, times_s: FloatArray, positions: FloatArray, velocities: FloatArray
) -> tuple[Fault, float] | None:
    """Returns what a single trajectory violates first, and when [s]; None if nothing.

    Args:
        limits: The limits.
        times_s: float64[N].
        positions: float64[N, 7] [rad].
        velocities: float64[N, 7] [rad/s].
    """
    found = violations(limits, times_s, positions[None], velocities[None])
    if not found.any[0]:
        return None
    # Where numbers make no sense the rest of what was found makes none either.
    index, _, reason = min(
        (int(np.argmax(mask[0])) if reason not in _SENSELESS else -1, order, reason)
        for order, (reason, mask) in enumerate(found.masks.items())
        if np.any(mask[0])
    )
    index = max(index, int(np.argmax(found.masks[reason][0])))
    time_s = float(times_s[index]) if np.isfinite(times_s[index]) else 0.0
    return Fault(reason, _describe(limits, reason, found, index, positions, velocities, time_s)), time_s


def _describe(
    limits: MotionLimits,
    reason: Reason,
    found: Violations,
    index: int,
    positions: FloatArray,
    velocities: FloatArray,
    time_s: float,
) -> str:
    when = f"{time_s:.2f} s into the trajectory"
    if reason is Reason.NOT_FINITE:
        return f"an action holds NaN or infinity, {when}"
    if reason is Reason.MALFORMED:
        return f"times don't increase in steps of at most {LONGEST_STEP_S:g} s, or the arm is not at rest at the end"
    after = min(index + 1, len(positions) - 1)
    if reason in (Reason.TABLE, Reason.WORKSPACE):
        frames = forward(positions[after])
        x, y, z = frames.tcp
        where = f"fr3_hand_tcp near ({x:.3f}, {y:.3f}, {z:.3f}) m"
        if reason is Reason.TABLE:
            floors = f"{limits.arm_floor:.3f} m (fingertips {limits.finger_floor:.3f} m)"
            return f"hand or arm would go below {floors}, {where}, {when}"
        return (
            f"the hand would leave the box {limits.box_lowest.round(3).tolist()} … "
            f"{limits.box_highest.round(3).tolist()} m, {where}, {when}"
        )
    joint = int(found.joints[reason][0, index])
    name = ARM_JOINTS[joint]
    if reason is Reason.JOINT_POSITION:
        return (
            f"{name} would go to {positions[after, joint]:.4f} rad, allowed {limits.lower[joint]:.4f} … "
            f"{limits.upper[joint]:.4f}, {when}"
        )
    if reason is Reason.JOINT_VELOCITY:
        slowest, fastest = limits.velocity_range(positions[after])
        return (
            f"{name} would go at {velocities[after, joint]:.3f} rad/s at {positions[after, joint]:.3f} rad, allowed "
            f"{slowest[joint]:.3f} … {fastest[joint]:.3f}, {when}"
        )
    return f"{name} would accelerate by more than {limits.acceleration[joint]:.2f} rad/s², {when}"
