"""The gate's kinematics against the simulator's model of the robot, which has another origin."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_policy.safety.kinematics import (
    HAND_POINTS,
    REACH_M,
    SPHERE_RADII,
    forward,
    tcp_jacobian,
)
from realdiff_policy.safety.limits import robot_config

mujoco = pytest.importorskip("mujoco")
robot = pytest.importorskip("realdiff_sim_bridge.scene.robot")


@pytest.fixture(scope="module")
def model():
    return robot.robot_spec(visuals=False).compile()


@pytest.fixture(scope="module")
def meshed():
    """The robot with its collision meshes."""
    return robot.robot_spec(visuals=True, detail=0.02).compile()


def random_positions(count: int) -> np.ndarray:
    joints = robot_config("fr3").joints
    return np.random.default_rng(3).uniform(joints.lower, joints.upper, (count, 7))


def test_frames_and_tcp_agree_with_the_simulator(model) -> None:
    data = mujoco.MjData(model)
    positions = random_positions(200)
    frames = forward(positions)
    for index, joints in enumerate(positions):
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        for number in range(7):
            body = data.body(f"fr3_link{number + 1}")
            assert np.allclose(frames.origins[number, index], body.xpos, atol=1e-6)
            assert np.allclose(frames.rotations[number, index], body.xmat.reshape(3, 3), atol=1e-6)
        assert np.allclose(frames.rotations[7, index], data.body("fr3_hand").xmat.reshape(3, 3), atol=1e-6)
        assert np.allclose(frames.tcp[index], data.site("fr3_hand_tcp").xpos, atol=1e-6)


def test_one_set_of_joints_gives_the_same_as_many() -> None:
    positions = random_positions(3)
    together, alone = forward(positions), forward(positions[1])
    assert np.allclose(together.tcp[1], alone.tcp)
    assert np.allclose(together.hand_points[1], alone.hand_points)
    assert np.allclose(together.sphere_centres[1], alone.sphere_centres)


def test_jacobian_is_the_derivative_of_the_pose() -> None:
    step = 1e-6
    for joints in random_positions(20):
        frames = forward(joints)
        jacobian = tcp_jacobian(frames)
        for index in range(7):
            moved = forward(joints + step * np.eye(7)[index])
            assert np.allclose(jacobian[:3, index], (moved.tcp - frames.tcp) / step, atol=1e-5)
            turn = (moved.rotations[7] - frames.rotations[7]) @ frames.rotations[7].T / step
            assert np.allclose(jacobian[3:, index], [turn[2, 1], turn[0, 2], turn[1, 0]], atol=1e-5)


def test_no_guarded_point_is_farther_from_a_joint_than_the_bound() -> None:
    frames = forward(random_positions(20_000))
    points = np.concatenate([frames.hand_points, frames.sphere_centres], axis=-2)
    for origin in frames.origins[:7]:
        assert np.linalg.norm(points - origin[:, None], axis=-1).max() < REACH_M


def _collision_vertices(meshed, data, bodies: set[str]) -> np.ndarray:
    """Vertices of the collision meshes and boxes of bodies, in the world."""
    points = []
    for geom in range(meshed.ngeom):
        name = meshed.body(meshed.geom_bodyid[geom]).name
        if name not in bodies or meshed.geom_contype[geom] == 0:
            continue
        if meshed.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = meshed.geom_dataid[geom]
            first, count = meshed.mesh_vertadr[mesh], meshed.mesh_vertnum[mesh]
            local = meshed.mesh_vert[first : first + count]
        else:
            local = np.array(np.meshgrid(*[(-size, size) for size in meshed.geom_size[geom]])).reshape(3, -1).T
        points.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.vstack(points)


@pytest.mark.parametrize("opening", [0.0, 0.04])
def test_the_guarded_points_enclose_hand_and_fingers(meshed, opening: float) -> None:
    data = mujoco.MjData(meshed)
    worst = 0.0
    for joints in random_positions(100):
        data.qpos[:7] = joints
        data.qpos[7:9] = opening
        mujoco.mj_kinematics(meshed, data)
        vertices = _collision_vertices(meshed, data, {"fr3_hand", "fr3_leftfinger", "fr3_rightfinger"})
        guarded = forward(joints).hand_points
        worst = max(worst, guarded[:, 2].min() - vertices[:, 2].min(), *(vertices.max(0) - guarded.max(0)))
    assert worst < 1e-3


def test_the_spheres_enclose_the_links(meshed) -> None:
    data = mujoco.MjData(meshed)
    worst = 0.0
    for joints in random_positions(100):
        data.qpos[:7] = joints
        mujoco.mj_kinematics(meshed, data)
        frames = forward(joints)
        vertices = _collision_vertices(meshed, data, {f"fr3_link{number}" for number in (3, 4, 5, 6, 7)})
        guarded = min((frames.sphere_centres[:, 2] - SPHERE_RADII).min(), frames.hand_points[:, 2].min())
        worst = max(worst, guarded - vertices[:, 2].min())
    assert worst < 0.01  # half of the clearance that the gate keeps


def test_fingertips_come_first() -> None:
    assert np.all(HAND_POINTS[:6, 2] == HAND_POINTS[:, 2].max())
