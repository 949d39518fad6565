"""Where results go: a folder that appears complete or not at all."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from realdiff_core.errors import OutputError

from realdiff_enhancer.evaluation.figures import curves_figure, frames_figure
from realdiff_enhancer.evaluation.runner import EvaluationSettings, SceneResult
from realdiff_enhancer.evaluation.tables import as_json, markdown, write_csv

_MARKER = "results.json"


@contextmanager
def output_folder(path: Path, overwrite: bool, marker: str = _MARKER) -> Iterator[Path]:
    """Yield a folder beside ``path`` that takes its place when the body has finished without an error.

    Args:
        path: the folder to make.
        overwrite: replace an earlier result that lies there.
        marker: file by which an earlier result is known.

    Raises:
        OutputError: ``path`` exists and may not be replaced.
    """
    if path.exists():
        if not overwrite:
            raise OutputError(
                "output exists already", where=path, next_step="add --overwrite, or choose another folder"
            )
        if not (path / marker).is_file():
            raise OutputError("output exists and is no earlier result", where=path, next_step="choose another folder")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_results(folder: Path, results: Sequence[SceneResult], run: dict[str, Any]) -> None:
    """Write tables and figures into an existing folder."""
    (folder / "summary.md").write_text(markdown(results, run), encoding="utf-8")
    (folder / _MARKER).write_text(as_json(results, run), encoding="utf-8")
    write_csv(folder / "results.csv", results)
    figures = folder / "figures"
    figures.mkdir()
    for result in results:
        frames_figure(figures / f"{result.scene.name}_frames.png", result)
        curves_figure(figures / f"{result.scene.name}_curves.png", result)


def run_description(command: str, settings: EvaluationSettings, steps: int | None) -> dict[str, Any]:
    """Describe how the numbers came about: command, settings, hardware, library versions."""
    libraries = ("numpy", "scipy", "torch", "opencv-python-headless")
    return {
        "command": command,
        "steps": steps,
        **asdict(settings),
        "hardware": hardware(settings.device),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in libraries},
    }


def hardware(device: str) -> str:
    """Name the processor and, where used, the GPU."""
    text = f"{_processor()}, {_cores()} cores"
    if device.startswith("cuda"):
        import torch

        text += f", {torch.cuda.get_device_name(device)}"
    return text


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
