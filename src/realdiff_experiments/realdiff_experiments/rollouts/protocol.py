"""The protocol: P object positions, R repetitions each; success with Wilson's interval."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realdiff_core.errors import ConfigError
from realdiff_core.seeds import FIRST_TRIAL_SEED
from realdiff_sim_bridge.adapters import Quality
from realdiff_sim_bridge.randomisation import Level
from scipy.stats import binomtest

from realdiff_experiments.rollouts.trial import Trial, TrialSettings

REPETITIONS = 3


@dataclass(frozen=True)
class Protocol:
    """What a series of trials consists of.

    Attributes:
        bundle: The policy's bundle.
        task: Task name, or a task's YAML file.
        trials: Number of trials: positions × repetitions.
        settings: How each is run.
        randomisation: What a reset varies besides the objects' poses: none, physics, looks or all.
        quality: Looks of the colour image.
        steps: DDIM steps; None: as the policy says.
        seed: Seed of the positions, counted from those that are kept for trials.
        videos: Folder for a video of every trial; None for none.
    """

    bundle: Path
    task: str
    trials: int = 30
    settings: TrialSettings = field(default_factory=TrialSettings)
    randomisation: Level = "none"
    quality: Quality = "good"
    steps: int | None = None
    seed: int = 0
    videos: Path | None = None

    def schedule(self) -> list[tuple[int, int, int]]:
        """(position, repetition, seed of the reset) of every trial."""
        if self.trials < 1:
            raise ConfigError("no trials", expected="at least 1", got=self.trials, next_step="give --trials N")
        repetitions = REPETITIONS if self.trials % REPETITIONS == 0 else 1
        return [
            (number // repetitions, number % repetitions, FIRST_TRIAL_SEED + self.seed + number // repetitions)
            for number in range(self.trials)
        ]


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a success probability (Wilson 1927)."""
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def run_protocol(protocol: Protocol, workers: int = 1, on_trial: Callable[[Trial], None] | None = None) -> list[Trial]:
    """Runs all trials.

    Args:
        protocol: What to run.
        workers: Processes; the results don't depend on their number.
        on_trial: Called with every finished trial.

    Returns:
        The trials in the protocol's order.

    Raises:
        ConfigError: Policy, task and settings don't fit together.
    """
    done: list[Trial] = []
    for trial in _play_all(protocol, protocol.schedule(), workers):
        done.append(trial)
        if on_trial is not None:
            on_trial(trial)
    return sorted(done, key=lambda trial: (trial.position, trial.repetition))


def _play_all(protocol: Protocol, schedule: Sequence[tuple[int, int, int]], workers: int) -> Iterator[Trial]:
    if workers == 1:
        stage = _Stage(protocol, threads=2)
        try:
            yield from map(stage.play, schedule)
        finally:
            stage.close()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(schedule)), mp_context=context) as pool:
        futures = [pool.submit(_play_one, protocol, entry) for entry in schedule]
        for future in as_completed(futures):
            yield future.result()


_kept: dict[Protocol, _Stage] = {}
"""This process's policy and simulator."""


def _play_one(protocol: Protocol, entry: tuple[int, int, int]) -> Trial:
    if protocol not in _kept:
        _kept[protocol] = _Stage(protocol, threads=1)
    return _kept[protocol].play(entry)


class _Stage:
    """A policy and its simulator."""

    def __init__(self, protocol: Protocol, threads: int) -> None:
        import torch
        from realdiff_policy.bundle import load_bundle
        from realdiff_policy.images import rendered_size
        from realdiff_sim_bridge.adapters import create
        from realdiff_sim_bridge.cameras import camera_rig
        from realdiff_sim_bridge.tasks import load_task

        from realdiff_experiments.rollouts.trial import TrialRunner

        torch.set_num_threads(threads)
        self._protocol = protocol
        policy = load_bundle(protocol.bundle, "cpu", steps=protocol.steps, threads=threads)
        image = policy.contract.colour
        task = load_task(protocol.task)
        width, height = rendered_size(image.width, image.height)
        rig = camera_rig(task, width=width, height=height)
        self._simulator = create(
            "mujoco",
            task,
            rig,
            quality=protocol.quality,
            randomisation=protocol.randomisation,
        )
        self._runner = TrialRunner(policy, self._simulator, protocol.settings)

    def play(self, entry: tuple[int, int, int]) -> Trial:
        from realdiff_experiments.rollouts.video import VideoWriter

        position, repetition, seed = entry
        folder = self._protocol.videos
        if folder is None:
            return self._runner.run(seed, position, repetition)
        folder.mkdir(parents=True, exist_ok=True)
        with VideoWriter(folder / f"position_{position:02d}_repetition_{repetition}.webm") as video:
            return self._runner.run(seed, position, repetition, video.add)

    def close(self) -> None:
        self._runner.close()
        self._simulator.close()


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Successes, Wilson's 95 % interval and what went wrong."""
    successes = sum(trial.success for trial in trials)
    low, high = wilson(successes, len(trials))
    return {
        "trials": len(trials),
        "successes": successes,
        "success_rate": successes / len(trials),
        "interval_95": [low, high],
        "failures": dict(Counter(trial.category for trial in trials if not trial.success).most_common()),
        "mean_duration_s": sum(t.duration_s for t in trials if t.success) / successes if successes else None,
    }
