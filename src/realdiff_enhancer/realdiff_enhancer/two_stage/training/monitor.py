"""Curves and pictures of a run for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_HISTORY_NAME = "history.jsonl"


class Curves:
    """TensorBoard scalars and images of a run, and its history for the record, which goes on where a run does.

    Args:
        folder: of the event files and the history; None writes none (other processes).
        report: receives a line for the user now and then.
        report_every_s: seconds between those lines.
    """

    def __init__(self, folder: Path | None, report: Callable[[str], None], report_every_s: float = 15.0) -> None:
        self._writer: Any = None
        self._folder = folder
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard reads the files in the order of their names, which begin with the second
            while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
                time.sleep(0.05)
            self._writer = SummaryWriter(str(folder))
        self._report, self._every = report, report_every_s
        self._reported = 0.0
        self._started = time.monotonic()
        self.history: list[dict[str, Any]] = [] if folder is None else _read(folder / _HISTORY_NAME)

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Numbers of a step."""
        if self._writer is None or self._folder is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)
        seconds = time.monotonic() - self._started
        row = {"stage": stage, "step": step, "seconds": round(seconds, 1), **values}
        # steps after the last checkpoint of a killed run are done, and told, again
        self.history = [old for old in self.history if (old["stage"], old["step"]) != (stage, step)]
        self.history.append(row)
        with (self._folder / _HISTORY_NAME).open("a") as file:
            file.write("\n" + json.dumps(row))  # a line that a killed run has left half written stays alone
        if time.monotonic() - self._reported > self._every:
            self._reported = time.monotonic()
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k != "learning_rate")
            self._report(f"{stage} {step}: {shown} ({seconds:.0f} s)")

    def images(self, name: str, step: int, rows: list[Tensor]) -> None:
        """A grid of images: one row of [N,1,h,w] in [0,1] each (NaN becomes red)."""
        if self._writer is None:
            return
        size = rows[0].shape[-2:]
        lines = []
        for row in rows:
            images = torch.nn.functional.interpolate(row.float(), size=size, mode="nearest")
            red = torch.tensor([0.8, 0.1, 0.1], device=images.device).view(1, 3, 1, 1)
            coloured = torch.where(torch.isfinite(images), images.clamp(0, 1), red)
            lines.append(torch.cat(list(coloured), dim=-1))
        self._writer.add_image(name, torch.cat(lines, dim=-2).cpu(), step)

    def close(self) -> None:
        """Writes what is pending."""
        if self._writer is not None:
            self._writer.close()


def _read(file: Path) -> list[dict[str, Any]]:
    """What earlier calls have logged, every step once; a line that a killed run left half written is none."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows.pop((row["stage"], row["step"]), None)
        rows[row["stage"], row["step"]] = row
    return list(rows.values())
