"""Recording: what an episode bag holds, determinism, resuming, failures, refusals."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.bag import BagReader
from realdiff_core.depth import depth_to_metres
from realdiff_core.errors import ConfigError, OutputError, RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_core.messages import to_ns
from realdiff_core.processes import start_bound
from realdiff_core.provenance import DepthKind
from realdiff_core.seeds import FIRST_TRIAL_SEED
from realdiff_sim_bridge.commands import record as command
from realdiff_sim_bridge.contract import RECORDED
from realdiff_sim_bridge.recorder import Recorder, Settings, record_episodes
from realdiff_sim_bridge.tasks import Released, Success
from sim_fixtures import can_to_plate, needs_gl, quick_task

from realdiff_core import topics

SMALL = Settings(rate_hz=10.0, width=64, height=48, quality="fast")
pytestmark = needs_gl


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_episode_contents(tmp_path: Path, storage: str, encoding: str) -> None:
    settings = Settings(rate_hz=20.0, width=80, height=60, encoding=encoding, quality="fast", clock=True)
    recorder = Recorder(quick_task(), settings, storage)
    path = tmp_path / "episode"
    assert recorder.record(path, seed=5, episode=3).success
    with BagReader(path) as bag:
        expected = {topic.name: topic.msgtype for topic in RECORDED} | {topics.CLOCK: "rosgraph_msgs/msg/Clock"}
        assert {name: info.msgtype for name, info in bag.topics.items()} == expected
        assert bag.start_ns == 0
        provenance = bag.provenance()
        messages: dict[str, list] = {name: [] for name in bag.topics}
        stamps: dict[str, list[int]] = {name: [] for name in bag.topics}
        for raw in bag.messages():
            messages[raw.topic].append(bag.deserialize(raw))
            stamps[raw.topic].append(raw.stamp_ns)
    assert provenance.depth == dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), DepthKind.CLEAN_SIM)
    assert (provenance.source, provenance.task, provenance.seed) == ("simulation", "can_to_plate", 5)
    assert provenance.success is True
    assert provenance.camera_profile == "d435"

    frames = [0, 50_000_000, 100_000_000, 150_000_000, 200_000_000]
    for name in (topics.COLOR_IMAGE, topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE):
        assert stamps[name] == frames
        infos = messages[name.rpartition("/")[0] + "/camera_info"]
        for image, info, stamp in zip(messages[name], infos, frames, strict=True):
            assert to_ns(image.header.stamp) == to_ns(info.header.stamp) == stamp
            assert image.header.frame_id == info.header.frame_id
            assert (image.width, image.height, info.width, info.height) == (80, 60, 80, 60)
    assert messages[topics.COLOR_IMAGE][0].encoding == "rgb8"
    assert messages[topics.ALIGNED_DEPTH_IMAGE][0].header.frame_id == topics.COLOR_FRAME
    assert messages[topics.DEPTH_IMAGE][0].header.frame_id == topics.DEPTH_FRAME

    simulator = recorder.simulator
    simulator.reset(5)
    truth = simulator.render("depth")
    first = messages[topics.DEPTH_IMAGE][0]
    assert first.encoding == encoding
    depth = depth_to_metres(image_to_numpy(first), encoding)
    assert np.allclose(depth, truth, atol=5.1e-4 if encoding == "16UC1" else 0.0, equal_nan=True)

    controls = [k * 20_000_000 for k in range(11)]
    assert stamps[topics.COMMANDED_ACTION] == controls
    assert set(controls) <= set(stamps[topics.JOINT_STATES])
    state = messages[topics.JOINT_STATES][0]
    assert list(state.name) == [f"fr3_joint{i}" for i in range(1, 8)] + ["fr3_finger_joint1", "fr3_finger_joint2"]
    assert np.array_equal(state.position, simulator.state().robot.positions)
    assert list(messages[topics.GRIPPER_JOINT_STATES][0].name) == ["fr3_finger_joint1", "fr3_finger_joint2"]
    poses = messages[topics.OBJECT_POSES][0]
    assert list(poses.names) == ["can", "plate"]
    assert poses.poses[0].position.x == simulator.state().objects["can"].position[0]
    action, trajectory = messages[topics.COMMANDED_ACTION][4], messages[topics.ARM_TRAJECTORY][4]
    assert np.array_equal(action.joint_positions, trajectory.points[0].positions)
    # The command of one step is where the arm is at the next.
    reached = messages[topics.JOINT_STATES][stamps[topics.JOINT_STATES].index(100_000_000)]
    assert np.allclose(action.joint_positions, reached.position[:7], atol=5e-3)
    assert messages[topics.TASK_STATUS][-1].success
    assert messages[topics.TASK_STATUS][-1].episode == 3
    latched = messages[topics.PROVENANCE]
    assert [list(message.kinds) for message in latched] == [[1, 1]]
    assert len(messages[topics.TF_STATIC]) == 1
    recorder.close()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_same_seed_gives_the_same_bytes(tmp_path: Path, storage: str) -> None:
    for name in ("first", "second"):
        recorder = Recorder(quick_task(), SMALL, storage)
        recorder.record(tmp_path / name / "before", seed=1)
        recorder.record(tmp_path / name / "episode", seed=2)
        recorder.close()
    first, second = (_digests(tmp_path / name / "episode") for name in ("first", "second"))
    assert first == second
    assert first != _digests(tmp_path / "first" / "before")


def test_resume_completes_to_the_same_episodes(tmp_path: Path) -> None:
    recorder = Recorder(quick_task(), SMALL)
    whole = list(record_episodes(recorder, tmp_path / "whole", episodes=3, seed=10))
    part = record_episodes(recorder, tmp_path / "part", episodes=3, seed=10)
    next(part)
    part.close()
    with pytest.raises(OutputError, match="holds episodes of this task already"):
        next(record_episodes(recorder, tmp_path / "part", episodes=3, seed=10))
    resumed = list(record_episodes(recorder, tmp_path / "part", episodes=3, seed=10, resume=True))
    assert [attempt.resumed for attempt in resumed] == [True, False, False]
    assert [attempt.path.name for attempt in whole] == [f"can_to_plate_{k:06d}" for k in range(3)]
    assert _digests(tmp_path / "part") == _digests(tmp_path / "whole")
    recorder.close()


def test_resume_refuses_other_seeds_and_settings(tmp_path: Path) -> None:
    recorder = Recorder(quick_task(), SMALL)
    list(record_episodes(recorder, tmp_path, episodes=1, seed=10))
    before = _digests(tmp_path)
    with pytest.raises(OutputError, match="another seed"):
        list(record_episodes(recorder, tmp_path, episodes=1, seed=11, resume=True))
    recorder.close()
    other = Recorder(quick_task(), Settings(rate_hz=5.0, width=64, height=48, quality="fast"))
    with pytest.raises(OutputError, match="another rate_hz"):
        list(record_episodes(other, tmp_path, episodes=1, seed=10, resume=True))
    other.close()
    assert _digests(tmp_path) == before


def test_the_scenes_of_trials_are_not_recorded(tmp_path: Path) -> None:
    recorder = Recorder(quick_task(), SMALL)
    with pytest.raises(ConfigError, match="kept for the trials"):
        list(record_episodes(recorder, tmp_path, episodes=1, seed=FIRST_TRIAL_SEED))
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_failures_are_kept_apart_and_too_many_stop(tmp_path: Path) -> None:
    never = Released(test="released", object="can", min_distance=5.0)
    task = can_to_plate().model_copy(update={"horizon_s": 0.1, "success": Success(hold_s=0.0, tests=(never,))})
    recorder = Recorder(task, Settings(rate_hz=10.0, width=32, height=24, quality="fast"))
    attempts = []
    with pytest.raises(RealdiffError, match="too often"):
        for attempt in record_episodes(recorder, tmp_path, episodes=1, seed=0):
            attempts.append(attempt)
    assert len(attempts) == 13
    assert not any(attempt.success for attempt in attempts)
    assert _visible(tmp_path) == ["failed"]
    with BagReader(tmp_path / "failed" / "can_to_plate_000000") as bag:
        assert bag.provenance().success is False
    recorder.close()


def test_killed_recording_leaves_no_broken_bag_and_resumes(tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["--task", "can_to_plate", "--episodes", "1", "-o", str(output), "--width", "64", "--height", "48"]
    arguments += ["--quality", "fast", "--rate", "5"]
    process = start_bound([sys.executable, "-m", "realdiff_sim_bridge.commands.record", *arguments])
    deadline = time.monotonic() + 120
    while not list(output.glob(".incomplete/.*.partial-*/*/*.mcap")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(output.glob("can_to_plate_*")) == []
    assert command.main([*arguments, "--resume"]) == 0
    assert _visible(output) == ["can_to_plate_000000", "index.html"]
    with BagReader(output / "can_to_plate_000000") as bag:
        assert bag.provenance().success is True


def test_two_recordings_in_one_folder_are_refused(tmp_path: Path) -> None:
    recorder = Recorder(quick_task(), SMALL)
    running = record_episodes(recorder, tmp_path, episodes=2, seed=0)
    next(running)
    with pytest.raises(OutputError, match="another recording"):
        next(record_episodes(recorder, tmp_path, episodes=2, seed=0, resume=True))
    running.close()
    recorder.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "juggle", "-o", "out"], "unknown task 'juggle'"),
        (["--task", "can_to_plate", "-o", "out", "--width", "64"], "belong together"),
        (["--task", "can_to_plate", "-o", "file"], "isn't a folder"),
    ],
)
def test_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "file").write_text("")
    result = subprocess.run(
        [sys.executable, "-m", "realdiff_sim_bridge.commands.record", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_command_without_gl_names_the_package(tmp_path: Path) -> None:
    import ctypes.util

    if ctypes.util.find_library("OSMesa"):
        pytest.skip("this machine has OSMesa: asking for it isn't an error")
    result = subprocess.run(
        [sys.executable, "-m", "realdiff_sim_bridge.commands.record", "--task", "can_to_plate", "-o", tmp_path / "out"],
        capture_output=True, text=True, check=False, env={**os.environ, "MUJOCO_GL": "osmesa"},
    )  # fmt: skip
    assert result.returncode == 2
    assert "apt-get install -y libosmesa6" in result.stderr


@pytest.mark.parametrize("wrong", [["--episodes", "0"], ["--seed", "-1"], ["--rate", "nan"], ["--encoding", "8UC1"]])
def test_wrong_arguments_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--task", "can_to_plate", "-o", "out", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err
