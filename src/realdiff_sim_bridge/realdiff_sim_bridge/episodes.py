"""Plays one episode: simulator and motion source in lockstep, with the moments at which cameras and controller act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, SimState, Simulator
from realdiff_sim_bridge.disturbance import Disturbance
from realdiff_sim_bridge.experts import ExpertStep
from realdiff_sim_bridge.success import SuccessMonitor

_GIVE_UP_NS = 3_000_000_000
"""A motion that has ended gets this long, and the time for which success must hold, until its failure is certain: a
banana laid into a basket rocks for a while."""


class MotionSource(Protocol):
    """What moves the robot in an episode: a scripted expert, MimicGen, …"""

    def reset(self, state: SimState, seed: int) -> None:
        """Starts over from a state; everything random is drawn from the seed."""
        ...

    def act(self, state: SimState) -> ExpertStep:
        """Returns the command for the coming control period.

        Raises:
            MotionError: There is no motion from here; the episode has failed.
        """
        ...

    @property
    def finished(self) -> bool:
        """Whether all motion has been made; the robot then holds its position."""
        ...


@dataclass(frozen=True)
class Tick:
    """One moment of an episode.

    Attributes:
        state: The true state at this moment.
        step: What the motion source commands at this moment; None between control steps.
        frame: Whether the cameras take a picture at this moment.
        success: The task's success tests hold at this moment.
        outcome: None while the episode runs; at its last tick True (the tests have held long enough) or False (the
            task's time limit is reached, or the motion ended a while ago without success).
    """

    state: SimState
    step: ExpertStep | None
    frame: bool
    success: bool
    outcome: bool | None


def play(
    simulator: Simulator, source: MotionSource, seed: int, rate_hz: float, disturbance_rad: float = 0.0
) -> Iterator[Tick]:
    """Resets the scene and plays the task until success, the task's time limit or a while after the motion's end.

    The controller acts at 50 Hz; frame k is taken at the physics step nearest to k / rate_hz.

    Args:
        simulator: Simulator of the task.
        source: Motion source for the same task.
        seed: Seed of the reset and of the motion's variations.
        rate_hz: Camera frames per second of simulation time.
        disturbance_rad: Size of the pushes that the arm gets on its way, see `Disturbance` [rad].

    Yields:
        The ticks in order of time; the caller renders when `frame` is set, before it asks for the next tick.

    Raises:
        SimulationError: The simulation has become unstable.
        MotionError: The motion source has no motion from here.
    """
    simulator.reset(seed)
    state = simulator.state()
    source.reset(state, seed)
    disturbance = Disturbance(disturbance_rad, seed)
    monitor = SuccessMonitor(simulator.task)
    deadline_ns = round(simulator.task.horizon_s * 1e9)
    give_up_ns = _GIVE_UP_NS + round(simulator.task.success.hold_s * 1e9)
    controls = frames = 0
    while True:
        control_ns, frame_ns = controls * CONTROL_PERIOD_NS, round(frames * 1e9 / rate_hz)
        simulator.advance_to(min(control_ns, frame_ns))
        state = simulator.state()
        success = monitor.update(state)
        # A frame within the same physics step as a control step belongs to the same tick.
        control = simulator.time_ns >= control_ns
        frame = simulator.time_ns >= frame_ns or abs(simulator.time_ns - frame_ns) <= 1_000_000
        outcome = True if monitor.done else False if state.time_ns >= deadline_ns else None
        step = None
        if control:
            moving = not source.finished
            step = source.act(state)
            simulator.apply(disturbance.applied_to(step.command, state))
            controls += 1
            if moving and source.finished:
                deadline_ns = min(deadline_ns, state.time_ns + give_up_ns)
        frames += int(frame)
        yield Tick(state, step, frame, success, outcome)
        if outcome is not None:
            return
