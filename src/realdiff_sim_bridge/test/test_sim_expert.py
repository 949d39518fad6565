"""The scripted expert and the success tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from realdiff_sim_bridge.adapters.base import SimState
from realdiff_sim_bridge.cameras import camera_rig
from realdiff_sim_bridge.episodes import play
from realdiff_sim_bridge.experts import PickAndPlaceExpert
from realdiff_sim_bridge.experts.motion import Motion, Stretch
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.objects import Banana, Basket, StartRange
from realdiff_sim_bridge.success import SuccessMonitor, holds
from realdiff_sim_bridge.tasks import Inside, Lifted, available_tasks, load_task
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
def test_pushes_move_the_arm_but_not_what_is_asked_of_it(simulator) -> None:
    """Under disturbances the commands stay those of an undisturbed demonstration, and the task still succeeds."""
    expert = PickAndPlaceExpert(simulator.task)
    plain, pushed = (list(play(simulator, expert, 11, 10.0, disturbance_rad=size)) for size in (0.0, 0.03))
    assert pushed[-1].outcome is True
    tracking = []
    for quiet, loud in zip(plain, pushed, strict=False):
        if quiet.step is None or loud.step is None or loud.step.subtask != "pick_can":
            continue
        np.testing.assert_allclose(loud.step.command.joint_positions, quiet.step.command.joint_positions, atol=1e-9)
        far = np.linalg.norm(loud.state.tcp.position - loud.state.objects["can"].position) > 0.16
        tracking.append((far, np.linalg.norm(loud.state.tcp.position - quiet.state.tcp.position)))
    assert max(distance for far, distance in tracking if far) > 0.008
    assert tracking[-1][1] < 0.003, "the hand is off the demonstrator's way where it grasps [m]"
    again = list(play(simulator, expert, 11, 10.0, disturbance_rad=0.03))
    assert np.array_equal(again[-1].state.robot.positions, pushed[-1].state.robot.positions)


@needs_gl
def test_command_belongs_to_its_pose(simulator) -> None:
    """The action's joints and end-effector pose say the same."""
    from realdiff_sim_bridge.kinematics import ArmKinematics

    expert, arm = PickAndPlaceExpert(simulator.task), ArmKinematics()
    for k, tick in enumerate(play(simulator, expert, 2, rate_hz=10.0)):
        if tick.step is not None and k % 40 == 0:
            arm.reset(tick.step.command.joint_positions)
            assert np.allclose(arm.tcp.matrix, tick.step.tcp.matrix, atol=1e-6)


def _failed_seeds(task, seeds: range) -> list[int]:
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    simulator = MujocoSimulator(task, camera_rig(task, width=64, height=48), randomisation="all")
    expert = PickAndPlaceExpert(task)
    failed = [seed for seed in seeds if not _outcome(simulator, expert, seed)]
    simulator.close()
    return failed


@needs_gl
@pytest.mark.parametrize("name", available_tasks())
def test_expert_succeeds_at_every_task(name: str) -> None:
    assert _failed_seeds(load_task(name), range(100, 102)) == []


@needs_gl
def test_the_task_of_the_guide_works_as_it_stands_there(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[3] / "docs" / "guides" / "new_task.md"
    text = guide.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "build_tower.yaml"
    path.write_text(text, encoding="utf-8")
    task = load_task(path)
    assert task.name == "build_tower"
    assert _failed_seeds(task, range(2)) == []


@needs_gl
@pytest.mark.slow
@pytest.mark.parametrize("name", available_tasks())
def test_expert_succeeds_on_two_hundred_fresh_seeds(name: str) -> None:
    failed = _failed_seeds(load_task(name), range(20_000, 20_200))
    print(f"{name}: {200 - len(failed)}/200, failed seeds {failed}")
    assert len(failed) <= 4


@needs_gl
@pytest.mark.parametrize("name", available_tasks())
def test_the_motion_suits_the_real_arm_and_the_picture(name: str) -> None:
    """Joint speeds and accelerations against Franka's limits for the FR3; the whole hand in view of both imagers."""
    from realdiff_sim_bridge.adapters.mujoco_adapter import MujocoSimulator

    task = load_task(name)
    simulator = MujocoSimulator(task, camera_rig(task, width=320, height=240), randomisation="all")
    corners = np.array([[x, y, z] for x in (-0.035, 0.035) for y in (-0.105, 0.105) for z in (-0.03, 0.112)])
    joints = []
    for tick in play(simulator, PickAndPlaceExpert(task), 7, rate_hz=5.0):
        if tick.step is not None:
            joints.append(tick.step.command.joint_positions)
        if tick.frame:
            points = tick.state.links["fr3_hand"].position + corners @ tick.state.links["fr3_hand"].rotation.T
            rig = simulator.rig
            for camera, pose in ((rig.colour, rig.base_colour), (rig.depth, rig.base_depth)):
                pixels = camera.project((points - pose.position) @ pose.rotation)
                assert np.all(pixels >= 0)
                assert np.all(pixels <= [camera.width - 1, camera.height - 1])
    simulator.close()
    speed = np.diff(joints, axis=0) / 0.02
    assert np.all(np.max(np.abs(speed), axis=0) < 0.85 * np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]))
    assert np.max(np.abs(np.diff(speed, axis=0) / 0.02)) < 10.0
    assert len(joints) * 0.02 < 8.5


def test_motion_passes_its_corner_smoothly() -> None:
    start = Pose(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))
    stretches = [Stretch(np.array([0.3, 0.0, 0.0]), 0.5), Stretch(np.array([0.3, 0.0, -0.1]), 0.3, overlap=0.3)]
    turned = Pose.from_rotation_vector(np.zeros(3), np.array([0.0, 0.0, 0.5])) @ start
    motion = Motion(start, stretches, turned.quaternion, turn_speed=2.0)
    times = np.arange(0.0, motion.duration_s + 0.05, 0.001)
    path = np.array([motion.at(time).position for time in times])
    assert np.allclose(path[0], 0.0)
    assert np.allclose(path[-1], [0.3, 0.0, -0.1])
    assert np.allclose(motion.at(motion.duration_s).rotation, turned.rotation)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / 0.001
    assert speed.max() <= 0.5 * 1.01
    assert speed[0] < 0.01
    assert speed[-1] < 0.01
    corner = np.argmin(np.linalg.norm(path - [0.3, 0.0, 0.0], axis=1))
    assert speed[corner] > 0.02, "it doesn't stop at the corner"
    assert np.max(np.abs(np.diff(path, 2, axis=0))) / 1e-6 < 5.0


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


def test_lifted_and_inside(done_state: SimState) -> None:
    here = StartRange(x=(0.4, 0.5), y=(0.0, 0.1))
    banana = Banana(kind="banana", mass=0.1, colour=(1, 1, 0), start=here, length=0.16, width=0.04, bend_deg=70)
    basket = Basket(
        kind="basket", mass=0.3, colour=(0, 0, 1), start=here, length=0.24, width=0.16, height=0.05, wall=0.005
    )
    task = load_task("place_banana").model_copy(update={"objects": {"banana": banana, "basket": basket}})
    quarter = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    flat = np.array([0.0, 0.0, 0.0, 1.0])

    def state(position, basket_turn) -> SimState:
        poses = {"banana": Pose(np.array(position), flat), "basket": Pose(np.array([0.5, 0.0, 0.0]), basket_turn)}
        return replace(done_state, objects=poses)

    inside = Inside(test="inside", object="banana", target="basket")
    for position, turn, expected in (
        ((0.61, 0.0, 0.025), flat, True),  # near the end of the long side
        ((0.61, 0.0, 0.025), quarter, False),  # the same spot lies outside once the basket is turned
        ((0.5, 0.11, 0.025), quarter, True),
        ((0.5, 0.0, 0.06), flat, False),  # above the rim
    ):
        assert holds(task, inside, state(position, turn)) is expected, position
    lifted = Lifted(test="lifted", object="banana", min_height=0.10)
    assert holds(task, lifted, state((0.5, 0.0, 0.1201), flat))
    assert not holds(task, lifted, state((0.5, 0.0, 0.1199), flat))
    # A fruit that the reset drew larger has its underside lower.
    larger = replace(state((0.5, 0.0, 0.1201), flat), items={"banana": banana.scaled(1.05)})
    assert not holds(task, lifted, larger)
