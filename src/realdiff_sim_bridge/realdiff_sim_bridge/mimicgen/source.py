"""The motion source: plays moved source segments one after another, in a closed loop with the simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from realdiff_core.seeds import rng

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, Command, SimState
from realdiff_sim_bridge.control import ArmController, ControllerName, create_controller
from realdiff_sim_bridge.errors import MotionError
from realdiff_sim_bridge.experts import ExpertStep
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.mimicgen.demonstrations import Demonstration, Segment, load_demonstrations
from realdiff_sim_bridge.mimicgen.reach import first_reachable
from realdiff_sim_bridge.mimicgen.selection import Selection, select
from realdiff_sim_bridge.mimicgen.transform import angle, interpolate, perturb
from realdiff_sim_bridge.tasks import Task

_PERIOD_S = CONTROL_PERIOD_NS * 1e-9
_STREAM = 0x36
"""Keeps MimicGen's random numbers apart from those of the reset, which uses the same seed."""

ACTION_SHIFT_M, ACTION_TURN_RAD = 0.05, 0.5
"""What an action of 1 means in the paper's action space (robosuite's OSC_POSE): largest shift and turn of a step."""

_NOISE_PERIOD_S = 0.05
"""Time between two draws of the noise: the paper's control rate is 20 Hz; in between it is interpolated."""

_SPEED_RANGE = (0.10, 0.45)
_TURN_SPEED = 1.2
_PEAK_TO_MEAN = 1.875
"""Highest speed of a minimum-jerk profile over its mean."""

_LAG_M, _LAG_RAD = 0.010, 0.10
_PATIENCE_S = 0.4
"""If the arm lags behind by more than this, the clock of the segment waits, at most so long at a time."""


_GRIP_WINDOW_S = 0.1


@dataclass(frozen=True)
class MimicGenSpec:
    """MimicGen with its sources; see `recording.plan.SourceSpec`.

    Attributes:
        demonstrations: The sources.
        selection: How source segments are chosen.
        controller: What turns hand poses into joint positions.
        noise: Standard deviation of the noise on the hand's targets, as a share of the action space (5 cm, 0.5 rad).
        interpolation_steps: Least number of control steps from the last target to a segment's beginning.
        neighbours: How many of the nearest segments are drawn from.
    """

    demonstrations: tuple[Demonstration, ...]
    selection: Selection = "nearest_object"
    controller: ControllerName = "dik"
    noise: float = 0.05
    interpolation_steps: int = 5
    neighbours: int = 3

    @classmethod
    def load(cls, folder: Path, task: Task, selection: Selection, controller: ControllerName) -> MimicGenSpec:
        """Loads the sources; see `demonstrations.load_demonstrations` for what is refused."""
        return cls(load_demonstrations(folder, task), selection, controller)

    def create(self, task: Task) -> MimicGenSource:
        """Makes the motion source."""
        return MimicGenSource(task, self)

    def notes(self) -> dict[str, str]:
        """What the provenance record says: the strategy, and which sources by name and hash."""
        return {
            "source": "mimicgen",
            "selection": self.selection,
            "controller": self.controller,
            "noise": str(self.noise),
            "interpolation_steps": str(self.interpolation_steps),
            "neighbours": str(self.neighbours),
            "sources": json.dumps({item.name: item.sha256 for item in self.demonstrations}, sort_keys=True),
        }


@dataclass
class _Playback:
    """A subtask under way: first to the beginning of the moved segment, then along it.

    Attributes:
        start: The last target of the subtask before.
        poses: The moved segment.
        segment: The source segment.
        width: Width between the fingers on the way to the beginning [m].
        lead_s: Time to the beginning [s].
        clock_s: Time that has been played [s].
        waited_s: Time that the clock has been waiting for the arm [s].
    """

    start: Pose
    poses: tuple[Pose, ...]
    segment: Segment
    width: float
    lead_s: float
    clock_s: float = 0.0
    waited_s: float = 0.0

    @property
    def leading(self) -> bool:
        """Whether the hand is on its way to the segment's beginning."""
        return self.clock_s <= self.lead_s

    @property
    def done(self) -> bool:
        """Whether the segment has been played to its end."""
        return self.clock_s >= self.lead_s + float(self.segment.times_s[-1])

    @property
    def fingers_move(self) -> bool:
        """Whether the fingers open or close about now."""
        if self.leading:
            return False
        near = np.abs(self.segment.times_s - (self.clock_s - self.lead_s)) <= _GRIP_WINDOW_S
        return bool(np.ptp(self.segment.widths[near]) > 1e-3)

    def target(self) -> tuple[Pose, float]:
        """Pose and width at the clock's time."""
        if self.leading:
            share = self.clock_s / self.lead_s
            smooth = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
            return interpolate(self.start, self.poses[0], smooth), self.width
        times = self.segment.times_s
        now = min(self.clock_s - self.lead_s, float(times[-1]))
        k = min(int(np.searchsorted(times, now, side="right")) - 1, len(times) - 2)
        share = float((now - times[k]) / (times[k + 1] - times[k]))
        return interpolate(self.poses[k], self.poses[k + 1], share), float(self.segment.widths[k])


class MimicGenSource:
    """Plays a task as its sources do; see `episodes.MotionSource`.

    Each subtask begins by choosing a source segment and moving it along with the subtask's reference object, as that
    stands at this moment. The hand goes to its beginning (no noise there) no faster than the segment itself moves, then
    follows it (with noise). Where the arm can't keep up the segment's clock waits; an arm that is late when the
    fingers are to move has failed.

    Args:
        task: The task's configuration.
        spec: Sources and parameters.
    """

    def __init__(self, task: Task, spec: MimicGenSpec) -> None:
        """Makes the controller."""
        self._task = task
        self._spec = spec
        self._arm: ArmController = create_controller(spec.controller)
        self._playback: _Playback | None = None
        self._pending: list[int] = []
        self.episode_notes: dict[str, str] = {}

    def reset(self, state: SimState, seed: int) -> None:
        """Starts over from a state."""
        self._random = rng(seed ^ (_STREAM << 56))
        self._arm.reset(state.robot.arm_positions)
        self._pending = list(range(len(self._task.subtasks)))
        self._playback = None
        self._target = self._upright = self._arm.tcp
        self._width = state.robot.gripper_width
        self._subtask = self._task.subtasks[0].name
        self._noise = np.zeros((2, 6))
        self._noise_age_s = np.inf
        self.episode_notes = {}

    @property
    def finished(self) -> bool:
        """Whether all segments have been played."""
        return self._playback is None and not self._pending

    def act(self, state: SimState) -> ExpertStep:
        """Returns the next step; see `episodes.MotionSource.act`."""
        if self._playback is None and self._pending:
            self._playback = self._begin(self._pending.pop(0), state)
        playback = self._playback
        if playback is None:
            return ExpertStep(Command(self._arm.joint_positions, self._width), self._arm.tcp, "finished")
        self._advance(playback)
        self._target, self._width = playback.target()
        wanted = self._target if playback.leading else self._noisy(self._target)
        joints = self._arm.step(wanted, _PERIOD_S)
        if playback.done:
            self._playback = None
        return ExpertStep(Command(joints, self._width), self._arm.tcp, self._subtask)

    def _begin(self, number: int, state: SimState) -> _Playback:
        """Chooses and moves the source segment of a subtask."""
        subtask = self._task.subtasks[number]
        name = subtask.target or subtask.object
        item = state.items.get(name, self._task.objects[name])
        segment, poses = select(
            self._spec.selection,
            [demonstration.segments[number] for demonstration in self._spec.demonstrations],
            reference=state.objects[name],
            symmetry_deg=item.symmetry_deg,
            hand=self._arm.tcp,
            # An empty hand may turn either way, but the joints' middle is best; a full one shouldn't turn needlessly.
            upright=self._upright if subtask.action == "pick" else self._arm.tcp,
            neighbours=self._spec.neighbours,
            random=self._random,
        )
        entry = first_reachable(poses, segment.widths)
        poses, segment = poses[entry:], segment.from_step(entry)
        self._subtask = subtask.name
        self._noise_age_s = np.inf
        chosen = f"{subtask.name}: {segment.source}"
        self.episode_notes["segments"] = ", ".join(filter(None, [self.episode_notes.get("segments", ""), chosen]))
        speed = float(np.clip(segment.speed, *_SPEED_RANGE))
        length = float(np.linalg.norm(poses[0].position - self._target.position))
        lead_s = _PEAK_TO_MEAN * max(length / speed, angle(self._target, poses[0]) / _TURN_SPEED)
        lead_s = max(lead_s, self._spec.interpolation_steps * _PERIOD_S)
        return _Playback(self._target, poses, segment, self._width, lead_s)

    def _advance(self, playback: _Playback) -> None:
        """Moves the clock on, unless the arm lags behind what was wanted of it."""
        lag = float(np.linalg.norm(self._target.position - self._arm.tcp.position))
        # The noise isn't lag: it is allowed for at three standard deviations.
        allowed = _LAG_M + 3.0 * self._spec.noise * ACTION_SHIFT_M
        allowed_turn = _LAG_RAD + 3.0 * self._spec.noise * ACTION_TURN_RAD
        if lag <= allowed and angle(self._target, self._arm.tcp) <= allowed_turn:
            playback.clock_s += _PERIOD_S
            playback.waited_s = 0.0
        elif playback.waited_s < _PATIENCE_S:
            playback.waited_s += _PERIOD_S
        elif playback.fingers_move:
            raise MotionError(
                f"the arm can't follow the moved segment of subtask {self._subtask}",
                where=f"{lag * 1e3:.0f} mm behind, source {playback.segment.source}",
            )
        else:  # late where nothing depends on it: what counts is where the hand is when the fingers move
            playback.clock_s += _PERIOD_S

    def _noisy(self, pose: Pose) -> Pose:
        """Adds noise that changes at the paper's control rate."""
        self._noise_age_s += _PERIOD_S
        if self._noise_age_s >= _NOISE_PERIOD_S - 1e-9:
            scale = self._spec.noise * np.repeat([ACTION_SHIFT_M, ACTION_TURN_RAD], 3)
            # After the interpolation, which has no noise, it begins at zero.
            last = self._noise[1] if np.isfinite(self._noise_age_s) else np.zeros(6)
            self._noise = np.array([last, scale * self._random.normal(size=6)])
            self._noise_age_s = 0.0
        share = self._noise_age_s / _NOISE_PERIOD_S
        noise: FloatArray = (1.0 - share) * self._noise[0] + share * self._noise[1]
        return perturb(pose, noise[:3], noise[3:])
