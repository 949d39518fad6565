"""Closed-loop trials: protocol, reasons of failure, the whole loop with a scripted policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_experiments.rollouts.protocol import Protocol, summary, wilson
from realdiff_experiments.rollouts.trial import Trial, TrialRunner, TrialSettings, _Story
from realdiff_policy.contract import ActionContract, FloatArray, Observation, PolicyContract
from realdiff_policy.data.episode_arrays import EpisodeArrays, read_episode
from realdiff_policy.images import image_contract
from realdiff_sim_bridge.adapters import Simulator, create
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.recorder import Recorder
from realdiff_sim_bridge.recording.folder import record_episodes
from realdiff_sim_bridge.recording.plan import Settings
from realdiff_sim_bridge.tasks import load_task

from realdiff_core import topics

SIZE = (64, 48)


class HoldingPolicy:
    """Stays where the arm is; remembers what it has seen."""

    def __init__(self, contract: PolicyContract) -> None:
        self.contract = contract
        self.seen: list[Observation] = []
        self.seeds: list[int] = []

    def predict(self, observation: Observation, seed: int) -> FloatArray:
        self.seen.append(observation)
        self.seeds.append(seed)
        return np.tile(observation.state[-1], (self.contract.action.chunk, 1))


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    task = load_task("can_to_plate")
    return create("mujoco", task, camera_rig(task, width=SIZE[0], height=SIZE[1]), quality="fast")


def contract(simulator: Simulator, task: str = "can_to_plate") -> PolicyContract:
    return PolicyContract(
        policy="holding",
        task=task,
        colour=image_contract(topics.COLOR_IMAGE, simulator.rig.colour),
        depth=image_contract(topics.ALIGNED_DEPTH_IMAGE, simulator.rig.colour),
        depth_range_m=(0.28, 2.0),
        trained_on={"clean_sim": 1.0},
        action=ActionContract(rate_hz=10.0, observation_steps=2, horizon=16, execute=8),
    )


def test_wilson_agrees_with_the_formula() -> None:
    """Wilson 1927, and a value of the literature (Brown, Cai and DasGupta 2001 use z = 1.96)."""
    for successes, trials in ((0, 30), (19, 30), (30, 30)):
        p, z = successes / trials, 1.959963984540054
        middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
        half = z / (1 + z * z / trials) * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2))
        assert wilson(successes, trials) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_the_protocol_is_ten_positions_three_times() -> None:
    schedule = Protocol(Path("bundle"), "can_to_plate").schedule()
    assert len(schedule) == 30 and len({seed for _, _, seed in schedule}) == 10
    assert {repetition for _, repetition, _ in schedule} == {0, 1, 2}
    other = Protocol(Path("bundle"), "can_to_plate", seed=100).schedule()
    assert not {seed for *_, seed in schedule} & {seed for *_, seed in other}
    with pytest.raises(ConfigError, match="no trials"):
        Protocol(Path("bundle"), "can_to_plate", trials=0).schedule()


def test_the_summary_counts() -> None:
    done = Trial(0, 0, 1, True, "", 6.0, 0)
    trials = [done, replace(done, success=False, category="dropped"), replace(done, success=False, category="dropped")]
    result = summary(trials)
    assert result["successes"] == 1 and result["failures"] == {"dropped": 2} and result["mean_duration_s"] == 6.0
    assert result["interval_95"] == pytest.approx(list(wilson(1, 3)))


def test_a_policy_that_holds_still_reaches_nothing(simulator: Simulator) -> None:
    policy = HoldingPolicy(contract(simulator))
    runner = TrialRunner(policy, simulator, TrialSettings(horizon_s=3.0))
    frames: list[float] = []
    trial = runner.run(
        5, position=2, repetition=1, on_frame=lambda colour, depth: frames.append(float(np.nanmean(depth)))
    )
    assert (trial.success, trial.category, trial.holds) == (False, "not_reached", 0)
    assert trial.duration_s == pytest.approx(3.0) and len(frames) == 30
    first = policy.seen[0]
    assert first.colour.shape == (2, 48, 64, 3) and first.depth is not None
    # Registered to colour: the aligned image is what the camera's rig makes of the depth imager's picture.
    assert 0.3 < np.nanmedian(first.depth) < 3.0
    gaps = np.diff([observation.stamp_ns for observation in policy.seen])
    assert np.all(gaps <= 800_000_000), "the policy isn't asked often enough"
    again = HoldingPolicy(contract(simulator))
    TrialRunner(again, simulator, TrialSettings(horizon_s=1.0)).run(5, position=2, repetition=1)
    assert again.seeds == policy.seeds[: len(again.seeds)]
    np.testing.assert_array_equal(again.seen[0].colour, first.colour)
    other = HoldingPolicy(contract(simulator))
    TrialRunner(other, simulator, TrialSettings(horizon_s=0.5)).run(5, position=2, repetition=2)
    assert other.seeds[0] != policy.seeds[0]


class Demonstration:
    """Answers with the actions of a recorded episode, by the time of the observation."""

    def __init__(self, contract: PolicyContract, episode: EpisodeArrays) -> None:
        self.contract = contract
        self._episode = episode
        self.state_error = 0.0

    def predict(self, observation: Observation, seed: int) -> FloatArray:
        frame = round(observation.stamp_ns * 1e-9 * self.contract.action.rate_hz)
        last = len(self._episode.action) - 1
        recorded = self._episode.state[min(frame, last)]
        self.state_error = max(self.state_error, float(np.abs(observation.state[-1] - recorded)[:7].max()))
        return self._episode.action[np.clip(frame + np.arange(self.contract.action.chunk), 0, last)]


@pytest.mark.parametrize("task", ["can_to_plate", "stack_cube"])
def test_the_actions_of_a_demonstration_do_the_task_again(task: str, tmp_path: Path) -> None:
    """Bag to arrays to chunks to splines to the arm: what a policy learns from is what its actions do."""
    settings = Settings(width=SIZE[0], height=SIZE[1], quality="fast", randomisation="none")
    recorder = Recorder(load_task(task), settings)
    seed = 1
    (attempt,) = record_episodes(recorder, tmp_path, episodes=1, seed=seed)
    recorder.close()
    simulator = create(
        "mujoco", load_task(task), camera_rig(load_task(task), width=SIZE[0], height=SIZE[1]), quality="fast"
    )
    wanted = contract(simulator, task)
    episode = read_episode(attempt.path, width=SIZE[0], height=SIZE[1], rate_hz=wanted.action.rate_hz)
    policy = Demonstration(wanted, episode)
    trial = TrialRunner(policy, simulator, TrialSettings()).run(seed)
    simulator.close()
    assert (trial.success, trial.holds) == (True, 0), trial
    assert policy.state_error < 0.002, "the arm isn't where it was in the demonstration [rad]"


def test_a_policy_of_another_task_or_camera_is_refused(simulator: Simulator) -> None:
    with pytest.raises(ConfigError, match="another task"):
        TrialRunner(HoldingPolicy(contract(simulator, "stack_cube")), simulator, TrialSettings())
    good = contract(simulator)
    wide = good.model_copy(update={"colour": good.colour.model_copy(update={"fx": good.colour.fx * 1.2})})
    with pytest.raises(ConfigError, match="another camera"):
        TrialRunner(HoldingPolicy(wide), simulator, TrialSettings())


def test_what_happened_to_the_object_is_told(simulator: Simulator) -> None:
    simulator.reset(3)
    start = simulator.state()

    def moved(tcp: np.ndarray, rise: float) -> object:
        can = start.objects["can"]
        raised = Pose(can.position + np.array([0.0, 0.0, rise]), can.quaternion)
        return replace(start, tcp=Pose(tcp, start.tcp.quaternion), objects={**start.objects, "can": raised})

    can = start.objects["can"].position
    away = can + np.array([0.0, 0.0, 0.4])
    held = can + np.array([0.0, 0.0, 0.1])
    for steps, ending in (
        ([(away, 0.0)], "not_reached"),
        ([(can, 0.0), (away, 0.0)], "missed_grasp"),
        ([(can, 0.0), (held, 0.1), (away, 0.0)], "misplaced"),
        ([(can, 0.0), (held, 0.1)], "not_released"),
    ):
        story = _Story(simulator.task, start)
        for tcp, rise in steps:
            story.update(moved(np.asarray(tcp), rise))  # type: ignore[arg-type]
        assert story.ending() == ending
