"""The whole-body controller: one quadratic programme a step that follows the hand and keeps the arm manipulable.

J. Haviland, N. Sünderhauf, P. Corke, "A Holistic Approach to Reactive Mobile Manipulation", IEEE RA-L 7(2), 2022, and
J. Haviland, P. Corke, "NEO: A Novel Expeditious Optimisation Algorithm for Reactive Motion Control of Manipulators",
IEEE RA-L 6(2), 2021. With x = [q̇; δ], where δ is the part of the wanted velocity v that is given up:

    min ½ xᵀ Q x + cᵀ x    subject to    J q̇ + δ = v,    lower ≤ q̇ ≤ upper

Q weighs joint speeds and slack, c = −∇m pushes towards higher manipulability m (Yoshikawa), and near a joint limit the
bounds shrink (velocity dampers of Faverjon and Tournassoud). The robot's base is fixed, so there is no term for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from realdiff_core.errors import ConfigError

from realdiff_sim_bridge.errors import MotionError
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.kinematics import MAX_JOINT_SPEED
from realdiff_sim_bridge.scene.robot import TCP_SITE, robot_spec

_JOINTS = 7
_EQUALITY = 5
"""DAQP's code for a constraint that holds with equality."""


@dataclass(frozen=True)
class WholeBodySettings:
    """Weights and margins of the quadratic programme.

    Attributes:
        joint_weight: λ_q, weight of squared joint speeds.
        slack_weight: Weight of the squared slack for an error of 1 (metres and radians added up); it is divided by the
            error, so that far from the target the arm may give way and near it follows exactly.
        least_error: Errors count as at least this much, which bounds the slack's weight.
        manipulability_weight: Factor of ∇m in the linear term.
        influence_rad: Distance from a joint limit at which its damper begins to act, ρ_i.
        stop_rad: Distance at which the joint may come no closer, ρ_s.
        damper_gain: Joint speed towards the limit that is allowed at the distance ρ_i, η [rad/s].
    """

    joint_weight: float = 0.01
    slack_weight: float = 1.0
    least_error: float = 1e-3
    manipulability_weight: float = 0.05
    influence_rad: float = 0.35
    stop_rad: float = 0.02
    damper_gain: float = 2.6

    def __post_init__(self) -> None:
        """Refuses values for which the programme has no solution."""
        for name in ("joint_weight", "slack_weight", "least_error", "damper_gain"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be positive", got=getattr(self, name))
        if not 0.0 <= self.stop_rad < self.influence_rad:
            raise ConfigError(
                "the damper's distances are in the wrong order",
                expected="0 ≤ stop_rad < influence_rad",
                got=f"{self.stop_rad} and {self.influence_rad}",
            )


@dataclass(frozen=True)
class Programme:
    """min ½ xᵀHx + cᵀx subject to A x = b and lower ≤ x[:7] ≤ upper, x = [q̇; δ].

    Attributes:
        H: float64[13, 13].
        c: float64[13].
        A: float64[6, 13].
        b: float64[6].
        lower: float64[7] [rad/s].
        upper: float64[7] [rad/s].
    """

    H: FloatArray
    c: FloatArray
    A: FloatArray
    b: FloatArray
    lower: FloatArray
    upper: FloatArray

    def solve(self) -> FloatArray:
        """Returns the minimiser, float64[13].

        Raises:
            MotionError: The solver fails.
        """
        import daqp

        no_bound = np.full(6, 1e30)
        # DAQP takes bounds on the variables first, then those on A x.
        upper = np.concatenate([self.upper, no_bound, self.b])
        lower = np.concatenate([self.lower, -no_bound, self.b])
        sense = np.concatenate([np.zeros(_JOINTS + 6), np.full(6, _EQUALITY)]).astype(np.int32)
        x, _, flag, _ = daqp.solve(self.H, self.c, np.ascontiguousarray(self.A), upper, lower, sense)
        if flag <= 0 or not np.all(np.isfinite(x)):
            raise MotionError("the whole-body controller found no motion", got=f"exit flag {flag} of DAQP")
        return np.asarray(x, dtype=np.float64)


def manipulability(jacobian: FloatArray) -> float:
    """Yoshikawa's measure √det(J Jᵀ) of a Jacobian float64[6, n]; 0 at a singularity."""
    return float(np.sqrt(max(np.linalg.det(jacobian @ jacobian.T), 0.0)))


def manipulability_gradient(jacobian: FloatArray) -> FloatArray:
    """∂m/∂q of a serial arm with rotary joints.

    ∂m/∂qᵢ = m · tr((J Jᵀ)⁻¹ ∂J/∂qᵢ Jᵀ). Joint i turns everything beyond it about its axis zᵢ, so that a column's change
    follows from the Jacobian's own columns: ∂vⱼ/∂qᵢ = ω_min(i,j) × v_max(i,j), and ∂ωⱼ/∂qᵢ = ωᵢ × ωⱼ for i < j, else 0.

    Args:
        jacobian: float64[6, n], rows of linear velocity first, in a fixed frame.

    Returns:
        float64[n]; zeros at a singularity, where the measure has no gradient.
    """
    measure = manipulability(jacobian)
    if measure < 1e-9:
        return np.zeros(jacobian.shape[1])
    linear, angular = jacobian[:3].T, jacobian[3:].T
    product = np.cross(angular[:, None, :], linear[None, :, :])  # [i, j] = ωᵢ × vⱼ
    later = np.arange(len(angular))[:, None] <= np.arange(len(angular))[None, :]  # [i, j]: i ≤ j
    change_linear = np.where(later[..., None], product, product.transpose(1, 0, 2))
    change_angular = np.where(later[..., None], np.cross(angular[:, None, :], angular[None, :, :]), 0.0)
    change = np.concatenate([change_linear, change_angular], axis=-1)  # [i, j, 6]: ∂J[:, j]/∂qᵢ
    pseudo = np.linalg.solve(jacobian @ jacobian.T, jacobian)
    return np.asarray(measure * np.einsum("ijk,kj->i", change, pseudo), dtype=np.float64)


class WholeBodyController:
    """Follows a moving tool centre point by the quadratic programme above; see `control.ArmController`.

    Args:
        settings: Weights and margins.
    """

    def __init__(self, settings: WholeBodySettings | None = None) -> None:
        """Compiles the robot without its meshes."""
        import mujoco

        self.settings = settings or WholeBodySettings()
        self._mujoco = mujoco
        self._model = robot_spec(visuals=False).compile()
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site(TCP_SITE).id
        self._lowest, self._highest = self._model.jnt_range[:_JOINTS].T

    def reset(self, joint_positions: FloatArray) -> None:
        """Starts from joint positions, float64[7] [rad]."""
        self._data.qpos[:] = 0.0
        self._place(joint_positions)

    def _place(self, joint_positions: FloatArray) -> None:
        self._data.qpos[:_JOINTS] = joint_positions
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)

    @property
    def joint_positions(self) -> FloatArray:
        """float64[7], the joint positions reached by the last step [rad]."""
        return np.array(self._data.qpos[:_JOINTS], dtype=np.float64)

    @property
    def tcp(self) -> Pose:
        """Pose of fr3_hand_tcp in "base" at these joint positions."""
        return Pose.from_rotation(
            self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3)
        )

    @property
    def jacobian(self) -> FloatArray:
        """float64[6, 7] in the frame "base": rows of linear velocity, then of angular velocity."""
        linear, angular = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        self._mujoco.mj_jacSite(self._model, self._data, linear, angular, self._site)
        return np.concatenate([linear, angular])[:, :_JOINTS]

    def programme(self, target: Pose, duration_s: float) -> Programme:
        """Sets up the quadratic programme of one step.

        Args:
            target: Wanted pose of fr3_hand_tcp in "base".
            duration_s: Time in which to get there [s].
        """
        settings, jacobian = self.settings, self.jacobian
        error = self._error(target)
        weight = settings.slack_weight / max(float(np.abs(error).sum()), settings.least_error)
        lower, upper = self._dampers()
        return Programme(
            H=np.diag(np.concatenate([np.full(_JOINTS, settings.joint_weight), np.full(6, weight)])),
            c=np.concatenate([-settings.manipulability_weight * manipulability_gradient(jacobian), np.zeros(6)]),
            A=np.hstack([jacobian, np.eye(6)]),
            b=error / duration_s,
            lower=lower,
            upper=upper,
        )

    def step(self, target: Pose, duration_s: float) -> FloatArray:
        """Moves the joints towards a pose of the tool centre point; see `control.ArmController.step`."""
        velocity = self.programme(target, duration_s).solve()[:_JOINTS]
        self._place(np.clip(self.joint_positions + duration_s * velocity, self._lowest, self._highest))
        return self.joint_positions

    def _error(self, target: Pose) -> FloatArray:
        """float64[6]: way [m] and rotation vector [rad] to the target, in the frame "base"."""
        turn = np.zeros(9)
        quaternion, vector = np.zeros(4), np.zeros(3)
        turn[:] = (target.rotation @ self._data.site_xmat[self._site].reshape(3, 3).T).ravel()
        self._mujoco.mju_mat2Quat(quaternion, turn)
        self._mujoco.mju_quat2Vel(vector, quaternion, 1.0)
        return np.concatenate([target.position - self._data.site_xpos[self._site], vector])

    def _dampers(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the joint speeds: the speed limits, less near the joint limits.

        q̇ᵢ ≤ η (ρ − ρ_s) / (ρ_i − ρ_s) towards a limit at distance ρ; below ρ_s it must move away.
        """
        settings, joints = self.settings, self.joint_positions
        scale = settings.damper_gain / (settings.influence_rad - settings.stop_rad)
        limits = np.asarray(MAX_JOINT_SPEED)
        upper = np.clip(scale * (self._highest - joints - settings.stop_rad), -limits, limits)
        lower = np.clip(-scale * (joints - self._lowest - settings.stop_rad), -limits, limits)
        return lower, upper
