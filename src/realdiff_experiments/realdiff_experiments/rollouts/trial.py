"""One trial: reset, policy in the loop, success or the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError
from realdiff_policy.contract import Policy
from realdiff_policy.images import intrinsics_problem
from realdiff_policy.runtime.inference import InProcessInference
from realdiff_policy.runtime.runner import PolicyRunner, RunState
from realdiff_policy.runtime.settings import RuntimeSettings
from realdiff_policy.safety import robot_config
from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, Command, SimState, Simulator
from realdiff_sim_bridge.bridge.depth_sensor import DepthSensor, SensorName
from realdiff_sim_bridge.success import SuccessMonitor
from realdiff_sim_bridge.tasks import Task

Category = Literal["", "not_reached", "missed_grasp", "dropped", "misplaced", "not_released", "safety_stop", "unstable"]
"""Why a trial failed; empty for a success."""

_REACHED_M = 0.05
"""Distance of the tool centre point to an object's centre at which the object counts as reached."""

_LIFTED_M = 0.03
"""Height gained at which an object counts as lifted."""


@dataclass(frozen=True)
class TrialSettings:
    """How a trial is run.

    Attributes:
        sensor: Depth sensor: "clean", or "stereo" with its `evaluation` settings.
        latency_s: Simulated duration of an inference.
        execute: Rows to execute before the next chunk; 0: as the policy says.
        horizon_s: Longest duration; None: the task's own limit.
    """

    sensor: SensorName = "clean"
    latency_s: float = 0.05
    execute: int = 0
    horizon_s: float | None = None


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        position: Index of the object position in the protocol.
        repetition: Repetition at that position.
        seed: Seed of the reset.
        success: The task was done in time.
        category: Why it failed.
        duration_s: Simulated time from reset to success or end.
        holds: Times at which the safety gate held the arm.
        reason: The safety gate's reason, where it stopped the trial.
    """

    position: int
    repetition: int
    seed: int
    success: bool
    category: Category
    duration_s: float
    holds: int
    reason: str = ""


Frame = Callable[[NDArray[np.uint8], NDArray[np.float32]], None]
"""Called with every observation: colour uint8[H, W, 3], depth float32[H, W] in metres."""


class TrialRunner:
    """Runs trials of one policy in one simulator.

    Args:
        policy: The policy.
        simulator: A simulator of the policy's task; its cameras have the policy's intrinsics at its image size or a
            larger one.
        settings: How trials are run.

    Raises:
        ConfigError: Simulator and policy don't belong together.
    """

    def __init__(self, policy: Policy, simulator: Simulator, settings: TrialSettings) -> None:
        contract = policy.contract
        if contract.task != simulator.task.name:
            raise ConfigError(
                "the policy was trained for another task",
                expected=contract.task,
                got=simulator.task.name,
                next_step="name the policy's task, or another policy",
            )
        problem = intrinsics_problem(contract.colour, simulator.rig.colour)
        if problem:
            raise ConfigError(
                "the policy was trained with another camera",
                expected=contract.colour.model_dump(),
                got=problem,
                next_step="use the camera profile that the training data were recorded with",
            )
        self.settings = settings
        self._simulator = simulator
        self._sensor = DepthSensor(simulator, settings.sensor)
        self._frame_ns = round(1e9 / contract.action.rate_hz)
        self._runner = PolicyRunner(
            contract,
            InProcessInference(policy),
            robot_config("fr3"),
            RuntimeSettings(latency_s=settings.latency_s, execute=settings.execute),
            noisy_camera=False,
        )

    def run(self, seed: int, position: int = 0, repetition: int = 0, on_frame: Frame | None = None) -> Trial:
        """Runs one trial.

        Args:
            seed: Seed of the reset: one position of the objects.
            position: Index of that position in the protocol.
            repetition: Repetition; it seeds the policy's sampler.
            on_frame: Called with every observation.
        """
        simulator, runner = self._simulator, self._runner
        simulator.reset(seed)
        runner.settings = runner.settings.model_copy(update={"seed": 1_000_003 * repetition + 7_919 * position})
        runner.reset()
        monitor, story = SuccessMonitor(simulator.task), _Story(simulator.task, simulator.state())
        horizon_ns = round((self.settings.horizon_s or simulator.task.horizon_s) * 1e9)
        frames = 0
        while simulator.time_ns < horizon_ns and not monitor.done and runner.state is not RunState.STOPPED:
            now = simulator.time_ns
            state = simulator.state()
            runner.observe_joints(now, state.robot.arm_positions)
            runner.observe_gripper(now, state.robot.gripper_width)
            if now >= frames * self._frame_ns:
                colour = simulator.render("colour")
                depth = simulator.rig.align(self._sensor.measure(seed, frames))
                runner.observe_colour(now, colour)
                runner.observe_depth(now, depth)
                frames += 1
                if on_frame is not None:
                    on_frame(colour, depth)
            command = runner.command(now, CONTROL_PERIOD_NS, steady_s=now * 1e-9)
            if command is not None:
                simulator.apply(Command(command.positions, command.gripper_width))
            simulator.advance_to(now + CONTROL_PERIOD_NS)
            after = simulator.state()
            monitor.update(after)
            story.update(after)
        stopped = runner.state is RunState.STOPPED
        return Trial(
            position=position,
            repetition=repetition,
            seed=seed,
            success=monitor.done,
            category="" if monitor.done else "safety_stop" if stopped else story.ending(),
            duration_s=simulator.time_ns * 1e-9,
            holds=runner.statistics.holds,
            reason="; ".join(str(fault) for fault in runner.faults) if stopped else "",
        )

    def close(self) -> None:
        """Frees the sensor."""
        self._sensor.close()


class _Story:
    """What has happened to the object that the task picks first."""

    def __init__(self, task: Task, state: SimState) -> None:
        self._object = next(subtask.object for subtask in task.subtasks if subtask.action == "pick")
        self._places = any(subtask.action == "place" for subtask in task.subtasks)
        self._start = replace(state)
        self._reached = self._lifted = False
        self._state = state

    def update(self, state: SimState) -> None:
        """Takes note of a state."""
        self._state = state
        centre = state.objects[self._object].position
        self._reached |= float(np.linalg.norm(state.tcp.position - centre)) < _REACHED_M
        self._lifted |= self._height(state) > _LIFTED_M

    def _height(self, state: SimState) -> float:
        return float(state.objects[self._object].position[2] - self._start.objects[self._object].position[2])

    def ending(self) -> Category:
        """Why the trial has failed."""
        if not self._reached:
            return "not_reached"
        if not self._lifted:
            return "missed_grasp"
        centre = self._state.objects[self._object].position
        held = float(np.linalg.norm(self._state.tcp.position - centre)) < _REACHED_M + 0.03
        if held:
            return "not_released" if self._places else "dropped"
        return "misplaced" if self._places else "dropped"
