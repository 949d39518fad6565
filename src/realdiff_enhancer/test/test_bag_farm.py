"""Folders of bags with several workers: the same bytes, a killed worker, a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from enhancer_bags import child_environment, provenance, ray_cluster, run_enhance, write_episode
from realdiff_core.config import camera_profile
from realdiff_core.errors import BagError, ProvenanceError, RealdiffError
from realdiff_core.provenance import DepthKind
from realdiff_core.worker_pool import DefectError, LocalWorkers, run_jobs
from realdiff_enhancer.bag_farm import BagJob, EnhancePlan, enhance_folder, local_workers
from realdiff_enhancer.job import EnhanceOptions

PROFILE = camera_profile("d435")
PLAN = EnhancePlan("disparity", PROFILE)
OPTIONS = EnhanceOptions(model="disparity")


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("episodes") / "in"
    root.mkdir()
    for index, storage in enumerate(("mcap", "sqlite3", "mcap")):
        write_episode(root / f"episode_{index:06d}", storage, "16UC1", frames=6 + index)
    return root


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def alone(episodes: Path) -> dict[str, bytes]:
    """What one process makes of the folder."""
    output = episodes.parent / "alone"
    result = run_enhance(episodes, "-o", output, "--model", "disparity", "--workers", "1")
    assert result.returncode == 0, result.stderr
    return contents(output)


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_same_bytes_whatever_the_number_of_workers(
    tmp_path: Path, episodes: Path, alone: dict[str, bytes], size: int
) -> None:
    done: list[int] = []
    result = enhance_folder(
        episodes, tmp_path / "out", LocalWorkers(PLAN, size), OPTIONS, lambda r: done.append(r.frames)
    )
    assert contents(tmp_path / "out") == alone
    assert result.frames == sum(done) == 2 * (6 + 7 + 8) and len(result.outputs) == 3


def test_command_uses_workers_and_draws(tmp_path: Path, episodes: Path, alone: dict[str, bytes]) -> None:
    result = run_enhance(episodes, "-o", tmp_path / "out", "--model", "disparity", "--workers", "2", "--draws", "2")
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "out" / "draw_000").keys() == alone.keys()
    assert "84 frames" in result.stdout
    assert run_enhance(episodes, "-o", tmp_path / "x", "--workers", "0").returncode == 2


@dataclass(frozen=True)
class KillingPlan:
    """Enhances, but kills its process once in the middle of each named bag (marks remember it)."""

    marks: Path
    deadly: str
    deaths: int = 1

    def build(self) -> Callable[[BagJob], Any]:
        enhance = PLAN.build()

        def work(job: BagJob) -> Any:
            died = len(list(self.marks.iterdir()))
            if job.source.name == self.deadly and died < self.deaths:
                (self.marks / str(died)).touch()
                journal = job.outputs[0].with_name(f".{job.outputs[0].name}.job") / "frames.bin"

                def kill_when_under_way() -> None:
                    while not (journal.exists() and journal.stat().st_size > 0):
                        time.sleep(0.0005)
                    os.kill(os.getpid(), signal.SIGKILL)

                threading.Thread(target=kill_when_under_way, daemon=True).start()
                result = enhance(job)
                time.sleep(10)  # finished before the shot: it still dies, after its output is complete
                return result
            return enhance(job)

        return work


def test_killed_worker_costs_its_bag_only(tmp_path: Path, episodes: Path, alone: dict[str, bytes]) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    workers = LocalWorkers(KillingPlan(marks, "episode_000001"), 2)
    result = enhance_folder(episodes, tmp_path / "out", workers, OPTIONS)
    assert len(list(marks.iterdir())) == 1, "a worker was killed"
    assert contents(tmp_path / "out") == alone
    assert len(result.outputs) == 3


@pytest.mark.slow
def test_bag_that_keeps_killing_is_named_and_the_others_are_complete(tmp_path: Path, episodes: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    workers = LocalWorkers(KillingPlan(marks, "episode_000000", deaths=99), 2)
    with pytest.raises(RealdiffError, match="keep dying") as caught:
        enhance_folder(episodes, tmp_path / "out", workers, OPTIONS)
    assert "episode_000000" in str(caught.value) and "SIGKILL" in str(caught.value)
    assert len(list(marks.iterdir())) == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith("."))[-2:] == [
        "episode_000001",
        "episode_000002",
    ]


def test_bad_bag_stops_the_run_with_its_own_error(tmp_path: Path, episodes: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_episode(folder / "good", frames=2)
    write_episode(folder / "noisy", frames=2, record=provenance(DepthKind.SENSOR))
    with pytest.raises(ProvenanceError, match="noisy"):
        enhance_folder(folder, tmp_path / "out", LocalWorkers(PLAN, 2), OPTIONS)
    with pytest.raises(BagError, match="doesn't exist"):
        enhance_folder(tmp_path / "nothing", tmp_path / "out", LocalWorkers(PLAN, 2), OPTIONS)


@dataclass(frozen=True)
class DefectivePlan:
    def build(self) -> Callable[[int], int]:
        def work(job: int) -> int:
            return [10, 20][job]

        return work


def test_defects_keep_their_traceback() -> None:
    reports = {report.job: report for report in run_jobs(LocalWorkers(DefectivePlan(), 2), [0, 1, 2])}
    assert (reports[0].result, reports[1].result) == (10, 20)
    assert isinstance(reports[2].error, DefectError) and "IndexError" in str(reports[2].error)


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert local_workers(PLAN, 1) is None and local_workers(PLAN, 20, 1) is None
    for bags, size, expected in ((20, None, 8), (3, None, 3), (20, 12, 12)):
        workers = local_workers(PLAN, bags, size)
        assert workers is not None and workers.size == expected


@pytest.mark.parametrize("model", ["none", "gaussian", "perlin", "disparity", "active_dr"])
def test_models_without_a_network_take_cores_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    workers = local_workers(replace(PLAN, model=model), 20)
    assert workers is not None and workers.size == 8
    network = local_workers(replace(PLAN, model="two_stage"), 20)
    assert network is not None and network.size == 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    yield from ray_cluster()


@pytest.mark.slow
def test_ray_cluster_gives_the_same_bytes_though_a_worker_is_killed(
    tmp_path: Path, episodes: Path, alone: dict[str, bytes], cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from realdiff_core.ray_workers import RayWorkers

    # The workers must find the killing plan, which is in this file.
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, child_environment()["PYTHONPATH"]]))

    marks = tmp_path / "marks"
    marks.mkdir()
    import test_bag_farm

    plan = test_bag_farm.KillingPlan(marks, "episode_000002")
    enhance_folder(episodes, tmp_path / "out", RayWorkers(plan, cluster, 2), OPTIONS)
    assert len(list(marks.iterdir())) == 1
    assert contents(tmp_path / "out") == alone


def test_absent_cluster_is_named() -> None:
    pytest.importorskip("ray", reason="no Ray: pip install -r requirements/ray.txt")
    from realdiff_core.ray_workers import RayWorkers

    with pytest.raises(RealdiffError, match="no Ray cluster"):
        RayWorkers(PLAN, "127.0.0.1:9", 1)
