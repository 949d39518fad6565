"""Start states: where the objects stand and how the arm is posed, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import ConfigError
from realdiff_core.seeds import rng

from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH, READY_POSITIONS
from realdiff_sim_bridge.tasks import Task

_ATTEMPTS = 1000
_JOINT_SPREAD_RAD = 0.02
"""The real arm never starts twice from exactly the same joints either."""


@dataclass(frozen=True)
class StartState:
    """A start state.

    Attributes:
        joint_positions: float64[7], arm joints [rad].
        gripper_width: Distance between the fingers [m].
        objects: Poses of the task's objects in the frame "base".
    """

    joint_positions: FloatArray
    gripper_width: float
    objects: dict[str, Pose]


def draw_start(task: Task, seed: int) -> StartState:
    """Draws a start state; the same task and seed give the same state.

    Args:
        task: The task's configuration.
        seed: Any integer from 0.

    Raises:
        ConfigError: The objects don't fit into their ranges without overlapping.
    """
    random = rng(seed)
    joints = np.asarray(READY_POSITIONS) + random.uniform(-_JOINT_SPREAD_RAD, _JOINT_SPREAD_RAD, 7)
    for _ in range(_ATTEMPTS):
        poses: dict[str, Pose] = {}
        for name, item in task.objects.items():
            x, y = random.uniform(*item.start.x), random.uniform(*item.start.y)
            yaw = np.radians(random.uniform(*item.start.yaw))
            quaternion = np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])
            poses[name] = Pose(np.array([x, y, item.rest_height + 5e-4]), quaternion)
        if _apart(task, poses):
            return StartState(joints, MAX_GRIPPER_WIDTH, poses)
    raise ConfigError(
        f"task '{task.name}': no arrangement of the objects keeps them apart",
        expected=f"a free space of {task.clearance} m between {', '.join(task.objects)}",
        got=f"none in {_ATTEMPTS} draws from their start ranges",
        next_step="widen the start ranges or lower `clearance` in the task's configuration",
    )


def _apart(task: Task, poses: dict[str, Pose]) -> bool:
    names = list(poses)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            distance = float(np.linalg.norm(poses[first].position[:2] - poses[second].position[:2]))
            if distance < task.objects[first].footprint + task.objects[second].footprint + task.clearance:
                return False
    return True
