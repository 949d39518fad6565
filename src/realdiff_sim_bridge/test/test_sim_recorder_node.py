"""The node `recorder` as a real process over DDS: the same folder as the command, progress, refusals, cancelling."""

from __future__ import annotations

import hashlib
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from bridge_graph import Client, start_node
from realdiff_core.config import find_config
from realdiff_core.contract import Contract
from realdiff_core.ros_domain import free_domain
from realdiff_core.validate import check
from realdiff_sim_bridge.commands import record as command
from sim_fixtures import needs_gl

pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.action", reason="realdiff_msgs isn't built")
pytestmark = [needs_gl, pytest.mark.graph]

ACTION = "/recorder/record_episodes"
SIZE = ("width:=64", "height:=48", "rate:=10.0", "randomisation:=physics")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Done as soon as the can has stood upright for a moment: episodes of a few frames."""
    values = yaml.safe_load(find_config("tasks/can_to_plate.yaml").read_text())
    values["success"] = {"hold_s": 0.2, "tests": [{"test": "upright", "object": "can", "max_tilt": 10}]}
    path = tmp_path_factory.mktemp("task") / "can_to_plate.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def _running() -> Iterator[Client]:
    domain = free_domain()
    process = start_node("recorder", *SIZE, domain=domain)
    client = Client(process, Contract(topics=(), calls=()), domain)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def graph() -> Iterator[Client]:
    with _running() as client:
        yield client


def _goal(task: object, output: object, episodes: int, **fields: Any) -> Any:
    from realdiff_msgs.action import RecordEpisodes

    return RecordEpisodes.Goal(task=str(task), output=str(output), episodes=episodes, **{"seed": 40, **fields})


def _send(graph: Client, goal: Any) -> SimpleNamespace:
    """Sends a goal; its feedback and the future of its outcome."""
    from realdiff_msgs.action import RecordEpisodes

    feedback: list = []
    handle = graph.send(RecordEpisodes, ACTION, goal, feedback)
    assert handle.accepted
    return SimpleNamespace(feedback=feedback, handle=handle, outcome=handle.get_result_async())


def _end(graph: Client, sent: SimpleNamespace) -> tuple[int, Any]:
    graph.until(sent.outcome.done)
    outcome = sent.outcome.result()
    return outcome.status, outcome.result


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_goal_records_what_the_command_records(graph: Client, task: Path, tmp_path: Path) -> None:
    from action_msgs.msg import GoalStatus

    sent = _send(graph, _goal(task, tmp_path / "node" / "data", 3))
    status, result = _end(graph, sent)
    assert (status, result.success) == (GoalStatus.STATUS_SUCCEEDED, True), result.message
    assert (result.recorded, result.failed) == (3, 0)
    assert [message.recorded for message in sent.feedback] == [1, 2, 3]
    assert [message.success_rate for message in sent.feedback] == [1.0, 1.0, 1.0]
    assert 0.0 == sent.feedback[2].eta_s < sent.feedback[1].eta_s < sent.feedback[0].eta_s < 60.0
    arguments = ["--task", str(task), "--episodes", "3", "--seed", "40", "-o", str(tmp_path / "command" / "data")]
    arguments += ["--width", "64", "--height", "48", "--rate", "10", "--randomisation", "physics"]
    assert command.main(arguments) == 0
    assert _digests(tmp_path / "node") == _digests(tmp_path / "command")


def test_goals_that_cannot_be_done_end_with_the_reason(graph: Client, task: Path, tmp_path: Path) -> None:
    from action_msgs.msg import GoalStatus

    (tmp_path / "file").touch()
    for goal, reason in (
        (_goal("juggle", tmp_path / "data", 1), "unknown task 'juggle'"),
        (_goal(task, tmp_path / "data", 0), "wants no episodes"),
        (_goal(task, "", 1), "names no output folder"),
        (_goal(task, tmp_path / "data", 1, seed=2**63), "seed is too large"),
        (_goal(task, tmp_path / "file", 1), "isn't a folder"),
    ):
        status, result = _end(graph, _send(graph, goal))
        assert (status, result.success, result.recorded) == (GoalStatus.STATUS_ABORTED, False, 0)
        assert reason in result.message
    assert not (tmp_path / "data").exists()


def test_cancelling_keeps_finished_episodes_and_resume_goes_on(graph: Client, task: Path, tmp_path: Path) -> None:
    from action_msgs.msg import GoalStatus

    output = tmp_path / "data"
    sent = _send(graph, _goal(task, output, 500))
    graph.until(lambda: len(sent.feedback) >= 2)
    second = _send(graph, _goal(task, tmp_path / "other", 1))
    status, result = _end(graph, second)
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False)
    assert "another recording is under way" in result.message
    graph.until(sent.handle.cancel_goal_async().done)
    status, result = _end(graph, sent)
    assert (status, result.success) == (GoalStatus.STATUS_CANCELED, False)
    assert result.recorded == sent.feedback[-1].recorded >= 2
    assert f"cancelled after {result.recorded} of 500" in result.message
    kept = {path.name: _digests(path) for path in output.glob("can_to_plate_*")}
    assert len(kept) == result.recorded
    assert (output / "index.html").is_file()
    assert not (output / ".incomplete").exists()

    refused, wanted = _send(graph, _goal(task, output, 1)), result.recorded + 1
    status, result = _end(graph, refused)
    assert (status, result.success) == (GoalStatus.STATUS_ABORTED, False)
    assert "holds episodes of this task already" in result.message
    status, result = _end(graph, _send(graph, _goal(task, output, wanted, resume=True)))
    assert (status, result.recorded) == (GoalStatus.STATUS_SUCCEEDED, wanted), result.message
    assert kept.items() <= {path.name: _digests(path) for path in output.glob("can_to_plate_*")}.items()
    assert [check(path).problems for path in output.glob("can_to_plate_*")] == [()] * wanted


def test_a_signal_ends_the_node_in_the_middle_of_a_recording(task: Path, tmp_path: Path) -> None:
    with _running() as graph:
        sent = _send(graph, _goal(task, tmp_path / "data", 500))
        graph.until(lambda: len(sent.feedback) >= 1)
        graph.process.send_signal(signal.SIGINT)
        assert graph.process.wait(timeout=30) == 0, graph.log
        assert not [line for line in graph.log if "Traceback" in line]
    assert not (tmp_path / "data" / ".incomplete").exists()
    assert len(list((tmp_path / "data").glob("can_to_plate_*"))) >= 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (("workers:=0",), "parameter workers"),
        (("encoding:=8UC1",), "16UC1 or 32FC1"),
        (("width:=320",), "width and height belong together"),
    ],
)
def test_wrong_parameters_are_refused(parameters: tuple[str, ...], message: str) -> None:
    process: subprocess.Popen = start_node("recorder", *parameters)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
