"""The expert for tasks made of "pick" and "place" subtasks.

Each subtask is a list of moves: straight lines of the tool centre point with a minimum-jerk profile, a gripper width,
and a pause at the end. A subtask's moves are laid out when it begins, from the objects' poses at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from realdiff_core.seeds import rng
from scipy.spatial.transform import Rotation

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, Command, SimState
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.kinematics import ArmKinematics
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH
from realdiff_sim_bridge.tasks import Subtask, Task

_APPROACH_M = 0.10
"""Height above the grip or release point from which the hand comes straight down."""

_GRIP_DEPTH_M = 0.026
"""How far the tool centre point goes below an object's top; the palm stays clear of it."""

_RELEASE_GAP_M = 0.002
_CLEAR_HEIGHT_M = 0.20
"""Height of the carried object's underside above the table on the way."""

_EXPERT_STREAM = 0xE9
"""Keeps the expert's random numbers apart from those of the reset, which uses the same seed."""


@dataclass(frozen=True)
class _Move:
    target: Pose
    width: float
    speed: float
    pause_s: float = 0.0


@dataclass(frozen=True)
class ExpertStep:
    """What the expert does next.

    Attributes:
        command: The command for the coming control period.
        tcp: Pose of fr3_hand_tcp in "base" that belongs to the command.
        subtask: Name of the current subtask; "finished" after the last.
    """

    command: Command
    tcp: Pose
    subtask: str


class PickAndPlaceExpert:
    """Plays a task's subtasks in order.

    Args:
        task: The task's configuration.
    """

    def __init__(self, task: Task) -> None:
        """Prepares the inverse kinematics."""
        self._task = task
        self._arm = ArmKinematics()
        self._moves: list[_Move] = []
        self._pending: list[Subtask] = []
        self._subtask = ""

    def reset(self, state: SimState, seed: int) -> None:
        """Starts over from a state; small variations of speed and grip are drawn from the seed."""
        random = rng(seed ^ (_EXPERT_STREAM << 56))
        self._arm.reset(state.robot.arm_positions)
        self._pending = list(self._task.subtasks)
        self._moves = []
        self._subtask = self._pending[0].name
        self._speed = float(random.uniform(0.85, 1.15))
        self._grip_depth = _GRIP_DEPTH_M + float(random.uniform(-0.004, 0.004))
        self._width = MAX_GRIPPER_WIDTH
        self._grip_offset = 0.0
        self._elapsed_s = 0.0
        self._start = self._arm.tcp

    @property
    def finished(self) -> bool:
        """Whether all moves have been made; the expert then holds its position."""
        return not self._moves and not self._pending

    def act(self, state: SimState) -> ExpertStep:
        """Returns the next step.

        Args:
            state: The state at the beginning of the coming control period.
        """
        if not self._moves and self._pending:
            subtask = self._pending.pop(0)
            self._subtask = subtask.name
            self._moves = (
                self._plan_pick(subtask, state) if subtask.action == "pick" else self._plan_place(subtask, state)
            )
            self._elapsed_s, self._start = 0.0, self._arm.tcp
        if not self._moves:
            return ExpertStep(Command(self._arm.joint_positions, self._width), self._arm.tcp, "finished")
        move = self._moves[0]
        self._elapsed_s += CONTROL_PERIOD_NS * 1e-9
        duration = self._duration(move)
        share = min(self._elapsed_s / duration, 1.0) if duration > 0 else 1.0
        joints = self._arm.step(_between(self._start, move.target, _minimum_jerk(share)), CONTROL_PERIOD_NS * 1e-9)
        self._width = move.width
        if self._elapsed_s >= duration + move.pause_s:
            self._moves.pop(0)
            self._elapsed_s, self._start = 0.0, move.target
        return ExpertStep(Command(joints, self._width), self._arm.tcp, self._subtask)

    def _duration(self, move: _Move) -> float:
        """Time for a move [s]: its length over its mean speed; turning counts as well."""
        length = float(np.linalg.norm(move.target.position - self._start.position))
        turn = float(
            (Rotation.from_quat(self._start.quaternion).inv() * Rotation.from_quat(move.target.quaternion)).magnitude()
        )
        return max(length / move.speed, turn / 0.8) / self._speed

    def _plan_pick(self, subtask: Subtask, state: SimState) -> list[_Move]:
        item, pose = self._task.objects[subtask.object], state.objects[subtask.object]
        self._grip_offset = item.seat - self._grip_depth
        grip = _downwards(pose.position + np.array([0.0, 0.0, self._grip_offset]))
        above = _raised(grip, _APPROACH_M)
        lifted = _raised(grip, _CLEAR_HEIGHT_M)
        return [
            _Move(above, MAX_GRIPPER_WIDTH, 0.22),
            _Move(grip, MAX_GRIPPER_WIDTH, 0.12, pause_s=0.15),
            _Move(grip, 0.0, 1.0, pause_s=0.5),
            _Move(lifted, 0.0, 0.18),
        ]

    def _plan_place(self, subtask: Subtask, state: SimState) -> list[_Move]:
        if subtask.target is None:
            raise ValueError(f"subtask '{subtask.name}' has no target")  # the task's validation excludes it
        below = state.objects[subtask.target]
        item = self._task.objects[subtask.object]
        seat = below.position[2] + self._task.objects[subtask.target].seat
        # The object may have slipped in the hand: what counts is where it is relative to the fingers now.
        held = state.objects[subtask.object].position - state.tcp.position
        height = seat + item.rest_height + _RELEASE_GAP_M - held[2]
        release = _downwards(np.array([below.position[0] - held[0], below.position[1] - held[1], height]))
        carried = _raised(release, _APPROACH_M)
        return [
            _Move(Pose(np.array([*carried.position[:2], self._arm.tcp.position[2]]), carried.quaternion), 0.0, 0.20),
            _Move(carried, 0.0, 0.15),
            _Move(release, 0.0, 0.10, pause_s=0.25),
            _Move(release, MAX_GRIPPER_WIDTH, 1.0, pause_s=0.6),
            _Move(_raised(release, 0.14), MAX_GRIPPER_WIDTH, 0.14, pause_s=0.3),
        ]


def _downwards(position: FloatArray) -> Pose:
    """A grasp from above: the hand's z axis points down, its x axis forwards, the fingers close along y."""
    return Pose.from_rotation(position, np.diag([1.0, -1.0, -1.0]))


def _raised(pose: Pose, height: float) -> Pose:
    return Pose(pose.position + np.array([0.0, 0.0, height]), pose.quaternion)


def _minimum_jerk(share: float) -> float:
    return share**3 * (10.0 - 15.0 * share + 6.0 * share**2)


def _between(start: Pose, end: Pose, share: float) -> Pose:
    first, last = Rotation.from_quat(start.quaternion), Rotation.from_quat(end.quaternion)
    turned = first * Rotation.from_rotvec(share * (first.inv() * last).as_rotvec())
    return Pose((1.0 - share) * start.position + share * end.position, np.asarray(turned.as_quat(canonical=True)))
