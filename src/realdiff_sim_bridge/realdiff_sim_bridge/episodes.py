"""Plays one episode: simulator and expert in lockstep, with the moments at which cameras and controller act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, SimState, Simulator
from realdiff_sim_bridge.experts import ExpertStep, PickAndPlaceExpert
from realdiff_sim_bridge.success import SuccessMonitor


@dataclass(frozen=True)
class Tick:
    """One moment of an episode.

    Attributes:
        state: The true state at this moment.
        step: What the expert commands at this moment; None between control steps.
        frame: Whether the cameras take a picture at this moment.
        success: The task's success tests hold at this moment.
        outcome: None while the episode runs; at its last tick True (the tests have held long enough) or False (the
            task's time limit is reached).
    """

    state: SimState
    step: ExpertStep | None
    frame: bool
    success: bool
    outcome: bool | None


def play(simulator: Simulator, expert: PickAndPlaceExpert, seed: int, rate_hz: float) -> Iterator[Tick]:
    """Resets the scene and plays the task until success or the task's time limit.

    The controller acts at 50 Hz; frame k is taken at the physics step nearest to k / rate_hz.

    Args:
        simulator: Simulator of the task.
        expert: Expert of the same task.
        seed: Seed of the reset and of the expert's variations.
        rate_hz: Camera frames per second of simulation time.

    Yields:
        The ticks in order of time; the caller renders when `frame` is set, before it asks for the next tick.
    """
    simulator.reset(seed)
    state = simulator.state()
    expert.reset(state, seed)
    monitor = SuccessMonitor(simulator.task)
    horizon_ns = round(simulator.task.horizon_s * 1e9)
    controls = frames = 0
    while True:
        control_ns, frame_ns = controls * CONTROL_PERIOD_NS, round(frames * 1e9 / rate_hz)
        simulator.advance_to(min(control_ns, frame_ns))
        state = simulator.state()
        success = monitor.update(state)
        # A frame within the same physics step as a control step belongs to the same tick.
        control = simulator.time_ns >= control_ns
        frame = simulator.time_ns >= frame_ns or abs(simulator.time_ns - frame_ns) <= 1_000_000
        outcome = True if monitor.done else False if state.time_ns >= horizon_ns else None
        step = None
        if control:
            step = expert.act(state)
            simulator.apply(step.command)
            controls += 1
        frames += int(frame)
        yield Tick(state, step, frame, success, outcome)
        if outcome is not None:
            return
