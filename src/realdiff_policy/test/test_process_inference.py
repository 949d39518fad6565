"""The policy's own process: loading, answers, death, silence, the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_policy.contract import Observation
from realdiff_policy.runtime import process
from realdiff_policy.runtime.process import ProcessInference
from realdiff_policy.safety import Reason
from scripted_policy import HOME, SwingPolicy, contract

LOADER = "scripted_policy:load"


@pytest.fixture(autouse=True)
def path_of_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
def inference(tmp_path: Path) -> Iterator[ProcessInference]:
    started = ProcessInference(str(tmp_path), "cpu", LOADER)
    yield started
    started.close()


def observation(stamp_ns: int = 5) -> Observation:
    shape = contract()
    size = (2, shape.colour.height, shape.colour.width)
    return Observation(
        np.zeros((*size, 3), np.uint8), np.ones(size, np.float32), np.tile([*HOME, 0.08], (2, 1)), stamp_ns
    )


def until(condition, timeout_s: float = 20.0):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.01)
    return value


def test_answers_as_the_policy_itself(inference: ProcessInference) -> None:
    assert inference.contract == contract()
    inference.submit(observation(), 3)
    result = until(inference.poll)
    assert result.stamp_ns == 5
    assert result.error == ""
    assert np.array_equal(result.actions, SwingPolicy().predict(observation(), 3))
    assert inference.poll() is None
    assert inference.problem() is None


def test_errors_of_the_policy_are_answers(inference: ProcessInference, tmp_path: Path) -> None:
    (tmp_path / "order").write_text("once raise")
    inference.submit(observation(), 3)
    result = until(inference.poll)
    assert result.actions is None
    assert result.error == "ValueError: the script says so"


def test_a_killed_process_is_noticed_and_started_again(inference: ProcessInference) -> None:
    first = inference.pid
    os.kill(first, signal.SIGKILL)
    fault = until(inference.problem)
    assert fault.reason is Reason.POLICY_DEAD
    assert "signal 9" in str(until(inference.problem))
    until(lambda: inference.problem() is None)
    assert inference.pid != first
    inference.submit(observation(), 0)
    assert until(inference.poll).actions is not None


def test_an_answer_that_was_given_up_is_dropped(inference: ProcessInference, tmp_path: Path) -> None:
    (tmp_path / "order").write_text("once silent 0.5")
    inference.submit(observation(1), 0)
    inference.forget()
    assert inference.problem().reason is Reason.POLICY_SILENT
    until(lambda: inference.problem() is None)
    assert inference.poll() is None
    inference.submit(observation(2), 0)
    assert until(inference.poll).stamp_ns == 2


def test_a_hung_policy_is_killed(inference: ProcessInference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_HUNG_S", 0.3)
    (tmp_path / "order").write_text("once silent 1000")
    first = inference.pid
    inference.submit(observation(1), 0)
    until(lambda: not (tmp_path / "order").exists())
    inference.forget()
    until(lambda: (fault := inference.problem()) is not None and fault.reason is Reason.POLICY_DEAD)
    until(lambda: inference.problem() is None)
    assert inference.pid != first


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("scripted_policy:nothing", "loader can't be imported"),
        ("no_such_module:load", "No module named"),
        ("realdiff_policy.runtime.worker:find_loader", "can't be loaded: TypeError"),
        ("os:_exit", "its process ended|can't be loaded"),
    ],
)
def test_policies_that_cannot_be_loaded(loader: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ProcessInference(str(tmp_path), "cpu", loader)


def test_the_process_ends_with_its_owner(tmp_path: Path) -> None:
    started = ProcessInference(str(tmp_path), "cpu", LOADER)
    number = started.pid
    started.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
