"""The command `rollout` from its arguments to results.json and videos, and its trials during a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from realdiff_core.config import find_config
from realdiff_core.errors import ConfigError, OutputError
from realdiff_experiments.commands import rollout
from realdiff_experiments.rollouts import evaluation
from realdiff_experiments.rollouts.protocol import Protocol, wilson
from realdiff_experiments.rollouts.trial import Trial
from realdiff_policy.contract import ActionContract, FloatArray, Observation, PolicyContract
from realdiff_policy.images import image_contract
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.tasks import load_task

from realdiff_core import topics

SIZE = (64, 48)
SECONDS = 1.0


class HoldingPolicy:
    """Stays where the arm is."""

    def __init__(self) -> None:
        rig = camera_rig(load_task("can_to_plate"), width=SIZE[0], height=SIZE[1])
        self.contract = PolicyContract(
            policy="holding",
            task="can_to_plate",
            colour=image_contract(topics.COLOR_IMAGE, rig.colour),
            depth=image_contract(topics.ALIGNED_DEPTH_IMAGE, rig.colour),
            depth_range_m=(0.28, 2.0),
            trained_on={"clean_sim": 1.0},
            action=ActionContract(rate_hz=10.0, observation_steps=2, horizon=16, execute=8),
        )

    def predict(self, observation: Observation, seed: int) -> FloatArray:
        return np.tile(observation.state[-1], (self.contract.action.chunk, 1))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle that is found by its name; it holds a policy that does nothing."""
    folder = tmp_path / "bundles" / "lazy"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text("{}")
    monkeypatch.setenv("REALDIFF_BUNDLES", str(folder.parent))

    def load(path: Path, *_: object, **__: object) -> HoldingPolicy:
        assert path == folder
        return HoldingPolicy()

    monkeypatch.setattr("realdiff_policy.bundle.load_bundle", load)
    return "lazy"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The task with a horizon that suits a test."""
    content = yaml.safe_load(find_config("tasks/can_to_plate.yaml").read_text())
    file = tmp_path / "can_to_plate.yaml"
    file.write_text(yaml.safe_dump(content | {"horizon_s": SECONDS}))
    return file


def run(*arguments: object) -> int:
    return rollout.run(rollout.build_parser().parse_args(list(map(str, arguments))))


@pytest.mark.parametrize("sensor", ["clean", "stereo"])
def test_results_and_a_video_of_every_trial(
    sensor: str, bundle: str, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    output = tmp_path / "results"
    assert run("--policy", bundle, "--task", task, "--sensor", sensor, "--trials", 3, "-o", output) == 0
    printed = capsys.readouterr().out
    assert f"{sensor} depth: 0 of 3 trials succeeded (0%, 95 % interval 0% to 56%)" in printed
    assert "not_reached: 3" in printed
    results = json.loads((output / "results.json").read_text())
    assert (results["successes"], results["trials"], results["sensor"]) == (0, 3, sensor)
    assert results["failures"] == {"not_reached": 3}
    assert results["interval_95"] == pytest.approx(list(wilson(0, 3)))
    assert [(entry["position"], entry["repetition"]) for entry in results["records"]] == [(0, 0), (0, 1), (0, 2)]
    assert len({entry["seed"] for entry in results["records"]}) == 1
    videos = sorted((output / "videos").iterdir())
    assert [video.name for video in videos] == [f"position_00_repetition_{number}.webm" for number in range(3)]
    for video in videos:
        reader, frames = cv2.VideoCapture(str(video)), []
        while (read := reader.read())[0]:
            frames.append(read[1])
        assert len(frames) == round(SECONDS * 10)
        assert frames[0].shape == (240, 640, 3)
        left, right = frames[0][:, :320].astype(float), frames[0][:, 320:].astype(float)
        assert left.std() > 10 and right.std() > 10 and np.abs(left - right).mean() > 10


def test_results_are_not_overwritten_and_unknown_policies_are_named(bundle: str, task: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(OutputError, match="output exists"):
        run("--policy", bundle, "--task", task, "-o", tmp_path / "results")
    with pytest.raises(ConfigError, match="no such policy bundle"):
        run("--policy", "busy", "--task", task)
    with pytest.raises(ConfigError, match="another task"):
        run("--policy", bundle, "--task", "stack_cube", "--trials", 1)


def test_evaluation_during_training_uses_positions_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Protocol] = []

    def play(protocol: Protocol, workers: int) -> list[Trial]:
        asked.append(protocol)
        assert workers > 1, "in this process the trials would change the training's settings of torch"
        done = Trial(0, 0, 1, True, "", 6.0, 0)
        return [replace(done, success=number < 6) for number in range(protocol.trials)]

    class Record:
        contract = HoldingPolicy().contract

    monkeypatch.setattr(evaluation, "run_protocol", play)
    monkeypatch.setattr("realdiff_policy.policies.diffusion_policy.checkpoint.read_record", lambda folder: Record)
    found = evaluation.trials(tmp_path, 2000)
    low, high = wilson(6, 9)
    assert found == {
        "success_rate": pytest.approx(6 / 9),
        "success_low": pytest.approx(low),
        "success_high": pytest.approx(high),
    }
    (protocol,) = asked
    assert (protocol.task, protocol.bundle) == ("can_to_plate", tmp_path)
    own = {seed for *_, seed in protocol.schedule()}
    judged = {seed for *_, seed in Protocol(Path(), "can_to_plate", trials=30).schedule()}
    assert len(own) == 3 and not own & judged
