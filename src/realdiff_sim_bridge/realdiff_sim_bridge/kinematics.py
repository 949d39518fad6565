"""Differential inverse kinematics of the FR3 (mink, a quadratic programme per step)."""

from __future__ import annotations

import numpy as np

from realdiff_sim_bridge.errors import MotionError
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, READY_POSITIONS, TCP_SITE, robot_spec

MAX_JOINT_SPEED = (2.0, 2.0, 2.0, 2.0, 2.6, 2.6, 2.6)
"""Half to three quarters of the real joint limits [rad/s]: an expert has no need to go to the edge."""

_POSTURE_GAIN = 0.02
"""Share of the way to the preferred posture per step, where the arm has a choice: near the stretched shoulder a higher
one swings the elbow at once."""


class ArmKinematics:
    """Follows a moving tool centre point with the arm's joints.

    The joints that were commanded last are kept here, so that the output is a function of the calls alone and never of
    measurement noise.
    """

    def __init__(self) -> None:
        """Compiles the robot without its meshes."""
        import mink

        self._mink = mink
        self._model = robot_spec(visuals=False).compile()
        self._configuration = mink.Configuration(self._model)
        self._frame = mink.FrameTask(TCP_SITE, "site", position_cost=1.0, orientation_cost=0.4, lm_damping=1e-6)
        self._posture = mink.PostureTask(self._model, cost=1e-3, gain=_POSTURE_GAIN)
        self._limits = [
            mink.ConfigurationLimit(self._model),
            mink.VelocityLimit(self._model, dict(zip(ARM_JOINTS, MAX_JOINT_SPEED, strict=True))),
        ]

    def reset(self, joint_positions: FloatArray) -> None:
        """Starts from joint positions, float64[7] [rad]; the ready pose is preferred where the arm has a choice."""
        full = np.zeros(self._model.nq)
        full[:7] = READY_POSITIONS
        self._posture.set_target(full)
        full[:7] = joint_positions
        self._configuration.update(full)

    @property
    def joint_positions(self) -> FloatArray:
        """float64[7], the joint positions reached by the last step [rad]."""
        return np.asarray(self._configuration.q[:7].copy(), dtype=np.float64)

    @property
    def tcp(self) -> Pose:
        """Pose of fr3_hand_tcp in "base" at these joint positions."""
        transform = self._configuration.get_transform_frame_to_world(TCP_SITE, "site")
        return Pose.from_wxyz(transform.wxyz_xyz[4:], transform.wxyz_xyz[:4])

    def step(self, target: Pose, duration_s: float) -> FloatArray:
        """Moves the joints towards a pose of the tool centre point, within joint and velocity limits.

        Args:
            target: Wanted pose of fr3_hand_tcp in "base".
            duration_s: Time until these joints are reached [s].

        Returns:
            float64[7], joint positions [rad].

        Raises:
            MotionError: No motion satisfies the limits.
        """
        self._frame.set_target(self._mink.SE3.from_matrix(target.matrix))
        velocity = self._mink.solve_ik(
            self._configuration, [self._frame, self._posture], duration_s, solver="daqp", damping=1e-9,
            limits=self._limits,
        )  # fmt: skip
        if velocity is None or not np.all(np.isfinite(velocity)):
            raise MotionError("inverse kinematics found no motion", where=f"towards {target.position.round(3)} m")
        self._configuration.integrate_inplace(velocity, duration_s)
        return self.joint_positions
