"""The scripted expert and the success tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from realdiff_sim_bridge.adapters.base import SimState
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.episodes import play
from realdiff_sim_bridge.experts import PickAndPlaceExpert
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.success import SuccessMonitor
from sim_fixtures import can_to_plate, needs_gl


@pytest.fixture(scope="module")
def simulator() -> Iterator[object]:
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    task = can_to_plate()
    result = MujocoSimulator(task, camera_rig(task, width=64, height=48))
    yield result
    result.close()


def _outcome(simulator, expert, seed: int) -> bool:
    outcome = None
    for tick in play(simulator, expert, seed, rate_hz=10.0):
        outcome = tick.outcome
    return bool(outcome)


@needs_gl
def test_expert_succeeds_and_repeats_itself(simulator) -> None:
    expert = PickAndPlaceExpert(simulator.task)
    ticks = list(play(simulator, expert, 11, rate_hz=30.0))
    assert ticks[-1].outcome is True
    assert all(tick.outcome is None for tick in ticks[:-1])
    # Frames come at their rate, to the nearest physics step; commands at 50 Hz.
    frames = np.array([tick.state.time_ns for tick in ticks if tick.frame])
    assert np.all(np.abs(frames - np.arange(len(frames)) * 1e9 / 30.0) <= 1e6)
    controls = np.array([tick.state.time_ns for tick in ticks if tick.step is not None])
    assert np.array_equal(controls, np.arange(len(controls)) * 20_000_000)
    subtasks = list(dict.fromkeys(tick.step.subtask for tick in ticks if tick.step is not None))
    assert subtasks[:2] == ["pick_can", "place_can"]
    # The hand stays in the workspace, the joints within their limits.
    tcp = np.array([tick.state.tcp.position for tick in ticks])
    assert np.all(tcp > np.array(simulator.task.workspace.lowest) - 1e-9)
    assert np.all(tcp < simulator.task.workspace.highest)
    limits = np.array([simulator.model.joint(f"fr3_joint{i}").range for i in range(1, 8)])
    joints = np.array([tick.step.command.joint_positions for tick in ticks if tick.step is not None])
    assert np.all((joints >= limits[:, 0]) & (joints <= limits[:, 1]))
    assert np.max(np.abs(np.diff(joints, axis=0))) / 0.02 < 2.62

    again = list(play(simulator, expert, 11, rate_hz=30.0))
    assert len(again) == len(ticks)
    assert np.array_equal(again[-1].state.robot.positions, ticks[-1].state.robot.positions)
    assert np.array_equal(again[-1].state.objects["can"].position, ticks[-1].state.objects["can"].position)


@needs_gl
def test_command_belongs_to_its_pose(simulator) -> None:
    """The action's joints and end-effector pose say the same."""
    from realdiff_sim_bridge.kinematics import ArmKinematics

    expert, arm = PickAndPlaceExpert(simulator.task), ArmKinematics()
    for k, tick in enumerate(play(simulator, expert, 2, rate_hz=10.0)):
        if tick.step is not None and k % 40 == 0:
            arm.reset(tick.step.command.joint_positions)
            assert np.allclose(arm.tcp.matrix, tick.step.tcp.matrix, atol=1e-6)


@needs_gl
@pytest.mark.slow
def test_expert_succeeds_on_fifty_seeds(simulator) -> None:
    expert = PickAndPlaceExpert(simulator.task)
    successes = sum(_outcome(simulator, expert, seed) for seed in range(1000, 1050))
    assert successes >= 49


@pytest.fixture(scope="module")
def done_state() -> SimState:
    """A hand-made state in which the can stands on the plate and the hand is away."""
    upright = np.array([0.0, 0.0, 0.0, 1.0])
    return SimState(
        time_ns=0,
        robot=None,
        tcp=Pose(np.array([0.5, 0.0, 0.30]), upright),
        links={},
        objects={
            "can": Pose(np.array([0.51, 0.0, 0.057]), upright),
            "plate": Pose(np.array([0.5, 0.0, 0.0]), upright),
        },
        object_speeds={"can": 0.001, "plate": 0.0},
    )


def _moved(state: SimState, name: str, position, quaternion=(0.0, 0.0, 0.0, 1.0)) -> SimState:
    return replace(state, objects={**state.objects, name: Pose(np.array(position), np.array(quaternion))})


def test_success_needs_every_test_for_the_whole_time(done_state: SimState) -> None:
    monitor = SuccessMonitor(can_to_plate())
    assert monitor.update(done_state)
    assert not monitor.done
    assert monitor.update(replace(done_state, time_ns=300_000_000))
    assert not monitor.update(replace(_moved(done_state, "can", (0.51, 0.0, 0.07)), time_ns=400_000_000))
    monitor.update(replace(done_state, time_ns=500_000_000))
    monitor.update(replace(done_state, time_ns=900_000_000))
    assert not monitor.done, "the break at 0.4 s starts the half second anew"
    monitor.update(replace(done_state, time_ns=1_000_000_000))
    assert monitor.done


def test_each_test_can_fail(done_state: SimState) -> None:
    tilt = np.radians(15) / 2
    failures = {
        "beside the plate": _moved(done_state, "can", (0.60, 0.0, 0.057)),
        "in the air": _moved(done_state, "can", (0.51, 0.0, 0.09)),
        "tilted": _moved(done_state, "can", (0.51, 0.0, 0.057), (np.sin(tilt), 0.0, 0.0, np.cos(tilt))),
        "moving": replace(done_state, object_speeds={"can": 0.1, "plate": 0.0}),
        "still held": replace(done_state, tcp=Pose(np.array([0.51, 0.0, 0.08]), done_state.tcp.quaternion)),
    }
    for name, state in failures.items():
        assert not SuccessMonitor(can_to_plate()).update(state), name
    assert SuccessMonitor(can_to_plate()).update(done_state)
