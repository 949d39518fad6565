"""What the arm's controller tells about itself: control_msgs/JointTrajectoryControllerState."""

from __future__ import annotations

from realdiff_sim_bridge.bridge.arm_controller import ControllerState
from realdiff_sim_bridge.bridge.trajectory import JointSample
from realdiff_sim_bridge.contract import TABLE
from realdiff_sim_bridge.geometry import FloatArray
from realdiff_sim_bridge.scene.robot import ARM_JOINTS
from realdiff_sim_bridge.streams import Fields, Outgoing, header

CONTROLLER_STATE = next(topic.name for topic in TABLE.topics if topic.name.endswith("/controller_state"))


def controller_state(time_ns: int, state: ControllerState) -> Outgoing:
    """The controller's state at the time of an update."""
    elapsed = {"sec": int(state.elapsed_s), "nanosec": int(state.elapsed_s % 1.0 * 1e9)}
    desired, measured = state.desired, state.measured
    fields = {
        "header": header(time_ns, ""),
        "joint_names": list(ARM_JOINTS),
        "reference": {**trajectory_point(desired), "time_from_start": elapsed},
        "feedback": {**_moving(measured.positions, measured.velocities), "time_from_start": elapsed},
        "error": _moving(desired.positions - measured.positions, desired.velocities - measured.velocities),
        "output": {"positions": state.output},
        "speed_scaling_factor": 1.0,
    }
    return Outgoing(CONTROLLER_STATE, fields)


def trajectory_point(sample: JointSample) -> Fields:
    """trajectory_msgs/JointTrajectoryPoint without its time."""
    return {**_moving(sample.positions, sample.velocities), "accelerations": sample.accelerations}


def _moving(positions: FloatArray, velocities: FloatArray) -> Fields:
    return {"positions": positions, "velocities": velocities}
