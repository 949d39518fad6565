"""Folders of bags with the learned model: the same bytes from several processes or a cluster, and GPUs shared out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from enhancer_bags import child_environment, depth_images, ray_cluster, write_episode  # noqa: E402
from realdiff_core.config import camera_profile  # noqa: E402
from realdiff_core.worker_pool import LocalWorkers, Workers  # noqa: E402
from realdiff_enhancer.bag_enhancer import output_paths  # noqa: E402
from realdiff_enhancer.bag_farm import BagJob, EnhancePlan, enhance_folder, local_workers  # noqa: E402
from realdiff_enhancer.job import EnhanceOptions  # noqa: E402
from realdiff_enhancer.two_stage.model_folder import save_model  # noqa: E402
from realdiff_enhancer.two_stage.networks import make_coarse, make_fine  # noqa: E402
from test_two_stage import TINY  # noqa: E402

OPTIONS = EnhanceOptions(model="two_stage", steps=2, draws=2)
PROFILE = camera_profile("d435")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EnhancePlan:
    """Random weights, on the CPU."""
    weights = tmp_path_factory.mktemp("weights") / "tiny"
    torch.manual_seed(3)
    save_model(weights, TINY, make_coarse(TINY), make_fine(TINY))
    return EnhancePlan("two_stage", PROFILE, steps=2, device="cpu", weights=weights)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("episodes") / "in"
    root.mkdir()
    for index, (storage, encoding) in enumerate((("mcap", "16UC1"), ("sqlite3", "32FC1"), ("mcap", "32FC1"))):
        write_episode(root / f"episode_{index:06d}", storage, encoding, frames=2 + index)
    return root


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def alone(plan: EnhancePlan, episodes: Path) -> dict[str, bytes]:
    """What this process makes of the folder, with all its threads."""
    output = episodes.parent / "alone"
    work = plan.build()
    for bag, outputs in output_paths(episodes, output, OPTIONS.draws):
        work(BagJob(bag, tuple(outputs), OPTIONS))
    first, second = (depth_images(output / f"draw_00{draw}" / "episode_000000") for draw in range(2))
    assert (first != second).any()
    assert (first != depth_images(episodes / "episode_000000")).mean() > 0.1
    return contents(output)


def test_two_processes_give_the_bytes_of_one(
    plan: EnhancePlan, episodes: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    result = enhance_folder(episodes, tmp_path / "out", LocalWorkers(plan, 2), OPTIONS)
    assert contents(tmp_path / "out") == alone
    assert len(alone) >= 6 and result.frames == 2 * 2 * (2 + 3 + 4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    yield from ray_cluster()


@pytest.mark.slow
def test_a_cluster_gives_the_bytes_of_one_process(
    plan: EnhancePlan,
    episodes: Path,
    alone: dict[str, bytes],
    tmp_path: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from realdiff_core.ray_workers import RayWorkers

    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    enhance_folder(episodes, tmp_path / "out", RayWorkers(plan, cluster, 2), OPTIONS)
    assert contents(tmp_path / "out") == alone


# GPUs


def gpus_of(workers: Workers | None) -> Counter[str | None]:
    """How many processes are to have which GPU; that they have it is tested where they are started."""
    assert isinstance(workers, LocalWorkers)
    assert len(workers._environments) == workers.size
    return Counter(environment.get("CUDA_VISIBLE_DEVICES") for environment in workers._environments)


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None) -> None:
    """A machine of 4 cores and so many GPUs, of which the user has chosen some."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ("0", "1")), ("2,5", ("2", "5")), ("GPU-a,GPU-b", ("GPU-a", "GPU-b"))]
)
def test_every_process_has_one_gpu(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, names: tuple[str, str]
) -> None:
    with_gpus(monkeypatch, 2, visible)
    plan = EnhancePlan("two_stage", PROFILE, device="auto")
    assert gpus_of(local_workers(plan, 9)) == dict.fromkeys(names, 1)
    assert gpus_of(local_workers(replace(plan, device="cuda"), 9, 3)) == {names[0]: 2, names[1]: 1}
    assert local_workers(plan, 1) is None


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_a_model_on_the_cpu_takes_cores_and_no_gpu(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    with_gpus(monkeypatch, 2, None)
    assert gpus_of(local_workers(EnhancePlan("two_stage", PROFILE, device=device), 9)) == {None: 4}


def test_a_named_gpu_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3, None)
    plan = EnhancePlan("two_stage", PROFILE, device="cuda:1")
    assert local_workers(plan, 9) is None
    assert gpus_of(local_workers(plan, 9, 2)) == {None: 2}  # both see all and take the one that the plan names
