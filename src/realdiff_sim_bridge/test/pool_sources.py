"""Motion sources for the tests of the pool; in a module of their own because worker processes import them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from realdiff_sim_bridge.adapters.base import Command, SimState
from realdiff_sim_bridge.errors import MotionError
from realdiff_sim_bridge.experts import ExpertStep


class _Hold:
    """Holds the arm where it is; what a seed does is the subclass's business."""

    finished = False

    def __init__(self, spec: HoldSpec) -> None:
        self._spec = spec
        self._seed = 0

    def reset(self, state: SimState, seed: int) -> None:
        self._seed = seed
        self._joints = state.robot.arm_positions.copy()
        if seed in self._spec.slow:
            time.sleep(0.5)

    def act(self, state: SimState) -> ExpertStep:
        if state.time_ns >= 100_000_000:
            self._misbehave()
        return ExpertStep(Command(self._joints, 0.08), state.tcp, "hold")

    def _misbehave(self) -> None:
        spec = self._spec
        if self._seed in spec.stuck:
            raise MotionError("no motion here", where=f"seed {self._seed}")
        if self._seed in spec.exploding:
            self._joints = np.full(7, np.nan)
        if self._seed in spec.defective:
            raise KeyError("a defect")
        if self._seed in spec.deadly:
            marks = Path(spec.marks)
            died = len(list(marks.glob(f"{self._seed}-*")))
            if died < spec.deaths:
                (marks / f"{self._seed}-{died}").touch()
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class HoldSpec:
    """Seeds at which something happens."""

    stuck: tuple[int, ...] = ()
    exploding: tuple[int, ...] = ()
    defective: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    slow: tuple[int, ...] = ()
    deaths: int = 1
    marks: str = ""

    def create(self, task: Any) -> _Hold:
        return _Hold(self)

    def notes(self) -> dict[str, str]:
        return {"source": "hold"}
