"""The run time in lockstep with simulated time: smooth joins, limits, latency, recovery."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from realdiff_policy.contract import Observation
from realdiff_policy.runtime import InProcessInference, PolicyRunner, RunState, RuntimeSettings
from realdiff_policy.runtime.observations import ObservationBuffer
from realdiff_policy.safety import Reason, robot_config
from realdiff_policy.safety.gate import VELOCITY_JUMP
from scripted_policy import HOME, MS, PerfectArm, SwingPolicy, swing
from test_safety_gate import excess

ROBOT = robot_config("fr3")
STEP_NS = 20 * MS
START_NS = 1_000 * MS


class Rollout:
    """Steps a runner at 50 Hz with a camera at 20 Hz, and keeps what it commanded, at 1 kHz."""

    def __init__(self, policy, robot=ROBOT, **settings) -> None:
        self.policy = policy
        self.runner = PolicyRunner(policy.contract, InProcessInference(policy), robot, RuntimeSettings(**settings))
        self.arm = PerfectArm()
        self.now_ns = START_NS
        self.moments: list[int] = []
        self.positions: list[np.ndarray] = []
        self.velocities: list[np.ndarray] = []
        self.widths: list[float] = []
        self.accepted: dict[int, object] = {}
        self.camera = True

    def run(self, seconds: float, each: Callable[[Rollout], None] | None = None) -> Rollout:
        for _ in range(round(seconds * 50)):
            if each is not None:
                each(self)
            self.step()
        return self

    def step(self) -> None:
        runner = self.runner
        runner.observe_joints(self.now_ns, self.arm.joints)
        runner.observe_gripper(self.now_ns, self.arm.width)
        if self.camera and (self.now_ns - START_NS) % (50 * MS) < STEP_NS:
            runner.observe_colour(self.now_ns, self.arm.picture())
            runner.observe_depth(self.now_ns, self.arm.depth())
        command = runner.command(self.now_ns, steady_s=self.now_ns * 1e-9)
        if command is not None:
            self.accepted[runner.revision] = runner.trajectory
            moments = self.now_ns + MS * np.arange(20)
            positions, velocities, _ = runner.trajectory.sample_many((moments - runner.trajectory.start_ns) * 1e-9)
            self.moments += moments.tolist()
            self.positions += list(positions)
            self.velocities += list(velocities)
            self.widths.append(command.gripper_width)
            self.arm.joints = runner.trajectory.sample(self.now_ns + STEP_NS)[0]
        self.now_ns += STEP_NS

    def jumps(self) -> np.ndarray:
        """float64[K, 7]: by what velocities change in 1 ms beyond the allowed acceleration, per velocity limit."""
        change = np.abs(np.diff(np.array(self.velocities), axis=0))
        return np.maximum(change - self.runner.limits.acceleration * 1e-3, 0.0) / self.runner.limits.velocity


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"latency_s": 0.08},
        {"latency_s": 0.08, "lead_s": 0.04},
        {"ensemble": "average", "execute": 2, "latency_s": 0.04},
    ],
    ids=["instant", "latency", "latency and lead", "ensemble"],
)
def test_chunks_join_smoothly_within_all_limits(settings: dict) -> None:
    rollout = Rollout(SwingPolicy(noise_rad=0.03), **settings).run(20.0)
    runner = rollout.runner
    assert runner.state is RunState.RUNNING
    assert runner.statistics.chunks >= 20
    assert runner.statistics.holds == 0
    # Joins are where velocities could jump; what is measured is every millisecond of what the controller follows.
    worst = max(rollout.jumps().max(), *runner.statistics.join_velocity_jump)
    print(f"{settings}: {runner.statistics.chunks} joins, worst velocity jump {100 * worst:.4f} % of the limit")
    assert worst <= VELOCITY_JUMP
    steps = np.abs(np.diff(np.array(rollout.positions), axis=0))
    assert steps.max() < 2.0 * 1e-3 * runner.limits.velocity.max()
    for trajectory in rollout.accepted.values():
        if len(trajectory.times_s) > 1:
            over = excess(
                runner.limits, trajectory.times_s[None], trajectory.positions[None], trajectory.velocities[None]
            )
            assert over.max() <= 1e-6


def test_follows_the_policy_on_its_clock() -> None:
    """Without noise the arm is where the policy's rows say, at the time they say, latency or not."""
    for settings in ({}, {"latency_s": 0.1, "lead_s": 0.04}):
        rollout = Rollout(SwingPolicy(), **settings).run(12.0)
        moments = (np.array(rollout.moments) - rollout.policy.began_ns) * 1e-9
        wanted = swing(moments)[:, :7]
        settled = moments > 2.0
        error = np.abs(np.array(rollout.positions) - wanted)[settled].max()
        assert error < 0.012, settings


def test_observations_have_their_history_and_the_contracts_size() -> None:
    policy = SwingPolicy()
    Rollout(policy).run(2.0)
    first, second = policy.observations[:2]
    assert first.colour.shape == (2, 24, 32, 3)
    assert np.array_equal(first.colour[0], first.colour[1])  # nothing older yet
    assert not np.array_equal(second.colour[0], second.colour[1])
    assert np.allclose(first.state[1], [*HOME, 0.08])
    assert second.stamp_ns - first.stamp_ns == 800 * MS  # eight rows at 10 Hz


def test_the_gripper_opens_and_closes_without_chatter() -> None:
    policy = SwingPolicy()
    original = policy.predict

    def flickering(observation: Observation, seed: int) -> np.ndarray:
        rows = original(observation, seed)
        rows[:, 7] += np.random.default_rng(seed).uniform(-0.02, 0.02, len(rows))
        return rows

    policy.predict = flickering
    rollout = Rollout(policy).run(12.0)
    changes = np.flatnonzero(np.diff(rollout.widths)) * 0.02
    assert 4 <= len(changes) <= 6  # every 2 s
    assert np.diff(changes).min() > 1.5


def test_end_effector_actions_reach_their_poses() -> None:
    from realdiff_policy.safety.kinematics import forward

    poses = []

    class Circle(SwingPolicy):
        def predict(self, observation: Observation, seed: int) -> np.ndarray:
            if self.began_ns is None:
                self.began_ns = observation.stamp_ns
            times = (observation.stamp_ns - self.began_ns) * 1e-9 + np.arange(1, 16) / 10.0
            start = forward(HOME)
            angle = 0.8 * np.minimum(times, 8.0)
            position = start.tcp + 0.08 * np.column_stack([np.sin(angle), 1 - np.cos(angle), 0 * angle])
            poses.append(position[-1])
            turn = np.tile(start.rotations[7].T[:2].ravel(), (15, 1))
            return np.column_stack([position, turn, np.full(15, 0.08)])

    rollout = Rollout(Circle(space="end_effector")).run(14.0)
    assert rollout.runner.statistics.holds == 0
    reached = forward(rollout.positions[-1])
    assert np.linalg.norm(reached.tcp - poses[-1]) < 0.003
    assert np.allclose(reached.rotations[7], forward(HOME).rotations[7], atol=0.02)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda rows: rows.__setitem__((4, 3), np.nan), Reason.NOT_FINITE),
        (lambda rows: rows.__setitem__((slice(None), 0), rows[:, 0] + 2.0), Reason.JUMP),
        (lambda rows: rows.__setitem__((slice(None), 0), 1e300), Reason.JUMP),
        (lambda rows: rows.resize((3, 8), refcheck=False), Reason.MALFORMED),
    ],
)
def test_a_bad_action_ends_in_a_hold_and_the_run_goes_on(spoil: Callable, reason: Reason) -> None:
    policy = SwingPolicy()
    original = policy.predict
    calls = []

    def sometimes(observation: Observation, seed: int) -> np.ndarray:
        rows = original(observation, seed)
        calls.append(seed)
        if len(calls) == 4:
            spoil(rows)
        return rows

    policy.predict = sometimes
    seen = []
    rollout = Rollout(policy)
    rollout.run(8.0, lambda r: seen.append((r.runner.state, tuple(r.runner.faults))))
    held = [faults for state, faults in seen if state is RunState.HOLD]
    assert held
    assert held[0][0].reason is reason
    assert rollout.runner.state is RunState.RUNNING
    assert rollout.runner.statistics.rejected == 1
    assert rollout.jumps().max() <= VELOCITY_JUMP


def test_a_policy_that_leads_out_of_the_cell_is_stopped_at_its_edge() -> None:
    class Outwards(SwingPolicy):
        def predict(self, observation: Observation, seed: int) -> np.ndarray:
            here = observation.state[-1]
            rows = np.tile(here, (15, 1))
            rows[:, 0] += 0.04 * np.arange(1, 16)  # turns towards the side wall of the box
            return rows

    rollout = Rollout(Outwards(), most_holds=1000).run(8.0)
    assert rollout.runner.statistics.shortened > 0
    for trajectory in rollout.accepted.values():
        if len(trajectory.times_s) > 1:
            over = excess(
                rollout.runner.limits, trajectory.times_s[None], trajectory.positions[None], trajectory.velocities[None]
            )
            assert over.max() <= 1e-6
    moved = rollout.positions[-1][0] - HOME[0]
    assert 0.3 < moved < 1.3  # it did go there, and no farther


@pytest.mark.parametrize("seed", range(4))
def test_adversarial_chunks_in_a_closed_loop_never_leave_the_limits(seed: int) -> None:
    """Whole chunks of nonsense, one after the other: what is followed stays within the limits at every millisecond."""
    random = np.random.default_rng(seed)

    class Adversary(SwingPolicy):
        def predict(self, observation: Observation, number: int) -> np.ndarray:
            here = observation.state[-1]
            size = 10.0 ** random.uniform(-2.5, 1.0)
            rows = here + np.zeros((15, 8))
            kind = random.integers(5)
            if kind == 0:
                rows[:, :7] += random.normal(0, size, (15, 7))
            elif kind == 1:
                rows[:, :7] += np.cumsum(random.normal(0, 0.3 * size, (15, 7)), axis=0)
            elif kind == 2:
                rows[:, :7] += np.linspace(0, 1, 15)[:, None] * random.normal(0, size, 7)
            elif kind == 3:
                rows[:, :7] = np.where(random.random(7) < 0.5, rows[:, :7], random.uniform(-4, 4, 7))
            else:
                rows[random.integers(15), random.integers(8)] = random.choice([np.nan, np.inf, 1e6])
            return rows

    rollout = Rollout(Adversary(), recover_after_s=0.02, most_holds=100_000).run(20.0)
    limits = rollout.runner.limits
    assert rollout.runner.statistics.rejected > 5
    assert rollout.runner.statistics.chunks > 5
    positions, velocities = np.array(rollout.positions), np.array(rollout.velocities)
    assert np.all(positions >= limits.lower - 1e-6)
    assert np.all(positions <= limits.upper + 1e-6)
    assert np.all(np.abs(velocities) <= limits.velocity + 1e-6)
    assert np.all(np.abs(np.diff(velocities, axis=0)) <= limits.acceleration * 1e-3 + VELOCITY_JUMP * limits.velocity)
    for trajectory in rollout.accepted.values():
        if len(trajectory.times_s) > 1:
            over = excess(limits, trajectory.times_s[None], trajectory.positions[None], trajectory.velocities[None])
            assert over.max() <= 1e-6


# -- inputs that fail --------------------------------------------------------------------------------------------------


def run_fault(change: Callable[[Rollout], None], restore: Callable[[Rollout], None], **settings):
    """Runs, breaks something at 3 s, mends it at 5 s; returns the rollout and when it held, for what, until when."""
    rollout = Rollout(SwingPolicy(), **settings).run(3.0)
    assert rollout.runner.state is RunState.RUNNING
    change(rollout)
    broken_ns, held, text = rollout.now_ns, None, ""
    for _ in range(100):
        rollout.step()
        if held is None and rollout.runner.state is RunState.HOLD:
            held, text = (rollout.now_ns - broken_ns) * 1e-9, str(rollout.runner.faults[0])
    assert rollout.runner.state is RunState.HOLD
    assert np.allclose(rollout.velocities[-1], 0.0)
    restore(rollout)
    rollout.run(3.0)
    assert rollout.runner.state is RunState.RUNNING
    assert rollout.jumps().max() <= VELOCITY_JUMP
    return held, text


def test_a_camera_that_stops() -> None:
    def stop(rollout: Rollout) -> None:
        rollout.camera = False

    def go(rollout: Rollout) -> None:
        rollout.camera = True

    held, text = run_fault(stop, go)
    assert held <= 0.3 + 0.05 + 0.02
    assert text.startswith("image_stale: colour images")


def test_frozen_frames() -> None:
    def freeze(rollout: Rollout) -> None:
        picture = rollout.arm.picture()
        rollout.arm.picture = lambda: picture

    def thaw(rollout: Rollout) -> None:
        rollout.arm = (lambda old, new: (setattr(new, "joints", old.joints), new)[1])(rollout.arm, PerfectArm())

    held, text = run_fault(freeze, thaw)
    assert held <= 0.4 + 0.2
    assert text.startswith("image_frozen: colour images")


def test_a_still_scene_of_a_clean_simulation_is_not_frozen() -> None:
    class Still(SwingPolicy):
        def predict(self, observation: Observation, seed: int) -> np.ndarray:
            return np.tile(observation.state[-1], (15, 1))

    rollout = Rollout(Still())
    picture, depth = rollout.arm.picture(), rollout.arm.depth()
    rollout.arm.picture, rollout.arm.depth = (lambda: picture), (lambda: depth)
    assert rollout.run(4.0).runner.statistics.holds == 0
    noisy = Rollout(Still())
    noisy.runner.watch.noisy = True
    noisy.arm.picture, noisy.arm.depth = (lambda: picture), (lambda: depth)
    assert noisy.run(4.0).runner.faults[0].reason is Reason.IMAGE_FROZEN


def test_joint_states_that_stop() -> None:
    def stop(rollout: Rollout) -> None:
        rollout.runner.observe_joints = lambda *_: None

    def go(rollout: Rollout) -> None:
        del rollout.runner.observe_joints

    held, text = run_fault(stop, go)
    assert held <= 0.2 + 0.04
    assert text.startswith("joints_stale")


ELSEWHERE = np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_an_arm_that_is_elsewhere() -> None:
    rollout = Rollout(SwingPolicy()).run(3.0)
    runner, real = rollout.runner, rollout.runner.observe_joints
    runner.observe_joints = lambda stamp, joints: real(stamp, HOME + ELSEWHERE)
    rollout.run(0.1)
    assert runner.faults[0].reason is Reason.TRACKING
    for _ in range(100):
        rollout.step()
        if runner.state is RunState.RUNNING:
            break
    assert runner.state is RunState.RUNNING, runner.faults
    # It goes on from where the arm is found, not from where it was commanded to be.
    assert np.allclose(runner.trajectory.positions[0], HOME + ELSEWHERE, atol=0.01)


def test_a_clock_that_jumps_back() -> None:
    rollout = Rollout(SwingPolicy()).run(3.0)
    before = rollout.positions[-1]
    rollout.now_ns -= 2_000 * MS
    rollout.policy.began_ns -= 2_000 * MS
    rollout.step()
    assert rollout.runner.state is RunState.HOLD
    assert "jumped back by 1.98 s" in str(rollout.runner.faults[0])
    assert np.allclose(rollout.runner.trajectory.sample(rollout.now_ns)[0], before, atol=0.03)
    rollout.run(1.5)
    assert rollout.runner.state is RunState.RUNNING


def test_a_clock_that_stands_still() -> None:
    rollout = Rollout(SwingPolicy()).run(3.0)
    runner = rollout.runner
    steady = rollout.now_ns * 1e-9
    for moment in np.arange(0.0, 2.5, 0.1):
        runner.step(rollout.now_ns, steady + moment)
    assert runner.state is RunState.HOLD
    assert runner.faults[0].reason is Reason.CLOCK


def test_a_silent_policy_and_its_missed_deadline() -> None:
    rollout = Rollout(SwingPolicy(), latency_s=1.2, policy_timeout_s=1.0).run(3.0)
    assert any(fault.reason is Reason.POLICY_SILENT for fault in rollout.runner.faults)
    late = Rollout(SwingPolicy(), latency_s=0.0).run(3.0)
    late.runner.settings = late.runner.settings.model_copy(update={"latency_s": 0.3})
    late.run(2.0)
    assert late.runner.statistics.missed_deadlines == 1  # the first; then the latency is known and compensated
    assert late.runner.statistics.holds == 0


def test_reported_faults_hold_until_they_are_cleared_and_too_many_holds_stop() -> None:
    from realdiff_policy.safety import Fault

    rollout = Rollout(SwingPolicy(), most_holds=2).run(2.0)
    for number in range(3):
        rollout.runner.report(Fault(Reason.GRIPPER, "the goal was rejected"))
        rollout.run(0.1)
        assert rollout.runner.state is (RunState.HOLD if number < 2 else RunState.STOPPED)
        rollout.runner.clear(Reason.GRIPPER)
        rollout.run(1.5)
    assert rollout.runner.state is RunState.STOPPED
    rollout.runner.reset()
    rollout.run(0.5)
    assert rollout.runner.state is RunState.RUNNING


def test_a_policy_begins_with_an_arm_at_rest() -> None:
    rollout = Rollout(SwingPolicy())

    def drift(rollout: Rollout) -> None:
        rollout.arm.joints = rollout.arm.joints + np.array([0.0, 0.0, 0.0, 0.0, 0.004, 0.0, 0.0])  # 0.2 rad/s

    rollout.run(0.04)
    rollout.runner.reset()
    rollout.runner.observe_joints(rollout.now_ns - 1, rollout.arm.joints)
    rollout.run(0.6, drift)
    assert rollout.runner.state is RunState.INACTIVE
    assert str(rollout.runner.faults[0]).startswith("tracking: the arm still moves")
    rollout.run(0.4)
    assert rollout.runner.state is RunState.RUNNING


def test_two_states_of_a_moving_arm_are_not_rest_however_close() -> None:
    for apart_ms, speed, rest in ((5, 0.1, False), (5, 0.01, True), (140, 0.1, False), (140, 0.01, True)):
        buffer = ObservationBuffer(Rollout(SwingPolicy()).runner.contract, 0.02)
        buffer.add_joints(10**9, np.zeros(7))
        assert not buffer.at_rest()  # one state tells nothing
        buffer.add_joints(10**9 + apart_ms * 10**6, np.full(7, speed * apart_ms * 1e-3))
        assert buffer.at_rest() == rest, (apart_ms, speed)


def test_a_long_hold_becomes_a_stop() -> None:
    rollout = Rollout(SwingPolicy(), stop_after_s=2.0).run(2.0)
    rollout.camera = False
    rollout.run(3.0)
    assert rollout.runner.state is RunState.STOPPED


def test_a_policy_that_raises() -> None:
    policy = SwingPolicy()

    def fail(observation: Observation, seed: int) -> np.ndarray:
        raise RuntimeError("out of memory")

    rollout = Rollout(policy).run(1.0)
    policy.predict = fail
    rollout.run(1.0)
    assert rollout.runner.faults[0].reason is Reason.POLICY_FAILED
    assert "out of memory" in rollout.runner.faults[0].text


def test_colour_and_depth_that_never_belong_together() -> None:
    rollout = Rollout(SwingPolicy(), sync_tolerance_s=0.008)
    real = rollout.runner.observe_depth
    rollout.runner.observe_depth = lambda stamp, depth: real(stamp - 30 * MS, depth)
    rollout.run(1.0)
    assert rollout.runner.state is RunState.INACTIVE
    assert rollout.runner.faults[0].reason is Reason.IMAGES_APART
    assert "0.0" in rollout.runner.faults[0].text
