"""The fields of franka_msgs/FrankaRobotState and of the broadcaster's convenience topics, from the simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
from realdiff_core.contract import ROBOT_STATE

from realdiff_core import topics
from realdiff_sim_bridge.adapters.base import SimState
from realdiff_sim_bridge.bridge.arm_controller import ControllerState
from realdiff_sim_bridge.bridge.external_force import ExternalForce
from realdiff_sim_bridge.bridge.robot import HardwareState, Robot
from realdiff_sim_bridge.geometry import FloatArray, Pose
from realdiff_sim_bridge.kinematics import ArmKinematics
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, HAND_YAW, TCP_Z
from realdiff_sim_bridge.streams import Fields, Outgoing, header, pose_fields

_EE_FRAME, _FLANGE_FRAME = "fr3_hand_tcp", "fr3_link8"
_FLANGE_EE = Pose(np.array([0.0, 0.0, TCP_Z]), np.array([0.0, 0.0, np.sin(HAND_YAW / 2), np.cos(HAND_YAW / 2)]))
_HAND_MASS_KG = 0.73
_DIFFERENCE_S = 1e-4
_BROADCASTER = ROBOT_STATE.rpartition("/")[0]

_CONVENIENCE = {
    "current_pose": "o_t_ee",
    "last_desired_pose": "o_t_ee_d",
    "desired_end_effector_twist": "o_dp_ee_d",
    "measured_joint_states": "measured_joint_state",
    "desired_joint_states": "desired_joint_state",
    "external_joint_torques": "tau_ext_hat_filtered",
    "external_wrench_in_base_frame": "o_f_ext_hat_k",
    "external_wrench_in_stiffness_frame": "k_f_ext_hat_k",
}
"""Topics that repeat one field of the state."""

STATE_TOPICS = (ROBOT_STATE, *(f"{_BROADCASTER}/{name}" for name in _CONVENIENCE))


class RobotStateFields:
    """Fills the robot's state; motor positions, which the simulation doesn't have, repeat the joints'."""

    def __init__(self) -> None:
        """Prepares the forward kinematics of the desired pose."""
        self._kinematics = ArmKinematics()

    def messages(
        self, state: SimState, control: ControllerState, robot: Robot, external: ExternalForce
    ) -> list[Outgoing]:
        """Makes all messages of the broadcaster.

        Args:
            state: The true state, stamped with the published time.
            control: What the arm's controller wants.
            robot: Mode and errors.
            external: Forces from outside.
        """
        fields = self._fields(state, control, robot, external)
        repeated = [Outgoing(f"{_BROADCASTER}/{name}", fields[source]) for name, source in _CONVENIENCE.items()]
        return [Outgoing(ROBOT_STATE, fields), *repeated]

    def _fields(self, state: SimState, control: ControllerState, robot: Robot, external: ExternalForce) -> Fields:
        now = state.time_ns
        base = header(now, topics.BASE_FRAME)
        arm = state.robot
        wanted = control.desired
        desired = self._tcp(control.output)
        twist = _twist(desired, self._tcp(control.output + wanted.velocities * _DIFFERENCE_S))
        to_tool = state.tcp.rotation.T
        sign = float(np.sign(arm.positions[3]))
        inertia = {"m": _HAND_MASS_KG}
        pose = {"header": base, "pose": pose_fields(desired)}
        elbow = np.array([wanted.positions[2], sign])
        return {
            "header": header(now, ""),
            "collision_indicators": _indicators(external, robot),
            "measured_joint_state": _joints(base, arm.positions[:7], arm.velocities[:7], arm.efforts[:7]),
            "desired_joint_state": _joints(base, wanted.positions, wanted.velocities, np.zeros(7)),
            "measured_joint_motor_state": _joints(base, arm.positions[:7], arm.velocities[:7], np.zeros(7)),
            "ddq_d": wanted.accelerations,
            "tau_ext_hat_filtered": _joints(base, np.zeros(7), np.zeros(7), external.torques),
            "elbow": {
                "position": np.array([arm.positions[2], sign]), "desired_position": elbow, "commanded_position": elbow
            },
            "o_f_ext_hat_k": {"header": base, "wrench": _wrench(external.force, external.moment)},
            "k_f_ext_hat_k": {
                "header": header(now, _EE_FRAME), "wrench": _wrench(to_tool @ external.force, to_tool @ external.moment)
            },
            "inertia_ee": {"header": header(now, _EE_FRAME), "inertia": inertia},
            "inertia_total": {"header": header(now, _EE_FRAME), "inertia": inertia},
            "o_t_ee": {"header": base, "pose": pose_fields(state.tcp)},
            "o_t_ee_d": pose,
            "o_t_ee_c": pose,
            "f_t_ee": {"header": header(now, _FLANGE_FRAME), "pose": pose_fields(_FLANGE_EE)},
            "ee_t_k": {"header": header(now, _EE_FRAME), "pose": pose_fields(Pose.identity())},
            "o_dp_ee_d": {"header": base, "twist": twist},
            "o_dp_ee_c": {"header": base, "twist": twist},
            "o_ddp_ee_c": {"header": base},
            "time": now * 1e-9,
            "control_command_success_rate": float(robot.hardware is HardwareState.ACTIVE),
            "robot_mode": int(robot.mode(now)),
            "current_errors": dict.fromkeys(robot.errors, True),
            "last_motion_errors": dict.fromkeys(robot.last_errors, True),
        }  # fmt: skip

    def _tcp(self, joints: FloatArray) -> Pose:
        self._kinematics.reset(joints)
        return self._kinematics.tcp


def _joints(head: Fields, position: Any, velocity: Any, effort: Any) -> Fields:
    return {"header": head, "name": list(ARM_JOINTS), "position": position, "velocity": velocity, "effort": effort}


def _vector(values: FloatArray) -> Fields:
    return dict(zip("xyz", (float(value) for value in values), strict=True))


def _wrench(force: FloatArray, moment: FloatArray) -> Fields:
    return {"force": _vector(force), "torque": _vector(moment)}


def _twist(before: Pose, after: Pose) -> Fields:
    turn = (after.rotation @ before.rotation.T - np.eye(3)) / _DIFFERENCE_S
    return {
        "linear": _vector((after.position - before.position) / _DIFFERENCE_S),
        "angular": _vector(np.array([turn[2, 1], turn[0, 2], turn[1, 0]])),
    }


def _indicators(external: ExternalForce, robot: Robot) -> Fields:
    """1 where half of what makes a reflex is reached (contact), and where all of it is (collision)."""

    def above(values: FloatArray, limit: float) -> FloatArray:
        return (np.abs(values) > limit).astype(np.float64) if limit > 0.0 else np.zeros(len(values))

    force, torque = robot.limits.force, robot.limits.torque
    return {
        "is_cartesian_linear_contact": _vector(above(external.force, force / 2)),
        "is_cartesian_linear_collision": _vector(above(external.force, force)),
        "is_joint_contact": above(external.torques, torque / 2),
        "is_joint_collision": above(external.torques, torque),
    }
