"""Shared by the simulation tests: a small camera, short tasks, and the skip where nothing can be rendered."""

from __future__ import annotations

from functools import lru_cache

import pytest
from realdiff_core.errors import RealdiffError
from realdiff_sim_bridge.rendering import select_gl
from realdiff_sim_bridge.tasks import Success, Task, Upright, load_task

try:
    select_gl()  # before any test module imports mujoco
    NO_GL = ""
except RealdiffError as error:
    NO_GL = str(error)

needs_gl = pytest.mark.skipif(bool(NO_GL), reason=NO_GL or "rendering works")


@lru_cache(maxsize=1)
def can_to_plate() -> Task:
    return load_task("can_to_plate")


def quick_task(*, hold_s: float = 0.2, horizon_s: float = 20.0) -> Task:
    """The same scene, but done as soon as the can has stood upright for `hold_s`: episodes last a moment."""
    test = Upright(test="upright", object="can", max_tilt=10.0)
    return can_to_plate().model_copy(update={"success": Success(hold_s=hold_s, tests=(test,)), "horizon_s": horizon_s})
