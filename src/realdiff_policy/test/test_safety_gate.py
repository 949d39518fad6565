"""The safety gate: nothing passes outside the limits, and its own stops stay within them.

The oracle below shares no code with the gate: it samples the controller's cubic densely and takes the hand from a chain
of homogeneous matrices written out here.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_policy.safety import Reason, SafetyGate, Trajectory, motion_limits, robot_config
from realdiff_policy.safety.checks import LONGEST_STEP_S, first_fault, violations
from realdiff_policy.safety.gate import VELOCITY_JUMP
from realdiff_policy.safety.limits import MotionLimits, urdf_limits

CONFIG = robot_config("fr3")
LIMITS = motion_limits(CONFIG)
HOME = np.array(CONFIG.home)
SECOND = 1_000_000_000


# -- the oracle ----------------------------------------------------------------------------------------------------


def hermite(step: np.ndarray, p0: np.ndarray, p1: np.ndarray, v0: np.ndarray, v1: np.ndarray, share: float):
    """Position, velocity and acceleration of the cubic at a share of the step, by its four basis functions."""
    u, h = share, step
    position = (
        (2 * u**3 - 3 * u**2 + 1) * p0
        + (u**3 - 2 * u**2 + u) * h * v0
        + (3 * u**2 - 2 * u**3) * p1
        + (u**3 - u**2) * h * v1
    )
    velocity = (6 * u**2 - 6 * u) * (p0 - p1) / h + (3 * u**2 - 4 * u + 1) * v0 + (3 * u**2 - 2 * u) * v1
    acceleration = ((12 * u - 6) * (p0 - p1) / h + (6 * u - 4) * v0 + (6 * u - 2) * v1) / h
    return position, velocity, acceleration


def fingertips(joints: np.ndarray) -> np.ndarray:
    """float64[..., 2, 3]: the two outermost points of the open fingers' tips, by a chain of 4×4 matrices."""
    transform = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4))
    rows = [
        (0, 0.333, 0),
        (0, 0, -90),
        (0, 0.316, 90),
        (0.0825, 0, 90),
        (-0.0825, 0.384, -90),
        (0, 0, 90),
        (0.088, 0, 90),
    ]
    for index, (a, d, degrees) in enumerate(rows):
        alpha, theta = np.deg2rad(degrees), joints[..., index]
        link = np.zeros((*joints.shape[:-1], 4, 4))
        link[..., 0, 0], link[..., 0, 1], link[..., 0, 3] = np.cos(theta), -np.sin(theta), a
        link[..., 1, 0], link[..., 1, 1] = np.sin(theta) * np.cos(alpha), np.cos(theta) * np.cos(alpha)
        link[..., 1, 2], link[..., 1, 3] = -np.sin(alpha), -d * np.sin(alpha)
        link[..., 2, 0], link[..., 2, 1] = np.sin(theta) * np.sin(alpha), np.cos(theta) * np.sin(alpha)
        link[..., 2, 2], link[..., 2, 3] = np.cos(alpha), d * np.cos(alpha)
        link[..., 3, 3] = 1.0
        transform = transform @ link
    yaw = -np.pi / 4
    hand = np.eye(4)
    hand[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    hand[2, 3] = 0.107
    points = np.array([[0.0, side * 0.0663, 0.1123, 1.0] for side in (-1, 1)])
    return np.einsum("...ij,pj->...pi", transform @ hand, points)[..., :3]


def excess(limits: MotionLimits, times: np.ndarray, positions: np.ndarray, velocities: np.ndarray, walls: int = 4):
    """By how much each trajectory [B] of a batch leaves the limits; ≤ 0 where it stays inside."""
    step = np.diff(times, axis=-1)[..., None]
    p0, p1, v0, v1 = positions[:, :-1], positions[:, 1:], velocities[:, :-1], velocities[:, 1:]
    worst = np.full(len(positions), -np.inf)
    offset, gain, upper, lower = limits.envelope
    shares = np.linspace(0.0, 1.0, 9)
    for index, share in enumerate(shares):
        position, velocity, acceleration = hermite(step, p0, p1, v0, v1, share)
        up, down = (
            np.clip((offset + np.sqrt(gain * np.maximum(room, 0))) * limits.envelope_share, 0, limits.velocity)
            for room in (upper - position, position - lower)
        )
        for over in (
            position - limits.upper,
            limits.lower - position,
            velocity - up,
            -velocity - down,
            np.abs(acceleration) - limits.acceleration,
        ):
            worst = np.maximum(worst, over.max(axis=(1, 2)))
        if index % (8 // walls) == 0:
            tips = fingertips(position)
            for over in (
                limits.finger_floor - tips[..., 2],
                (limits.box_lowest - tips).max(axis=-1),
                (tips - limits.box_highest).max(axis=-1),
            ):
                worst = np.maximum(worst, over.max(axis=(1, 2)))
    return worst


# -- random and adversarial actions ----------------------------------------------------------------------------------


def batch_of_actions(random: np.random.Generator, trajectories: int, points: int):
    """Trajectories that begin and end at rest somewhere in the cell; most go too far, too fast or too abruptly.

    Half of them lie on purpose close to a limit: a start at a joint's end, at the table or at a wall of the box.
    """
    starts = HOME + random.normal(0, 1, (trajectories, 7)) * random.choice([0.05, 0.3, 0.8], (trajectories, 1))
    at_end = random.random((trajectories, 7)) < 0.1
    ends = np.where(random.random((trajectories, 7)) < 0.5, LIMITS.lower, LIMITS.upper)
    starts = np.where(at_end, ends + random.normal(0, 0.01, ends.shape), starts)
    lowered = random.random(trajectories) < 0.3  # hand at the height of the table
    starts[lowered, 1] += random.uniform(0.2, 0.9, lowered.sum())
    step = random.choice([0.02, 0.05, 0.1], trajectories)
    times = step[:, None] * np.arange(points)
    scale = 10.0 ** random.uniform(-3, 0.7, (trajectories, 1, 1))
    speeds = np.cumsum(random.normal(0, 1, (trajectories, points, 7)), axis=1) * scale
    smooth = np.sin(np.linspace(0, np.pi, points)) ** 2
    kind = random.random((trajectories, 1, 1))
    speeds = np.where(kind < 0.7, scale * smooth[:, None] * random.normal(0, 1, (trajectories, 1, 7)), speeds)
    speeds[:, [0, -1]] = 0.0
    means = np.pad((speeds[:, 1:] + speeds[:, :-1]) / 2, ((0, 0), (1, 0), (0, 0)))
    positions = starts[:, None] + np.cumsum(means * step[:, None, None], axis=1)
    spiked = random.random(trajectories) < 0.1  # one joint of one point somewhere else
    where = random.integers(0, points, trajectories), random.integers(0, 7, trajectories)
    rows = np.flatnonzero(spiked)
    sizes = 10.0 ** random.uniform(-4, 2, len(rows))
    positions[rows, where[0][rows], where[1][rows]] += random.normal(0, 1, len(rows)) * sizes
    broken = np.flatnonzero(random.random(trajectories) < 0.02)
    values = np.array([np.nan, np.inf, -np.inf, 1e308])
    target = [positions, speeds]
    for row in broken:
        target[int(random.integers(2))][row, where[0][row], where[1][row]] = random.choice(values)
    return times, positions, speeds


def test_none_of_a_million_random_and_adversarial_actions_passes_outside_the_limits() -> None:
    random = np.random.default_rng(20)
    actions = accepted = close = 0
    began = time.process_time()
    while actions < 1_000_000:
        times, positions, velocities = batch_of_actions(random, 5_000, 10)
        with np.errstate(over="ignore", invalid="ignore"):
            passed = ~violations(LIMITS, times, positions, velocities).any
        actions += positions.shape[0] * positions.shape[1]
        if not passed.any():
            continue
        over = excess(LIMITS, times[passed], positions[passed], velocities[passed])
        assert over.max() <= 1e-6, f"a trajectory passed {over.max():.6f} outside the limits"
        accepted += int(passed.sum())
        close += int((over > -0.02).sum())
    print(f"{actions} actions, {accepted} trajectories passed, {close} of them close to a limit, "
          f"{time.process_time() - began:.0f} s")  # fmt: skip
    assert accepted > 5_000  # a gate that refuses everything would pass as well
    assert close > 1_000


def test_actions_well_inside_the_limits_pass() -> None:
    random = np.random.default_rng(5)
    times, positions, velocities = batch_of_actions(random, 20_000, 10)
    with np.errstate(over="ignore", invalid="ignore"):
        passed = ~violations(LIMITS, times, positions, velocities).any
        finite = np.isfinite(positions).all(axis=(1, 2)) & np.isfinite(velocities).all(axis=(1, 2))
        over = excess(LIMITS, times[finite], positions[finite], velocities[finite])
    inside = np.flatnonzero(finite)[over < -0.05]
    assert len(inside) > 100
    assert passed[inside].mean() > 0.95  # palm and links, which the oracle doesn't look at, may object


# -- single faults -----------------------------------------------------------------------------------------------------


def motion(amplitude: float, joint: int = 0, duration: float = 1.0, start: np.ndarray = HOME, points: int = 51):
    """A smooth motion of one joint from rest to rest, minimum jerk."""
    share = np.linspace(0, 1, points)
    positions = np.repeat(start[None], points, axis=0).copy()
    velocities = np.zeros_like(positions)
    positions[:, joint] += amplitude * share**3 * (10 - 15 * share + 6 * share**2)
    velocities[:, joint] = amplitude * 30 * share**2 * (1 - share) ** 2 / duration
    return Trajectory(0, share * duration, positions, velocities)


@pytest.mark.parametrize(
    ("amplitude", "joint", "duration", "reason"),
    [
        (0.3, 0, 1.0, None),
        (0.3, 0, 0.3, Reason.JOINT_ACCELERATION),
        (1.9, 4, 0.9, Reason.JOINT_ACCELERATION),
        (-1.1, 5, 2.0, Reason.JOINT_VELOCITY),
        (-0.8, 1, 2.0, Reason.WORKSPACE),
        (2.8, 4, 12.0, Reason.JOINT_POSITION),
        (1.5, 1, 3.0, Reason.TABLE),
        (1.4, 0, 2.0, Reason.WORKSPACE),
    ],
)
def test_single_faults_are_found_and_named(
    amplitude: float, joint: int, duration: float, reason: Reason | None
) -> None:
    trial = motion(amplitude, joint, duration, points=round(duration * 50) + 1)
    found = first_fault(LIMITS, trial.times_s, trial.positions, trial.velocities)
    assert (found[0].reason if found else None) == reason
    if found and reason is not Reason.TABLE and reason is not Reason.WORKSPACE:
        assert f"fr3_joint{joint + 1}" in found[0].text


def test_velocity_limit_and_its_envelope() -> None:
    from dataclasses import replace

    free = replace(LIMITS, acceleration=np.full(7, 1e3), box_lowest=np.full(3, -9.0), box_highest=np.full(3, 9.0))
    middle = motion(1.0, 4, 0.36, points=19)  # 5.2 rad/s at its peak
    assert first_fault(free, middle.times_s, middle.positions, middle.velocities)[0].reason is Reason.JOINT_VELOCITY
    slower = motion(1.0, 4, 0.5, points=26)  # 3.75 rad/s
    assert first_fault(free, slower.times_s, slower.positions, slower.velocities) is None
    near_the_end = HOME.copy()
    near_the_end[4] = 1.75  # the same motion up to 2.75 rad, 0.06 before the envelope's end
    towards = motion(1.0, 4, 0.5, near_the_end, points=26)
    assert first_fault(free, towards.times_s, towards.positions, towards.velocities)[0].reason is Reason.JOINT_VELOCITY


def test_nan_and_malformed_trajectories() -> None:
    for spoil, reason in (
        (lambda t: t.positions.__setitem__((3, 2), np.nan), Reason.NOT_FINITE),
        (lambda t: t.velocities.__setitem__((3, 2), np.inf), Reason.NOT_FINITE),
        (lambda t: t.times_s.__setitem__(3, np.nan), Reason.NOT_FINITE),
        (lambda t: t.times_s.__setitem__(3, t.times_s[2]), Reason.MALFORMED),
        (lambda t: t.velocities.__setitem__((-1, 0), 0.01), Reason.MALFORMED),
    ):
        trial = motion(0.1)
        spoil(trial)
        gate = SafetyGate(LIMITS)
        assert gate.start(HOME, 0) is None
        fault = gate.submit(trial, 0)
        assert fault is not None
        assert fault.reason is reason
        assert np.array_equal(gate.active.sample(SECOND)[0], HOME)
    sparse = motion(0.05, points=6, duration=1.0)
    assert np.diff(sparse.times_s).min() > LONGEST_STEP_S
    assert first_fault(LIMITS, sparse.times_s, sparse.positions, sparse.velocities)[0].reason is Reason.MALFORMED


def test_jumps_are_refused() -> None:
    gate = SafetyGate(LIMITS)
    gate.start(HOME, 0)
    assert gate.submit(motion(0.1, start=HOME + 0.01), 0).reason is Reason.JUMP
    assert gate.submit(motion(0.3), 0) is None
    now = SECOND // 2
    at, speed = gate.active.sample(now)
    assert abs(speed[0]) > VELOCITY_JUMP * LIMITS.velocity[0] * 2
    halted = motion(0.1, start=at)  # the right place, but at rest
    assert gate.submit(Trajectory(now, halted.times_s, halted.positions, halted.velocities), now).reason is Reason.JUMP
    later = motion(0.1)
    later = Trajectory(now + 1, later.times_s, later.positions, later.velocities)
    assert gate.submit(later, now).reason is Reason.MALFORMED


def test_an_arm_outside_its_limits_is_not_moved() -> None:
    gate = SafetyGate(LIMITS)
    outside = HOME.copy()
    outside[5] = 4.51
    fault = gate.start(outside, 0)
    assert fault is not None
    assert "stands outside" in fault.text
    assert not gate.started


# -- stops ----------------------------------------------------------------------------------------------------------


def test_stops_stay_within_the_limits_and_on_the_path() -> None:
    random = np.random.default_rng(8)
    longest, tried = 0.0, 0
    for _ in range(400):
        trial = motion(random.uniform(-0.5, 0.5), int(random.integers(7)), random.uniform(0.6, 1.5))
        gate = SafetyGate(LIMITS)
        gate.start(HOME, 0)
        if gate.submit(trial, 0) is not None:
            continue
        tried += 1
        now = int(random.uniform(0, trial.times_s[-1]) * 1e9)
        at, speed = gate.active.sample(now)
        stop = gate.stop(now)
        assert gate.active is stop
        first_position, first_velocity = stop.sample(now)
        assert np.allclose(first_position, at, atol=1e-9)
        assert np.allclose(first_velocity, speed, atol=1e-9)
        end = stop.sample(stop.end_ns)
        assert np.all(end[1] == 0.0)
        if len(stop.times_s) > 1:
            over = excess(LIMITS, stop.times_s[None], stop.positions[None], stop.velocities[None])
            assert over.max() <= 1e-6
        # On the path: the moving joint ends between where it was and where it would have gone.
        low, high = np.minimum(at, trial.positions[-1]) - 1e-9, np.maximum(at, trial.positions[-1]) + 1e-9
        assert np.all((end[0] >= low) & (end[0] <= high))
        longest = max(longest, float(stop.times_s[-1]))
    assert tried > 200
    assert longest <= 0.8
    assert longest >= 0.1


def test_a_stop_at_the_limits_edge_falls_back_to_the_accepted_end() -> None:
    """At the acceleration limit there is no room to brake harder: the accepted trajectory ends the motion."""
    fastest = next(
        trial
        for duration in np.arange(0.2, 2.0, 0.002)
        if first_fault(LIMITS, (trial := motion(0.3, 0, duration)).times_s, trial.positions, trial.velocities) is None
    )
    for now in np.linspace(0, fastest.end_ns, 30).astype(int):
        gate = SafetyGate(LIMITS)
        gate.start(HOME, 0)
        assert gate.submit(fastest, 0) is None
        stop = gate.stop(int(now))
        if len(stop.times_s) > 1:
            assert excess(LIMITS, stop.times_s[None], stop.positions[None], stop.velocities[None]).max() <= 1e-6
        assert np.all(stop.sample(stop.end_ns)[1] == 0.0)


# -- limits from the robot itself ------------------------------------------------------------------------------------


def urdf(**limits: str) -> str:
    joints = "".join(
        f'<joint name="fr3_joint{i}" type="revolute"><limit lower="{limits.get("lower", "-1.0")}" upper="1.0" '
        f'velocity="2.0" effort="87"/></joint>'
        for i in range(1, 8)
    )
    return f'<robot name="fr3">{joints}</robot>'


def test_limits_come_from_the_urdf_where_it_is_given() -> None:
    limits = motion_limits(CONFIG, urdf())
    assert np.allclose(limits.lower, -1.0 + CONFIG.margins.position)
    assert np.allclose(limits.velocity, 2.0 * CONFIG.margins.velocity)
    assert np.allclose(limits.acceleration, LIMITS.acceleration)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot", "isn't XML"),
        ("<robot/>", "lacks joint limits"),
        (urdf().replace("fr3_", "panda_"), "fr3_joint1"),
        (urdf(lower="minus one"), "isn't a number"),
    ],
)
def test_a_wrong_urdf_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        urdf_limits(text)
