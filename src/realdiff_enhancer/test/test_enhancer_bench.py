"""The bench gives figures in the agreed form, and freed memory is kept for the next frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from enhancer_bags import child_environment

_FAULTS = """
import resource, sys, threading
import numpy as np
from realdiff_enhancer.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    raise SystemExit(3)
def frame():
    arrays = [np.ones((480, 640), np.float32) for _ in range(8)]
    del arrays
def work():
    for _ in range(20):
        frame()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(50):
        frame()
    print((resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before) / 50)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_bench_prints_figures_in_the_agreed_form() -> None:
    command = [sys.executable, "-m", "realdiff_enhancer.bench", "--only", "models", "bags", "--frames", "10", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250, env=child_environment(), check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert len(figures) == 10
    assert any(
        "from bag to bag against the model alone" in figure["name"] and figure["unit"] == "times" for figure in figures
    )
    for figure in figures:
        assert set(figure) == {"name", "value", "unit", "baseline", "ratio", "command"}
        assert figure["value"] > 0 and figure["command"].startswith("ros2 run ")
        assert (figure["baseline"] is None) == (figure["ratio"] is None)


@pytest.fixture()
def two_stage_bench() -> Any:
    pytest.importorskip("torch")
    from realdiff_enhancer.two_stage import bench as module

    return module


def by_name(figures: list[dict[str, Any]]) -> dict[str, tuple[float, str, float | None, float | None]]:
    assert len({figure["name"] for figure in figures}) == len(figures)
    return {f["name"]: (f["value"], f["unit"], f["baseline"], f["ratio"]) for f in figures}


@pytest.mark.parametrize("compiler", [True, False])
def test_a_gpu_is_measured_in_batches_alone_and_against_the_paper(
    two_stage_bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiler: bool
) -> None:
    import torch
    from realdiff_core.errors import ConfigError
    from realdiff_enhancer.bench import bench

    asked: list[Any] = []

    def measure(options: Any) -> Iterator[dict[str, Any]]:
        asked.append(options)
        if options.device == "cuda-compiled":
            if not compiler:
                raise ConfigError("the networks can't be compiled here")
            yield {"device": "cuda-compiled", "steps": 4, "p50_ms": 18.0, "p99_ms": 25.0, "batch": 1, "frames_per_s": 5}
            return
        base = {"device": "cuda", "steps": 4, "p50_ms": 40.0, "p99_ms": 60.0}
        yield {**base, "what": "paper", "batch": options.paper_frames, "frames_per_s": 1.25, "p50_ms": None}
        for batch in options.batch:
            rate = 300.0 if batch > 1 else 25.0
            alone = {} if batch == 1 else {"p50_ms": 70.0}
            yield {**base, **alone, "what": "ours", "batch": batch, "frames_per_s": rate, "ratio_to_paper": rate / 1.25}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(two_stage_bench, "measure", measure)
    figures = by_name(bench(("two_stage",), 200))
    live = {
        "two_stage, 4 steps a stage, cuda-compiled, one frame alone, p50": (18.0, "ms", 20.0, 0.9),
        "two_stage, 4 steps a stage, cuda-compiled, one frame alone, p99": (25.0, "ms", None, None),
    }
    assert figures == (live if compiler else {}) | {
        "paper: the baseline": (1.25, "frames/s", None, None),
        "two_stage, 4 steps a stage, cuda, batches of 32": (300.0, "frames/s", 250.0, 1.2),
        "two_stage, 4 steps a stage, cuda, batches of 32, against that baseline": (240.0, "times", 100.0, 2.4),
        "two_stage, 4 steps a stage, cuda, one frame alone, p50": (40.0, "ms", 20.0, 2.0),
        "two_stage, 4 steps a stage, cuda, one frame alone, p99": (60.0, "ms", None, None),
    }
    assert ("can't be compiled" in capsys.readouterr().err) != compiler
    assert [options.device for options in asked] == ["auto", "cuda-compiled"]
    assert asked[0].frames == 224  # whole batches: a part of one takes as long as all of it
    assert asked[0].paper_frames > 0 and asked[0].paper_steps == 50


def test_a_cpu_computes_a_few_frames_and_not_the_paper(two_stage_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from realdiff_enhancer.bench import bench
    from realdiff_enhancer.two_stage import model_folder
    from realdiff_enhancer.two_stage.networks import make_coarse, make_fine
    from realdiff_enhancer.two_stage.pipeline import TwoStageModel
    from test_two_stage import TINY

    shapes: list[tuple[int, ...]] = []
    enhance = TwoStageModel.enhance

    def counted(self: TwoStageModel, frames: Any) -> Any:
        shapes.append(frames.depth.shape)
        return enhance(self, frames)

    tiny = model_folder.LoadedModel(TINY, make_coarse(TINY), make_fine(TINY), "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(model_folder, "load_model", lambda folder, steps: tiny)
    monkeypatch.setattr(two_stage_bench, "SIZE", (64, 64))
    monkeypatch.setattr(TwoStageModel, "enhance", counted)
    figures = by_name(bench(("two_stage",), 200))
    label = f"two_stage, {TINY.schedule.steps} steps a stage, cpu"
    alone = [f"{label}, one frame alone, p{share}" for share in (50, 99)]
    assert list(figures) == [f"{label}, one frame a core", f"{label}, CPU time a frame", *alone]
    rate, unit, target, ratio = figures[f"{label}, one frame a core"]
    assert (unit, target) == ("frames/s", 1.0) and rate > 0 and ratio == pytest.approx(rate, rel=0.01, abs=0.001)
    assert 0 < figures[alone[0]][0] <= figures[alone[1]][0]
    assert shapes == [(1, 64, 64), (4, 64, 64), (4, 64, 64), *[(1, 64, 64)] * 3]


def test_freed_memory_is_kept() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FAULTS, "keep"],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        check=False,
    )
    if result.returncode == 3:
        pytest.skip("the C library isn't glibc")
    assert result.returncode == 0, result.stderr
    # Eight arrays of 300 pages each: less than one of them anew.
    assert float(result.stdout) < 300
