"""The expert for tasks made of "pick" and "place" subtasks.

A subtask is a list of phases: a smooth motion of the tool centre point, or a pause while the fingers move. They are
laid out when the subtask begins, from the objects' poses at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from realdiff_core.seeds import rng

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, GRIPPER_SPEED, Command, SimState
from realdiff_sim_bridge.experts.motion import Motion, Stretch
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.kinematics import ArmKinematics
from realdiff_sim_bridge.objects import TaskObject
from realdiff_sim_bridge.scene.robot import MAX_GRIPPER_WIDTH
from realdiff_sim_bridge.tasks import Subtask, Task

_APPROACH_M = 0.08
"""Height above the grip or release point from which the hand comes straight down."""

_GRIP_DEPTH_M = 0.026
"""How far the tool centre point goes below an object's top; the palm stays clear of it."""

_LOWEST_TCP_M = 0.013
"""The fingertips reach 9 mm below the tool centre point and must not touch the table."""

_RELEASE_GAP_M = 0.002
_CARRY_HEIGHT_M = 0.13
"""Height of the carried object's underside above the table on the way, or more over a high target."""

_RELEASE_OPENING_M = 0.030
"""How much wider than the object the fingers open to let it go: a wide swing would hit what stands beside it."""

_TRAVEL_SPEED, _APPROACH_SPEED, _LOWER_SPEED, _LIFT_SPEED, _TURN_SPEED = 0.50, 0.28, 0.20, 0.38, 1.6
"""Highest speeds [m/s], [rad/s]; a fifth or less of what the arm can do."""

_CORNER = 0.30
"""Overlap of consecutive stretches: how much a corner is rounded."""

_SETTLE_S = 0.10
_EXPERT_STREAM = 0xE9
"""Keeps the expert's random numbers apart from those of the reset, which uses the same seed."""

_DOWN = np.diag([1.0, -1.0, -1.0])
"""A grasp from above: the hand's z axis points down, its x axis forwards, the fingers close along y."""


@dataclass(frozen=True)
class _Phase:
    stretches: tuple[Stretch, ...]
    quaternion: FloatArray
    width: float
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
        self._phases: list[_Phase] = []
        self._motion: Motion | None = None
        self._pending: list[Subtask] = []
        self._subtask = ""

    def reset(self, state: SimState, seed: int) -> None:
        """Starts over from a state; small variations of speed and grip are drawn from the seed."""
        random = rng(seed ^ (_EXPERT_STREAM << 56))
        self._arm.reset(state.robot.arm_positions)
        self._pending = list(self._task.subtasks)
        self._phases = []
        self._motion = None
        self._subtask = self._pending[0].name
        self._speed = float(random.uniform(0.88, 1.12))
        self._grip_depth = _GRIP_DEPTH_M + float(random.uniform(-0.004, 0.004))
        self._width = MAX_GRIPPER_WIDTH
        self._elapsed_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether all phases have been played; the expert then holds its position."""
        return not self._phases and not self._pending

    def act(self, state: SimState) -> ExpertStep:
        """Returns the next step.

        Args:
            state: The state at the beginning of the coming control period.
        """
        if not self._phases and self._pending:
            subtask = self._pending.pop(0)
            self._subtask = subtask.name
            plan = self._plan_pick if subtask.action == "pick" else self._plan_place
            self._phases = plan(subtask, state)
        if not self._phases:
            return ExpertStep(Command(self._arm.joint_positions, self._width), self._arm.tcp, "finished")
        phase = self._phases[0]
        if self._motion is None:
            self._motion = Motion(self._arm.tcp, list(phase.stretches), phase.quaternion, _TURN_SPEED)
            self._elapsed_s = 0.0
        self._elapsed_s += CONTROL_PERIOD_NS * 1e-9
        target = self._motion.at(self._elapsed_s * self._speed)
        joints = self._arm.step(target, CONTROL_PERIOD_NS * 1e-9)
        self._width = phase.width
        if self._elapsed_s >= self._motion.duration_s / self._speed + phase.pause_s:
            self._phases.pop(0)
            self._motion = None
        return ExpertStep(Command(joints, self._width), self._arm.tcp, self._subtask)

    def _item(self, name: str, state: SimState) -> TaskObject:
        return state.items.get(name, self._task.objects[name])

    def _plan_pick(self, subtask: Subtask, state: SimState) -> list[_Phase]:
        item, pose = self._item(subtask.object, state), state.objects[subtask.object]
        yaw = _nearest(_yaw(pose), item.symmetry_deg)
        top = pose.position[2] + item.top
        height = max(top - self._grip_depth, top - item.rest_height - item.top + _LOWEST_TCP_M)
        grip = np.array([*pose.position[:2], height])
        rotation = _downwards(yaw)
        closing = max(self._width - (item.grip_width or 0.0), 0.0) / GRIPPER_SPEED
        clear = self._clear_height(subtask.object, state)
        return [
            _Phase(
                (
                    Stretch(_raised(grip, _APPROACH_M), _TRAVEL_SPEED),
                    Stretch(grip, _APPROACH_SPEED, overlap=_CORNER),
                ),
                rotation, MAX_GRIPPER_WIDTH, pause_s=0.5 * _SETTLE_S,
            ),
            _Phase((Stretch(grip, _TRAVEL_SPEED),), rotation, 0.0, pause_s=closing + _SETTLE_S),
            _Phase((Stretch(_raised(grip, clear), _LIFT_SPEED),), rotation, 0.0),
        ]  # fmt: skip

    def _clear_height(self, name: str, state: SimState) -> float:
        """How far an object is lifted: clear of everything that it may be placed on [m]."""
        targets = {subtask.target for subtask in self._task.subtasks if subtask.object == name} - {None}
        tops = [state.objects[target].position[2] + self._item(target, state).top for target in targets if target]
        return max([_CARRY_HEIGHT_M, *(top + 0.06 for top in tops)])

    def _plan_place(self, subtask: Subtask, state: SimState) -> list[_Phase]:
        if subtask.target is None:
            raise ValueError(f"subtask '{subtask.name}' has no target")  # the task's validation excludes it
        pose, below = state.objects[subtask.object], state.objects[subtask.target]
        item, target = self._item(subtask.object, state), self._item(subtask.target, state)
        # The object may have slipped in the hand: what counts is how it is held now.
        held = state.tcp.inverse() @ pose
        yaw = _yaw(state.tcp @ Pose(np.zeros(3), _FLIP))
        if item.symmetry_deg and target.symmetry_deg:
            yaw = _nearest(yaw + _yaw(below) - _yaw(pose), min(item.symmetry_deg, target.symmetry_deg))
        rotation = _downwards(yaw)
        stands = below.position + np.array([0.0, 0.0, (target.seat or 0.0) + item.rest_height + _RELEASE_GAP_M])
        release = stands - Pose(np.zeros(3), rotation).rotation @ held.position
        above = np.array([*release[:2], max(self._arm.tcp.position[2], release[2] + _APPROACH_M)])
        opened = min((item.grip_width or 0.0) + _RELEASE_OPENING_M, MAX_GRIPPER_WIDTH)
        return [
            _Phase(
                (Stretch(above, _TRAVEL_SPEED), Stretch(release, _LOWER_SPEED, overlap=_CORNER)),
                rotation, 0.0, pause_s=_SETTLE_S,
            ),
            _Phase((Stretch(release, _TRAVEL_SPEED),), rotation, opened, pause_s=_RELEASE_OPENING_M / GRIPPER_SPEED),
            _Phase((Stretch(_raised(release, 0.12), _LIFT_SPEED),), rotation, opened),
        ]  # fmt: skip


_FLIP = np.array([1.0, 0.0, 0.0, 0.0])
"""Half a turn about x, as a quaternion: takes the downward hand's frame to one with z up."""


def _yaw(pose: Pose) -> float:
    """Rotation about the vertical axis [rad]."""
    rotation = pose.rotation
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _nearest(yaw: float, symmetry_deg: float) -> float:
    """Returns the equivalent hand yaw closest to straight ahead [rad].

    The hand looks the same after half a turn; a round object can be gripped from any side.
    """
    if symmetry_deg == 0.0:
        return 0.0
    period = np.radians(min(symmetry_deg, 180.0))
    return float(yaw - period * np.round(yaw / period))


def _downwards(yaw: float) -> FloatArray:
    """Quaternion of a hand that points down, turned by `yaw` [rad]."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    return Pose.from_rotation([0.0, 0.0, 0.0], turn @ _DOWN).quaternion


def _raised(position: FloatArray, height: float) -> FloatArray:
    return position + np.array([0.0, 0.0, height])
