"""Recording with several workers: the same folder whatever records it, dying workers, failures, the index page."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pool_sources import HoldSpec
from realdiff_core.bag import BagReader
from realdiff_core.errors import OutputError, RealdiffError
from realdiff_core.worker_pool import DefectError, LocalWorkers, Workers
from realdiff_sim_bridge.commands import record as command
from realdiff_sim_bridge.recorder import Recorder
from realdiff_sim_bridge.recording.folder import record_with
from realdiff_sim_bridge.recording.index_page import write_index
from realdiff_sim_bridge.recording.plan import RecordingPlan, Settings
from realdiff_sim_bridge.recording.run import Request, run
from realdiff_sim_bridge.recording.workers import InlineWorkers, RecordingWork
from sim_fixtures import needs_gl, quick_task

pytestmark = needs_gl
SMALL = Settings(rate_hz=10.0, width=64, height=48, quality="fast")


def _plan(spec: HoldSpec) -> RecordingPlan:
    return RecordingPlan(quick_task(), SMALL, source=spec)


def _workers(plan: RecordingPlan, size: int) -> LocalWorkers:
    return LocalWorkers(RecordingWork(plan), size)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Judges the bags that are found; records nothing."""
    result = _plan(HoldSpec()).build()
    yield result
    result.close()


def _record(workers: Workers, output: Path, recorder: Recorder, episodes: int, **options) -> list:
    run = record_with(
        workers, output, task="can_to_plate", expected=recorder.provenance, episodes=episodes, seed=100, **options
    )
    return list(run)


def test_same_folder_whatever_the_number_of_workers(tmp_path: Path, recorder: Recorder) -> None:
    """Failures, explosions, slow attempts and a killed worker in between: the folder is that of a single process."""
    marks = tmp_path / "marks"
    marks.mkdir()
    plan = _plan(HoldSpec(stuck=(101, 105), exploding=(103,), slow=(100, 104)))
    own = plan.build()
    alone = _record(InlineWorkers(own), tmp_path / "one" / "data", recorder, 5)
    own.close()
    write_index(tmp_path / "one" / "data")
    deadly = HoldSpec(stuck=(101, 105), exploding=(103,), slow=(100, 104), deadly=(102, 106), marks=str(marks))
    together = _record(_workers(_plan(deadly), 3), tmp_path / "three" / "data", recorder, 5)
    write_index(tmp_path / "three" / "data")

    assert sorted(path.name for path in marks.iterdir()) == ["102-0", "106-0"], "both workers died once"
    assert [(attempt.index, attempt.success, attempt.reason) for attempt in together] == [
        (attempt.index, attempt.success, attempt.reason) for attempt in alone
    ]
    assert [attempt.index for attempt in alone if attempt.success] == [0, 2, 4, 6, 7]
    one = _digests(tmp_path / "one")
    assert one == _digests(tmp_path / "three")
    assert {name.split("/")[1] for name in one} == {
        "index.html", ".thumbnails", "failed", *(f"can_to_plate_{k:06d}" for k in (0, 2, 4, 6, 7)),
    }  # fmt: skip
    with BagReader(tmp_path / "three" / "data" / "failed" / "can_to_plate_000003") as bag:
        provenance = bag.provenance()
    assert provenance.success is False
    assert "NaN" in provenance.notes["failure"]


def test_exploding_scene_is_a_failure_with_its_reason_and_the_next_attempt_is_sound(tmp_path: Path) -> None:
    recorder = _plan(HoldSpec()).build()

    def explode() -> None:
        recorder.simulator.data.qvel[:] = 1e9

    result = recorder.record(tmp_path / "bang", 1, on_frame=explode)
    assert (result.success, result.duration_s) == (False, 0.0)
    assert result.reason.startswith("the simulation has become unstable (task can_to_plate at ")
    with BagReader(tmp_path / "bang") as bag:
        assert bag.provenance().success is False
        assert bag.provenance().notes["failure"] == result.reason
    recorder.record(tmp_path / "after", 2)
    fresh = _plan(HoldSpec()).build()
    fresh.record(tmp_path / "fresh" / "after", 2)
    recorder.close()
    fresh.close()
    assert _digests(tmp_path / "after") == _digests(tmp_path / "fresh" / "after")


def test_resume_with_other_workers_completes_to_the_same(tmp_path: Path, recorder: Recorder) -> None:
    spec = HoldSpec(stuck=(101,))
    _record(_workers(_plan(spec), 2), tmp_path / "whole", recorder, 4)
    _record(_workers(_plan(spec), 2), tmp_path / "part", recorder, 2)
    attempts = _record(_workers(_plan(spec), 2), tmp_path / "part", recorder, 4, resume=True)
    assert [attempt.resumed for attempt in attempts] == [True, True, True, False, False]
    assert attempts[1].reason.startswith("no motion here")
    assert _digests(tmp_path / "part") == _digests(tmp_path / "whole")


def test_resume_fills_a_gap(tmp_path: Path, recorder: Recorder) -> None:
    _record(_workers(_plan(HoldSpec()), 2), tmp_path / "data", recorder, 4)
    before = _digests(tmp_path / "data")
    for file in (tmp_path / "data" / "can_to_plate_000001").iterdir():
        file.unlink()
    (tmp_path / "data" / "can_to_plate_000001").rmdir()
    _record(_workers(_plan(HoldSpec()), 2), tmp_path / "data", recorder, 4, resume=True)
    assert _digests(tmp_path / "data") == before


def test_resume_refuses_another_motion_source(tmp_path: Path, recorder: Recorder) -> None:
    _record(_workers(_plan(HoldSpec()), 1), tmp_path / "data", recorder, 1)
    expert = RecordingPlan(quick_task(), SMALL).build()
    with pytest.raises(OutputError, match="another source"):
        _record(InlineWorkers(expert), tmp_path / "data", expert, 2, resume=True)
    expert.close()


def test_attempt_that_always_kills_its_worker_ends_the_recording(tmp_path: Path, recorder: Recorder) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    spec = HoldSpec(deadly=(101,), deaths=99, marks=str(marks))
    with pytest.raises(RealdiffError, match="keep dying") as caught:
        _record(_workers(_plan(spec), 2), tmp_path / "data", recorder, 3)
    assert "SIGKILL" in str(caught.value)
    assert len(list(marks.iterdir())) == 3
    assert _digests(tmp_path / "data").keys() >= {"can_to_plate_000000/can_to_plate_000000.mcap"}
    assert not list(tmp_path.glob("data/.incomplete"))


def test_defect_in_a_worker_shows_its_traceback(tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(DefectError, match="KeyError: 'a defect'"):
        _record(_workers(_plan(HoldSpec(defective=(100,))), 2), tmp_path / "data", recorder, 2)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_full_disk_is_named_and_leaves_whole_bags(tmp_path: Path, workers: str) -> None:
    """The limit on file sizes stands in for a full disk: the write fails in the same way."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    arguments = ["--task", "can_to_plate", "--episodes", "3", "-o", str(tmp_path / "data"), "--workers", workers]
    result = subprocess.run(
        [sys.executable, "-m", "realdiff_sim_bridge.commands.record", *arguments, "--width", "320", "--height", "240"],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert result.returncode == 2
    assert "the disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "data").glob("can_to_plate*"))
    assert not (tmp_path / "data" / ".incomplete").exists()


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes) -> None:
        values = dict(attributes)
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            self.pictures.append(values["src"])

    def handle_data(self, data: str) -> None:
        self.text += data


def test_index_page_shows_every_attempt(tmp_path: Path, recorder: Recorder) -> None:
    _record(_workers(_plan(HoldSpec(stuck=(101,))), 2), tmp_path / "data", recorder, 2)
    (tmp_path / "data" / ".thumbnails" / "can_to_plate_000002.jpg").unlink()  # a bag that came without
    page = _Page(write_index(tmp_path / "data").read_text())
    assert page.links == ["can_to_plate_000000/", "can_to_plate_000002/", "failed/can_to_plate_000001/"]
    assert all((tmp_path / "data" / link).is_dir() for link in page.links)
    assert len(page.pictures) == 3
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in page.pictures)
    for expected in ("seed 100", "seed 101", "66.7%", "no motion here (seed 101)"):
        assert expected in page.text


def test_command_records_with_workers_and_prints_its_standing(tmp_path: Path, capsys) -> None:
    arguments = ["--task", "can_to_plate", "--episodes", "1", "-o", str(tmp_path / "data"), "--workers", "2"]
    assert command.main([*arguments, "--width", "64", "--height", "48", "--rate", "2"]) == 0
    printed = capsys.readouterr().out
    assert "[1/1, 100% succeed]" in printed
    assert "1 episodes in" in printed
    with BagReader(tmp_path / "data" / "can_to_plate_000000") as bag:
        assert bag.provenance().notes["quality"] == "fast", "the default for small pictures"
        assert bag.provenance().notes["source"] == "expert"


def test_without_ray_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['ray'] = None; from realdiff_sim_bridge.commands.record import entry; entry()"
    result = subprocess.run(
        [sys.executable, "-c", hidden, "--task", "can_to_plate", "-o", str(tmp_path / "data"), "--ray", "auto"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "requirements/ray.txt" in result.stderr


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray isn't installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of one machine with 2 CPUs; its processes are those of this session."""
    from ray.cluster_utils import Cluster

    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray_") as folder:
        patch.setenv("PYTHONPATH", here)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray notes the address of a cluster in its default folder, which it doesn't make where `temp_dir` is another.
        patch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()
        # Its sockets lie in that folder, and their paths may have 107 characters: pytest's own folders are too deep.
        head = {
            "num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False, "temp_dir": folder,
        }  # fmt: skip
        running = Cluster(initialize_head=True, head_node_args=head)
        yield running.address
        running.shutdown()


@needs_ray
@pytest.mark.alone
def test_ray_records_the_same_and_survives_a_killed_worker(tmp_path: Path, recorder: Recorder, cluster: str) -> None:
    """Against this process alone: neither Ray nor the number of workers shows, and a death costs one attempt."""
    marks = tmp_path / "marks"
    marks.mkdir()
    own = _plan(HoldSpec(stuck=(101,))).build()
    _record(InlineWorkers(own), tmp_path / "alone" / "data", recorder, 3)
    own.close()
    write_index(tmp_path / "alone" / "data")
    attempts = []
    plan = _plan(HoldSpec(stuck=(101,), deadly=(102,), marks=str(marks)))
    request = Request(tmp_path / "ray" / "data", episodes=3, seed=100, workers=2, ray=cluster)
    tally, page = run(plan, request, lambda attempt, _: attempts.append(attempt.index))
    assert [path.name for path in marks.iterdir()] == ["102-0"]
    assert attempts == [0, 1, 2, 3]
    assert (tally.done, tally.failed) == (3, 1)
    assert page.is_file()
    assert _digests(tmp_path / "ray") == _digests(tmp_path / "alone")


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_is_a_clear_error(address: str) -> None:
    from realdiff_core.ray_workers import RayWorkers

    with pytest.raises(RealdiffError, match="no Ray cluster can be reached"):
        RayWorkers(RecordingWork(_plan(HoldSpec())), address, 1)
