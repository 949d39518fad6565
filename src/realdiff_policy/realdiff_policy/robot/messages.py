"""ROS messages of the run time's objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from realdiff_core import topics
from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.safety.kinematics import forward
from realdiff_policy.safety.limits import MotionLimits
from realdiff_policy.safety.trajectory import Trajectory

_REST_S = 0.2
"""How long a trajectory that only says "stay here" lasts; the controller refuses one that is over when it arrives."""

_PATH_STEP_S = 0.05


def time_message(time_ns: int) -> Time:
    """builtin_interfaces/Time of a time in nanoseconds."""
    return Time(sec=int(time_ns // 1_000_000_000), nanosec=int(time_ns % 1_000_000_000))


def nanoseconds(stamp: Any) -> int:
    """Time in nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def trajectory_message(trajectory: Trajectory) -> JointTrajectory:
    """What the arm's controller follows: stamped, so that it takes over at the right place whenever it arrives."""
    times, positions, velocities = trajectory.times_s, trajectory.positions, trajectory.velocities
    if len(times) == 1:
        times = np.array([0.0, _REST_S])
        positions, velocities = np.repeat(positions, 2, axis=0), np.zeros((2, 7))
    message = JointTrajectory(joint_names=list(ARM_JOINTS))
    message.header = Header(stamp=time_message(trajectory.start_ns))
    rounded = np.round(times * 1e9).astype(np.int64)
    message.points = [
        JointTrajectoryPoint(
            positions=position.tolist(),
            velocities=velocity.tolist(),
            time_from_start=Duration(sec=int(time // 1_000_000_000), nanosec=int(time % 1_000_000_000)),
        )
        for time, position, velocity in zip(rounded, positions, velocities, strict=True)
    ]
    return message


def tcp_pose(joint_positions: NDArray[np.float64]) -> Pose:
    """Pose of fr3_hand_tcp in "base" at joint positions float64[7] [rad]."""
    frames = forward(joint_positions)
    x, y, z, w = Rotation.from_matrix(frames.rotations[7]).as_quat().tolist()
    position = Point(**dict(zip("xyz", frames.tcp.tolist(), strict=True)))
    return Pose(position=position, orientation=Quaternion(x=x, y=y, z=z, w=w))


def path_message(trajectory: Trajectory) -> Path:
    """The way of fr3_hand_tcp along a trajectory, for RViz."""
    path = Path(header=Header(stamp=time_message(trajectory.start_ns), frame_id=topics.BASE_FRAME))
    times = np.arange(0.0, float(trajectory.times_s[-1]) + _PATH_STEP_S, _PATH_STEP_S)
    positions, _, _ = trajectory.sample_many(times)
    for time_s, joints in zip(times, positions, strict=True):
        stamp = time_message(trajectory.start_ns + round(float(time_s) * 1e9))
        path.poses.append(PoseStamped(header=Header(stamp=stamp, frame_id=topics.BASE_FRAME), pose=tcp_pose(joints)))
    return path


def workspace_markers(limits: MotionLimits, now_ns: int) -> MarkerArray:
    """The box in which fingers and palm stay, and the height below which they don't go, for RViz."""
    low, high = limits.box_lowest, limits.box_highest
    corners = [np.where([bool(code & 1), bool(code & 2), bool(code & 4)], high, low) for code in range(8)]
    edges = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
    header = Header(stamp=time_message(now_ns), frame_id=topics.BASE_FRAME)
    box = Marker(header=header, ns="workspace", id=0, type=Marker.LINE_LIST, action=Marker.ADD)
    box.pose.orientation.w = 1.0
    box.scale.x = 0.004
    box.color = ColorRGBA(r=0.1, g=0.6, b=0.9, a=0.9)
    for edge in edges:
        box.points += [Point(**dict(zip("xyz", corners[end].tolist(), strict=True))) for end in edge]
    table = Marker(header=header, ns="table", id=1, type=Marker.CUBE, action=Marker.ADD)
    table.pose.orientation.w = 1.0
    middle, size = (low + high) / 2.0, high - low
    table.pose.position = Point(x=float(middle[0]), y=float(middle[1]), z=float(limits.finger_floor) - 0.001)
    table.scale.x, table.scale.y, table.scale.z = float(size[0]), float(size[1]), 0.002
    table.color = ColorRGBA(r=0.9, g=0.5, b=0.1, a=0.25)
    return MarkerArray(markers=[box, table])
