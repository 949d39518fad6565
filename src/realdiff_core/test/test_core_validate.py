"""`validate` on whole folders: damaged bags, failed attempts, the summary, dying processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from core_bags import PROVENANCE
from realdiff_core.bag import BagWriter
from realdiff_core.episode import REQUIRED_TOPICS, SIMULATION_TOPICS
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import DepthKind
from realdiff_core.validate import check_all, main

from realdiff_core import topics


def _episode(path: Path, *, leave_out=(), empty=(), **provenance) -> Path:
    """An episode bag with one message a topic."""
    depth = dict.fromkeys((topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE), DepthKind.CLEAN_SIM)
    pixels = {topics.COLOR_IMAGE: {"encoding": "rgb8", "step": 6, "data": bytes(12)}}
    with BagWriter(path) as writer:
        for name, msgtype in {**REQUIRED_TOPICS, **SIMULATION_TOPICS}.items():
            if name in leave_out:
                continue
            writer.add_topic(name, msgtype)
            message = make(msgtype)
            if msgtype == IMAGE:
                fields = pixels.get(name, {"encoding": "16UC1", "step": 4, "data": bytes(8)})
                message = make(IMAGE, header=make_header(5, ""), height=2, width=2, **fields)
            elif msgtype == CAMERA_INFO:
                message = make(CAMERA_INFO, width=2, height=2, k=[1.0, 0, 1, 0, 1, 1, 0, 0, 1])
            if name not in empty:
                writer.write_message(name, 5, message)
        writer.set_provenance(PROVENANCE.model_copy(update={"depth": depth, **provenance}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (10, 9):
        _episode(tmp_path / "data" / f"episode_{number}", success=True)
    _episode(tmp_path / "data" / "failed" / "episode_11", success=False, empty=[topics.COLOR_IMAGE], task="pick_cube")
    return tmp_path / "data"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sound_folder(folder: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    """A failed attempt may have ended before a topic's first message."""
    assert main([str(folder), "--workers", workers]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed] == [
        ["task", "bags", "faulty", "successes", "failures", "images"],
        ["can_to_plate", "2", "0", "2", "0", "6"],
        ["pick_cube", "1", "0", "0", "1", "2"],
        ["all", "3", "0", "2", "1", "8"],
    ]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_every_fault_is_reported_in_order(folder: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    _episode(folder / "episode_2", leave_out=[topics.TF], success=True)
    damaged = _episode(folder / "episode_3", success=True) / "episode_3.mcap"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    _episode(folder / "episode_4", success=True, empty=[topics.TF])
    assert main([str(folder), "--workers", workers]) == 1
    printed = capsys.readouterr().out
    faulty = [line.partition(":")[0].rpartition("/")[2] for line in printed.splitlines() if line.startswith("/")]
    assert faulty == ["episode_2", "episode_3", "episode_4"]
    assert f"{topics.TF}: missing" in printed
    assert f"{topics.TF}: no messages" in printed
    assert "(unreadable)" in printed
    assert [line.split() for line in printed.splitlines()][-1] == ["all", "6", "3", "4", "1", "14"]


def test_verbose_names_every_bag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "-v", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    named = [Path(line.partition(": ok (")[0]).name for line in printed.splitlines() if ": ok (" in line]
    assert named == ["episode_9", "episode_10", "episode_11"]
    assert f"{topics.DEPTH_IMAGE} clean_sim" in printed


def test_bag_that_kills_its_reader_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processes' death takes the others' work with it; only the culprit may be blamed."""
    # Child processes import this module by its file name; what kills them is the bag's name.
    monkeypatch.setattr("realdiff_core.validate.check", _check_or_die)
    paths = [folder / "episode_9", folder / "episode_10", folder / "failed" / "episode_11"]
    verdicts = {verdict.path.name: verdict for verdict in check_all(paths, 2)}
    assert verdicts["episode_10"].problems[0].startswith("the process that read this bag has died")
    assert not verdicts["episode_9"].problems
    assert not verdicts["episode_11"].problems


def _check_or_die(path: Path):
    from realdiff_core.validate import Verdict

    if path.name == "episode_10":
        os._exit(9)
    return Verdict(path, ())


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["somewhere", "--workers", "0"])
    assert caught.value.code == 2
    assert "isn't positive" in capsys.readouterr().err
