"""Success tests of task configurations on the simulator's true state."""

from __future__ import annotations

import numpy as np

from realdiff_sim_bridge.adapters.base import SimState
from realdiff_sim_bridge.tasks import Inside, Lifted, Released, RestingOn, Still, SuccessTest, Task, Upright


def holds(task: Task, test: SuccessTest, state: SimState) -> bool:
    """Returns whether one test holds in a state."""
    pose = state.objects[test.object]
    item = state.items.get(test.object, task.objects[test.object])
    if isinstance(test, RestingOn | Inside):
        below = state.objects[test.target]
        target = state.items.get(test.target, task.objects[test.target])
        if isinstance(test, RestingOn):
            offset = float(np.linalg.norm(pose.position[:2] - below.position[:2]))
            gap = pose.position[2] - item.rest_height - (below.position[2] + (target.seat or 0.0))
            return bool(offset <= test.max_offset and abs(gap) <= test.max_gap)
        room = target.inside or (0.0, 0.0)
        x, y, z = (below.inverse() @ pose).position
        return bool(abs(x) <= room[0] and abs(y) <= room[1] and 0.0 <= z <= target.top)
    if isinstance(test, Lifted):
        return float(pose.position[2]) - item.rest_height >= test.min_height
    if isinstance(test, Upright):
        return float(pose.rotation[2, 2]) >= float(np.cos(np.radians(test.max_tilt)))
    if isinstance(test, Still):
        return state.object_speeds[test.object] <= test.max_speed
    if isinstance(test, Released):
        top = pose.position + pose.rotation @ np.array([0.0, 0.0, item.top])
        return float(np.linalg.norm(state.tcp.position - top)) >= test.min_distance
    raise TypeError(f"no rule for the success test '{test.test}'")


class SuccessMonitor:
    """Decides when a task is done: all its tests have held without a break for `hold_s` seconds.

    Args:
        task: The task's configuration.
    """

    def __init__(self, task: Task) -> None:
        """Starts with the task undone."""
        self._task = task
        self._since_ns: int | None = None
        self.done = False

    def update(self, state: SimState) -> bool:
        """Takes the next state into account.

        Args:
            state: The state; times must not go back.

        Returns:
            Whether all tests hold in this state. `done` says whether they have held long enough.
        """
        now = all(holds(self._task, test, state) for test in self._task.success.tests)
        if not now:
            self._since_ns = None
            self.done = False
        else:
            self._since_ns = state.time_ns if self._since_ns is None else self._since_ns
            self.done = state.time_ns - self._since_ns >= round(self._task.success.hold_s * 1e9)
        return now
