"""The safety gate between policy and robot: limits, checks, controlled stop, watch over the inputs."""

from realdiff_policy.safety.gate import SafetyGate
from realdiff_policy.safety.limits import MotionLimits, RobotConfig, motion_limits, robot_config
from realdiff_policy.safety.reasons import Fault, Reason
from realdiff_policy.safety.trajectory import Trajectory

__all__ = [
    "Fault",
    "MotionLimits",
    "Reason",
    "RobotConfig",
    "SafetyGate",
    "Trajectory",
    "motion_limits",
    "robot_config",
]
