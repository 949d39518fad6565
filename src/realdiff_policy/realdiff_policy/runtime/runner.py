"""The run time of a policy without any ROS: observations in, safe set-points out.

Node and rollouts use the same object. A rollout calls

    runner = PolicyRunner(policy.contract, InProcessInference(policy), robot_config("fr3"))
    runner.reset()
    runner.observe(stamp_ns, colour, depth_m, joints, gripper_width)   # whenever there is an image
    command = runner.command(now_ns)                                   # every control step

A simulator whose commands are to be reached one control period later asks for that time: `runner.command(now, ahead)`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.contract import PolicyContract, observation_problems
from realdiff_policy.runtime.chunks import Chunk, ChunkHistory, ChunkReader
from realdiff_policy.runtime.gripper import GripperAction, GripperSwitch
from realdiff_policy.runtime.inference import Inference, InferenceResult
from realdiff_policy.runtime.observations import ObservationBuffer
from realdiff_policy.runtime.planner import ChunkPlanner
from realdiff_policy.runtime.settings import RuntimeSettings
from realdiff_policy.runtime.statistics import Statistics
from realdiff_policy.safety import Fault, MotionLimits, Reason, RobotConfig, SafetyGate, Trajectory, motion_limits
from realdiff_policy.safety.watch import InputWatch, WatchSettings

FloatArray = NDArray[np.float64]

COLOUR, DEPTH = "colour images", "depth images"
"""Names of the image streams in faults."""

_HOLD_WINDOW_NS = 60_000_000_000
_FRESH_START_RAD = 0.03
"""An arm this near to its set-point goes on from the set-point, otherwise from where it is measured."""


class RunState(Enum):
    """What the run time is doing; the values are those of realdiff_msgs/PolicyStatus."""

    INACTIVE = 0
    RUNNING = 1
    HOLD = 2
    STOPPED = 3


class Command(NamedTuple):
    """A set-point.

    Attributes:
        positions: float64[7], joint positions [rad].
        velocities: float64[7], joint velocities [rad/s].
        gripper_width: Commanded distance between the fingers: fully open or closed [m].
    """

    positions: FloatArray
    velocities: FloatArray
    gripper_width: float


@dataclass
class _Request:
    stamp_ns: int
    asked_ns: int
    due_ns: int | None


class PolicyRunner:
    """Runs a policy behind the safety gate.

    Args:
        contract: The policy's.
        inference: Asks the policy.
        robot: The robot cell.
        settings: Rates, joining, time-outs; None: the defaults.
        watch: Time-outs of inputs; None: the defaults. Rollouts in lockstep have no use for steady time and leave it.
        limits: What the gate enforces; None: from `robot`.
        noisy_camera: Images never repeat exactly (real sensor or its stand-in).
    """

    def __init__(
        self,
        contract: PolicyContract,
        inference: Inference,
        robot: RobotConfig,
        settings: RuntimeSettings | None = None,
        watch: WatchSettings | None = None,
        limits: MotionLimits | None = None,
        *,
        noisy_camera: bool = False,
    ) -> None:
        """Puts the parts together; `reset` or the first observation starts it."""
        self.contract = contract
        self.settings = settings or RuntimeSettings()
        self.robot = robot
        self.limits = limits or motion_limits(robot)
        self.inference = inference
        self.buffer = ObservationBuffer(contract, self.settings.sync_tolerance_s)
        streams = (COLOUR,) if contract.depth is None else (COLOUR, DEPTH)
        self.watch = InputWatch(watch or WatchSettings(), streams, noisy=noisy_camera)
        self.gate = SafetyGate(self.limits, handover_s=self.settings.lead_s)
        self.gripper = GripperSwitch(robot.gripper)
        self._row_s = 1.0 / contract.action.rate_hz
        self._planner = ChunkPlanner(self.limits, self.settings, self._row_s)
        self._reader = ChunkReader(contract, self.limits, np.array(robot.home))
        self._history = ChunkHistory(self.settings)
        self._execute_s = (self.settings.execute or contract.action.execute) * self._row_s
        self.reset()

    def reset(self) -> None:
        """Forgets everything: a new trial begins."""
        self.buffer.clear()
        self.watch.reset()
        self.gripper.reset()
        self._history.clear()
        self.inference.forget()
        self.gate = SafetyGate(self.limits, handover_s=self.settings.lead_s)
        self.statistics = Statistics()
        self.state = RunState.INACTIVE
        self.faults: list[Fault] = []
        self.revision = 0
        self.gripper_actions: deque[GripperAction] = deque(maxlen=16)
        self._outside: dict[Reason, Fault] = {}
        self._request: _Request | None = None
        self._result: InferenceResult | None = None
        self._chunk: Chunk | None = None
        self._recent_latency_s: deque[float] = deque(maxlen=10)
        self._held_ns: deque[int] = deque()
        self._clear_since_ns: int | None = None
        self._hold_since_ns = 0
        self._last_ns: int | None = None
        self._asked = 0

    # -- observations ------------------------------------------------------------------------------------------------

    def observe(
        self,
        stamp_ns: int,
        colour: NDArray[np.uint8],
        depth_m: NDArray[np.float32] | None,
        joints: FloatArray,
        gripper_width: float,
    ) -> None:
        """Takes everything that belongs to one moment.

        Args:
            stamp_ns: When it was measured.
            colour: uint8[H, W, 3], RGB.
            depth_m: float32[H, W], metres, NaN invalid, registered to colour; None where the policy takes no depth.
            joints: float64[7] [rad].
            gripper_width: Distance between the fingers [m].
        """
        self.observe_joints(stamp_ns, joints)
        self.observe_gripper(stamp_ns, gripper_width)
        self.observe_colour(stamp_ns, colour)
        if depth_m is not None:
            self.observe_depth(stamp_ns, depth_m)

    def observe_colour(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Takes a colour image, uint8[H, W, 3] RGB."""
        if self.buffer.add_colour(stamp_ns, image):
            self.watch.image(COLOUR, stamp_ns, image)

    def observe_depth(self, stamp_ns: int, depth_m: NDArray[np.float32]) -> None:
        """Takes a depth image, float32[H, W], metres, NaN invalid."""
        if self.contract.depth is not None and self.buffer.add_depth(stamp_ns, depth_m):
            self.watch.image(DEPTH, stamp_ns, depth_m)

    def observe_joints(self, stamp_ns: int, positions: FloatArray) -> None:
        """Takes the arm's joint positions, float64[7] [rad]."""
        if self.buffer.add_joints(stamp_ns, positions):
            self.watch.joints(stamp_ns, positions)

    def observe_gripper(self, stamp_ns: int, width: float) -> None:
        """Takes the distance between the fingers [m]."""
        if self.buffer.add_gripper(stamp_ns, width):
            self.watch.gripper(stamp_ns)

    def use_limits(self, limits: MotionLimits) -> None:
        """Takes other limits, as from the robot's own URDF; only before the arm moves.

        Raises:
            RuntimeError: The arm is moving.
        """
        if self.state in (RunState.RUNNING, RunState.HOLD):
            raise RuntimeError("limits don't change while the arm moves")
        self.limits = limits
        self.gate = SafetyGate(limits, handover_s=self.settings.lead_s)
        self._planner = ChunkPlanner(limits, self.settings, self._row_s)
        self._reader = ChunkReader(self.contract, limits, np.array(self.robot.home))

    # -- faults from outside -------------------------------------------------------------------------------------------

    def report(self, fault: Fault) -> None:
        """Takes a fault that others have noticed (controller, gripper, camera); it stays until `clear`."""
        self._outside[fault.reason] = fault

    @property
    def outside_faults(self) -> list[Fault]:
        """The reported faults that haven't been taken back."""
        return list(self._outside.values())

    def clear(self, reason: Reason) -> None:
        """Takes back a reported fault."""
        self._outside.pop(reason, None)

    # -- control -----------------------------------------------------------------------------------------------------

    def command(self, now_ns: int, ahead_ns: int = 0, steady_s: float | None = None) -> Command | None:
        """Does what is due and returns the set-point.

        Args:
            now_ns: Now; never less than in the call before, unless the clock jumped.
            ahead_ns: The set-point is for so much later.
            steady_s: The machine's monotonic time [s]; None: time.monotonic().

        Returns:
            The set-point; None before the first joint positions are known.
        """
        self.step(now_ns, time.monotonic() if steady_s is None else steady_s)
        if not self.gate.started:
            return None
        positions, velocities = self.gate.active.sample(now_ns + ahead_ns)
        return Command(positions, velocities, self.gripper.width)

    @property
    def trajectory(self) -> Trajectory | None:
        """What the arm follows; `revision` counts its replacements."""
        return self.gate.active if self.gate.started else None

    def step(self, now_ns: int, steady_s: float) -> None:
        """Looks at inputs and answers, and starts, joins, holds or resumes as they demand."""
        self._after_clock_jump(now_ns, self.watch.clock(now_ns, steady_s))
        found = self._current_faults(now_ns, steady_s)
        if self.state is RunState.INACTIVE:
            if not found and not self.buffer.at_rest():
                found = [Fault(Reason.TRACKING, "the arm still moves: a policy begins with an arm at rest")]
            self.faults = found
            if not found:
                self._begin(now_ns)
        elif self.state is RunState.RUNNING:
            if found:
                self.hold(found, now_ns)
            else:
                self._take_answer(now_ns)
        elif self.state is RunState.HOLD:
            self._wait_for_recovery(found, now_ns)
        if self.state is RunState.RUNNING:
            self._ask_if_due(now_ns)
            if self._result is None and self._request is not None:
                self._take_answer(now_ns)  # in-process answers are there at once
            self._switch_gripper(now_ns)
        self._last_ns = now_ns

    def hold(self, faults: list[Fault], now_ns: int) -> None:
        """Stops the arm, within its limits, and waits for the faults to pass."""
        self.faults = faults
        self._forget_request()
        self._history.clear()
        self._chunk = None
        if self.gate.started:
            self.gate.stop(now_ns)
            self.revision += 1
        self.state = RunState.HOLD
        self.statistics.holds += 1
        self._hold_since_ns, self._clear_since_ns = now_ns, None
        self._held_ns.append(now_ns)
        while now_ns - self._held_ns[0] > _HOLD_WINDOW_NS:
            self._held_ns.popleft()
        if len(self._held_ns) > self.settings.most_holds:
            self.state = RunState.STOPPED

    def stop(self, now_ns: int) -> None:
        """Stops the arm for good: `reset` starts anew."""
        if self.gate.started:
            self.gate.stop(now_ns)
            self.revision += 1
        self._forget_request()
        self.state = RunState.STOPPED

    # -- parts of a step -----------------------------------------------------------------------------------------------

    def _after_clock_jump(self, now_ns: int, back_ns: int) -> None:
        if not back_ns:
            return
        fault = Fault(Reason.CLOCK, f"time has jumped back by {back_ns * 1e-9:.2f} s")
        self.buffer.clear()
        self._held_ns.clear()
        if self.gate.started:
            # The arm goes on where it is; only the numbers on the clock are others.
            self.gate.shift(-back_ns)
        if self.state is RunState.RUNNING:
            self.hold([fault], now_ns)
        elif self.state is RunState.HOLD:
            self._hold_since_ns, self._clear_since_ns = now_ns, None

    def _current_faults(self, now_ns: int, steady_s: float) -> list[Fault]:
        found = list(self._outside.values())
        problem = self.inference.problem()
        if problem is not None:
            found.append(problem)
        found += self.watch.faults(now_ns, steady_s)
        apart = self.buffer.images_apart_s()
        if not found and self.buffer.newest_ns() is None:
            found.append(Fault(Reason.IMAGES_APART, f"the nearest colour and depth images are {apart:.3f} s apart"))
        if self._request is not None and (now_ns - self._request.asked_ns) * 1e-9 > self.settings.policy_timeout_s:
            waited = (now_ns - self._request.asked_ns) * 1e-9
            found.append(Fault(Reason.POLICY_SILENT, f"the policy hasn't answered for {waited:.2f} s"))
        if self.gate.started and self.state is RunState.RUNNING and self.buffer.joints is not None:
            wanted, _ = self.gate.active.sample(self.buffer.joints_ns)
            apart_rad = np.abs(self.buffer.joints - wanted)
            if np.any(apart_rad > self.settings.tracking_rad):
                joint = int(np.argmax(apart_rad))
                found.append(
                    Fault(
                        Reason.TRACKING,
                        f"fr3_joint{joint + 1} is {apart_rad[joint]:.3f} rad away from its set-point, allowed "
                        f"{self.settings.tracking_rad:g}",
                    )
                )
        return found

    def _begin(self, now_ns: int) -> None:
        """Starts to move, from the arm's measured position at rest, or goes on from the set-point near it."""
        joints = self.buffer.joints
        assert joints is not None  # there are no faults, so joint states have come
        start = joints
        if self.gate.started:
            wanted, _ = self.gate.active.sample(now_ns)
            if np.all(np.abs(wanted - joints) < _FRESH_START_RAD):
                start = wanted
        fault = self.gate.start(start, now_ns)
        if fault is not None:
            self.faults = [fault]
            self._clear_since_ns = None
            return
        self.revision += 1
        self.faults = []
        self.state = RunState.RUNNING

    def _wait_for_recovery(self, found: list[Fault], now_ns: int) -> None:
        if found:
            # What began the hold stays in front, also when its consequences are all that is left of it.
            cause = next((fault for fault in found if fault.reason is self.faults[0].reason), self.faults[0])
            self.faults = [cause, *(fault for fault in found if fault.reason is not cause.reason)]
            self._clear_since_ns = None
        elif self._clear_since_ns is None:
            self._clear_since_ns = now_ns
        held_s = (now_ns - self._hold_since_ns) * 1e-9
        if self._clear_since_ns is not None:
            clear_s = (now_ns - self._clear_since_ns) * 1e-9
            if clear_s >= self.settings.recover_after_s and self.buffer.at_rest():
                self._begin(now_ns)
                return
        if held_s > self.settings.stop_after_s:
            self.state = RunState.STOPPED

    def _forget_request(self) -> None:
        self.inference.forget()
        self._request = self._result = None

    def _ask_if_due(self, now_ns: int) -> None:
        if self._request is not None:
            return
        due_ns = None
        if self._chunk is not None:
            due_ns = self._chunk.stamp_ns + round(self._execute_s * 1e9)
            latency_s = max(self._recent_latency_s, default=0.0) + self.settings.lead_s
            if now_ns < due_ns - round(latency_s * 1e9):
                return
        newest = self.buffer.newest_ns()
        if newest is None or (self._chunk is not None and newest <= self._chunk.stamp_ns):
            return
        observation = self.buffer.latest()
        if observation is None:
            return
        problems = observation_problems(self.contract, observation)
        if problems:
            self.hold([Fault(Reason.CAMERA, "; ".join(problems))], now_ns)
            return
        self.statistics.observation_age_s.append((now_ns - observation.stamp_ns) * 1e-9)
        self._request = _Request(observation.stamp_ns, now_ns, due_ns)
        self.inference.submit(observation, self.settings.seed + self._asked)
        self._asked += 1

    def _take_answer(self, now_ns: int) -> None:
        if self._request is None:
            return
        if self._result is None:
            self._result = self.inference.poll()
        if self._result is None or now_ns < self._request.asked_ns + round(self.settings.latency_s * 1e9):
            return
        request, result = self._request, self._result
        self._request = self._result = None
        self.statistics.inference_s.append(max(result.duration_s, self.settings.latency_s))
        self._recent_latency_s.append((now_ns - request.asked_ns) * 1e-9)
        if request.due_ns is not None and now_ns > request.due_ns + round(1e9 / self.settings.control_rate_hz):
            self.statistics.missed_deadlines += 1
        fault = self._join(result, now_ns)
        if fault is not None:
            self.statistics.rejected += 1
            self.hold([fault], now_ns)

    def _join(self, result: InferenceResult, now_ns: int) -> Fault | None:
        """Turns an answer into motion; returns why that can't be."""
        if result.actions is None:
            return Fault(Reason.POLICY_FAILED, result.error)
        start, _ = self.gate.active.sample(now_ns)
        chunk = self._reader.read(result.actions, result.stamp_ns, start)
        if isinstance(chunk, Fault):
            return chunk
        chunk = self._history.add(chunk)
        keep_s = (result.stamp_ns - now_ns) * 1e-9 + self._execute_s + self._row_s
        before = self.gate.active
        report = self._planner.submit(self.gate, chunk, now_ns, max(keep_s, 0.0))
        if report.fault is not None:
            return report.fault
        join_ns = now_ns + round(self.settings.lead_s * 1e9)
        jump = np.abs(self.gate.active.sample(join_ns)[1] - before.sample(join_ns)[1]) / self.limits.velocity
        self.statistics.join_velocity_jump.append(float(np.max(jump)))
        self.statistics.end_to_end_s.append((now_ns - result.stamp_ns) * 1e-9)
        self.statistics.chunks += 1
        self.statistics.slowed += int(report.speed < 1.0)
        self.statistics.shortened += int(report.shortened)
        self._chunk = chunk
        self.revision += 1
        return None

    def _switch_gripper(self, now_ns: int) -> None:
        if self._chunk is None:
            return
        action = self.gripper.update(self._chunk.width_at(now_ns), now_ns)
        if action is not None:
            self.gripper_actions.append(action)
