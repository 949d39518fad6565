"""The whole-body controller against independent references: finite differences, SciPy, the optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.control import CONTROLLERS, create_controller
from realdiff_sim_bridge.control.whole_body import (
    Programme,
    WholeBodyController,
    WholeBodySettings,
    manipulability,
    manipulability_gradient,
)
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.kinematics import MAX_JOINT_SPEED
from realdiff_sim_bridge.scene.robot import READY_POSITIONS
from scipy.optimize import LinearConstraint, minimize
from scipy.spatial.transform import Rotation

LOWEST = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
HIGHEST = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])


@pytest.fixture(scope="module")
def controller() -> WholeBodyController:
    return WholeBodyController()


def _joints(random: np.random.Generator, share: float = 0.9) -> np.ndarray:
    middle, half = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2
    return middle + share * half * random.uniform(-1.0, 1.0, 7)


def _jacobian_at(controller: WholeBodyController, joints: np.ndarray) -> np.ndarray:
    controller.reset(joints)
    return controller.jacobian


def test_jacobian_against_finite_differences(controller: WholeBodyController) -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        joints, step = _joints(random), 1e-6
        jacobian = _jacobian_at(controller, joints)
        for k in range(7):
            poses = []
            for sign in (-1.0, 1.0):
                controller.reset(joints + sign * step * np.eye(7)[k])
                poses.append(controller.tcp)
            linear = (poses[1].position - poses[0].position) / (2 * step)
            turn = Rotation.from_quat(poses[1].quaternion) * Rotation.from_quat(poses[0].quaternion).inv()
            assert np.allclose(jacobian[:, k], [*linear, *(turn.as_rotvec() / (2 * step))], atol=1e-6)


def test_manipulability_gradient_against_finite_differences(controller: WholeBodyController) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        joints, step = _joints(random), 1e-5
        gradient = manipulability_gradient(_jacobian_at(controller, joints))
        numeric = [
            (
                manipulability(_jacobian_at(controller, joints + step * np.eye(7)[k]))
                - manipulability(_jacobian_at(controller, joints - step * np.eye(7)[k]))
            )
            / (2 * step)
            for k in range(7)
        ]
        assert np.allclose(gradient, numeric, atol=1e-7)
        assert np.linalg.norm(gradient) > 1e-3


def test_gradient_is_zero_at_a_singularity() -> None:
    assert np.array_equal(manipulability_gradient(np.zeros((6, 7))), np.zeros(7))


def _programmes(controller: WholeBodyController, count: int) -> list[Programme]:
    """Programmes of random situations: some with joints near their limits, some with far and some with near targets."""
    random = np.random.default_rng(2)
    result = []
    for k in range(count):
        controller.reset(_joints(random, 0.995 if k % 2 else 0.7))
        reach = 0.3 if k % 3 == 0 else 0.003
        turn = Rotation.from_rotvec(reach * random.normal(size=3))
        target = Pose(
            controller.tcp.position + reach * random.normal(size=3),
            np.asarray((turn * Rotation.from_quat(controller.tcp.quaternion)).as_quat()),
        )
        result.append(controller.programme(target, 0.02))
    return result


def test_solution_meets_the_optimality_conditions(controller: WholeBodyController) -> None:
    """Karush–Kuhn–Tucker: feasible, stationary, multipliers of the right sign and only at active bounds."""
    active_somewhere = 0
    for programme in _programmes(controller, 40):
        x = programme.solve()
        joints = x[:7]
        scale = float(np.abs(programme.H @ x).max()) + 1e-9
        assert np.allclose(programme.A @ x, programme.b, atol=1e-6 * max(1.0, float(np.abs(programme.b).max())))
        assert np.all(joints >= programme.lower - 1e-7)
        assert np.all(joints <= programme.upper + 1e-7)
        # The slack's rows of stationarity give the equality's multipliers; the joints' rows then give the bounds'.
        equality = -(programme.H @ x + programme.c)[7:]
        bounds = -(programme.H @ x + programme.c + programme.A.T @ equality)[:7]
        at_upper = joints >= programme.upper - 1e-6
        at_lower = joints <= programme.lower + 1e-6
        assert np.all(bounds[at_upper & ~at_lower] >= -1e-6 * scale)
        assert np.all(bounds[at_lower & ~at_upper] <= 1e-6 * scale)
        assert np.allclose(bounds[~at_upper & ~at_lower], 0.0, atol=1e-6 * scale)
        active_somewhere += int((at_upper | at_lower).any())
    assert active_somewhere >= 10, "bounds must matter in some of these programmes"


def test_solution_equals_scipys(controller: WholeBodyController) -> None:
    for programme in _programmes(controller, 6):
        # Without the equality: δ = b − J q̇ leaves a problem in q̇ alone.
        weight, jacobian = programme.H[7, 7], programme.A[:, :7]
        hessian = programme.H[:7, :7] + weight * jacobian.T @ jacobian
        linear = programme.c[:7] - weight * jacobian.T @ programme.b
        scale = float(np.abs(hessian).max())
        reference = minimize(
            lambda q, h=hessian, g=linear, s=scale: (0.5 * q @ h @ q + g @ q) / s,
            np.clip(np.zeros(7), programme.lower, programme.upper),
            jac=lambda q, h=hessian, g=linear, s=scale: (h @ q + g) / s,
            hess=lambda q, h=hessian, s=scale: h / s,
            constraints=LinearConstraint(np.eye(7), programme.lower, programme.upper),
            method="trust-constr",
            options={"gtol": 1e-12, "xtol": 1e-14, "maxiter": 3000},
        )
        x = programme.solve()[:7]
        ours, theirs = (float(0.5 * q @ hessian @ q + linear @ q) / scale for q in (x, reference.x))
        assert ours <= theirs + 1e-9 * max(1.0, abs(theirs)), "SciPy has found nothing better"
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_follow_a_moving_hand(name: str) -> None:
    """A circle of 10 cm in 4 s: within a millimetre, within the speed limits, the same when played again."""
    controller = create_controller(name)
    runs = []
    for _ in range(2):
        controller.reset(np.array(READY_POSITIONS))
        start = controller.tcp
        joints = [controller.joint_positions]
        errors = []
        for k in range(1, 201):
            phase = 2 * np.pi * k / 200
            offset = 0.05 * np.array([np.cos(phase) - 1.0, np.sin(phase), 0.0])
            target = Pose(start.position + offset, start.quaternion)
            joints.append(controller.step(target, 0.02))
            errors.append(np.linalg.norm(controller.tcp.position - target.position))
        assert max(errors) < 1e-3
        speeds = np.abs(np.diff(joints, axis=0)) / 0.02
        assert np.all(speeds <= np.array(MAX_JOINT_SPEED) + 1e-6)
        runs.append(np.array(joints))
    assert np.array_equal(*runs)


def test_manipulability_rises_while_the_hand_stands_still() -> None:
    pushed = WholeBodyController(WholeBodySettings(manipulability_weight=0.5))
    idle = WholeBodyController(WholeBodySettings(manipulability_weight=0.0))
    folded = np.array([0.6, -0.4, -0.9, -2.0, 0.3, 1.9, 0.8])
    measures = []
    for controller in (pushed, idle):
        controller.reset(folded)
        hold = controller.tcp
        before = manipulability(controller.jacobian)
        for _ in range(200):
            controller.step(hold, 0.02)
        assert np.linalg.norm(controller.tcp.position - hold.position) < 2e-3
        measures.append(manipulability(controller.jacobian) - before)
    assert measures[0] > 0.01
    assert abs(measures[1]) < 1e-4


def test_dampers_keep_joints_away_from_their_limits(controller: WholeBodyController) -> None:
    """A target out of reach pulls for ten seconds: no joint comes closer than the stopping distance."""
    controller.reset(np.array(READY_POSITIONS))
    far = Pose(np.array([-1.5, 0.4, 0.1]), controller.tcp.quaternion)
    for _ in range(500):
        joints = controller.step(far, 0.02)
        room = np.minimum(joints - LOWEST, HIGHEST - joints)
        assert np.all(room >= controller.settings.stop_rad - 1e-9)
    assert room.min() < controller.settings.influence_rad, "at least one damper was at work"


def test_wrong_names_and_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown controller 'mpc'"):
        create_controller("mpc")
    with pytest.raises(ConfigError, match="wrong order"):
        WholeBodySettings(influence_rad=0.01, stop_rad=0.02)
    with pytest.raises(ConfigError, match="joint_weight must be positive"):
        WholeBodySettings(joint_weight=0.0)
