"""The demonstration's second half: when it runs, with what command, and what it reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.bag import BagWriter
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import IMAGE, make, make_header
from realdiff_experiments.demo_trial import TASK, add_trial, run_trial
from realdiff_experiments.report.demo import DemoReport

from realdiff_core import topics

RECORD = {
    "outcome": "success",
    "failure_category": "",
    "duration_s": 6.5,
    "bag": "bag",
    "inference_p50_ms": 41.25,
    "inference_p99_ms": 63.5,
    "missed_deadlines": 3,
    "rejected_actions": 1,
    "depth": "clean_sim",
}


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    monkeypatch.setenv("REALDIFF_BUNDLES", str(folder))
    return folder


def install(bundles: Path, trained_on: dict[str, float]) -> None:
    (bundles / TASK).mkdir()
    (bundles / TASK / "policy.json").write_text(json.dumps({"contract": {"trained_on": trained_on}}))


def write_trial(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps(RECORD))
    with BagWriter(folder / "bag") as bag:
        bag.add_topic(topics.COLOR_IMAGE, IMAGE)
        for frame in range(12):
            fields = numpy_to_image_fields(np.full((24, 32, 3), 20 * frame, np.uint8), "rgb8")
            header = make_header(frame * 100_000_000, topics.COLOR_FRAME)
            bag.write_message(topics.COLOR_IMAGE, frame * 100_000_000, make(IMAGE, header=header, **fields))


def test_without_a_bundle_of_the_task_the_trial_is_left_out(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realdiff_policy.bundle_path.bundle_folders", lambda: [bundles])
    said: list[str] = []

    def never(title: str, command: list[str]) -> None:
        raise AssertionError(command)

    assert run_trial(tmp_path / "trials", 3, never, said.append) is None
    assert len(said) == 1 and TASK in said[0] and "train" in said[0]


def test_with_a_bundle_it_runs_the_headline_command_and_reports_what_the_record_says(
    bundles: Path, tmp_path: Path
) -> None:
    install(bundles, {"clean_sim": 0.25, "enhanced": 0.75})
    output = tmp_path / "trials"
    (output / "left_by_an_earlier_one").mkdir(parents=True)
    commands: list[list[str]] = []

    def step(title: str, command: list[str]) -> None:
        assert not output.exists()
        commands.append(command)
        write_trial(output / f"{TASK}_000003")

    trial = run_trial(output, 3, step, lambda text: None)
    assert trial is not None and trial.bundle == bundles / TASK
    assert commands[0][:4] == ["ros2", "launch", "realdiff", "deploy.launch.py"]
    assert {f"task:={TASK}", "robot:=sim", "camera:=sim", "seed:=3"} <= set(commands[0])
    report = DemoReport("title", "text")
    add_trial(report, trial)
    page = report.page.render()
    for words in ("success after 6.5 s", "clean_sim (25%) and enhanced (75%) depth", "41.25 ms", "63.5 ms"):
        assert words in page, words
    assert page.count("data:image/png") == 8
