"""The simulator's state and pictures as the contents of ROS messages.

A message is described by its topic and a dictionary of its fields, so that the recorder (rosbags) and the bridge node
(rclpy) publish exactly the same without either depending on the other's message classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.depth import metres_to_depth
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.provenance import BagProvenance

from realdiff_core import topics
from realdiff_sim_bridge.adapters.base import CONTROL_PERIOD_NS, SimState
from realdiff_sim_bridge.cameras import CameraRig
from realdiff_sim_bridge.experts import ExpertStep
from realdiff_sim_bridge.geometry import Pose
from realdiff_sim_bridge.scene.robot import ARM_JOINTS, FINGER_JOINTS, FLANGE_Z, HAND_YAW, TCP_Z

Fields = dict[str, Any]

_PARENTS = {
    **{f"fr3_link{i}": f"fr3_link{i - 1}" for i in range(1, 8)},
    "fr3_leftfinger": "fr3_hand",
    "fr3_rightfinger": "fr3_hand",
}
"""Moving links of the URDF and their parents."""


class Outgoing(NamedTuple):
    """A message to publish: topic and field values (nested messages as dictionaries)."""

    topic: str
    fields: Fields


def stamp(time_ns: int) -> Fields:
    """builtin_interfaces/Time of a time in nanoseconds."""
    return {"sec": int(time_ns // 1_000_000_000), "nanosec": int(time_ns % 1_000_000_000)}


def header(time_ns: int, frame_id: str) -> Fields:
    """std_msgs/Header."""
    return {"stamp": stamp(time_ns), "frame_id": frame_id}


def camera_messages(
    rig: CameraRig,
    time_ns: int,
    colour: NDArray[np.uint8] | None,
    depth_m: NDArray[np.float32] | None,
    encoding: str,
    *,
    aligned: bool = True,
) -> list[Outgoing]:
    """One frame of the camera: colour, depth, depth aligned to colour, and the three camera_infos.

    Args:
        rig: The camera.
        time_ns: When the frame was taken.
        colour: uint8[H, W, 3], RGB; None leaves the image out, its camera_info stays.
        depth_m: float32[H, W], metres, NaN where invalid; None leaves both depth images out.
        encoding: Depth encoding, "16UC1" (as the driver) or "32FC1".
        aligned: Whether to make the aligned image.
    """
    aligned_m = rig.align(depth_m) if depth_m is not None and aligned else None
    messages = []
    for image_topic, info_topic, array, image_encoding, camera in (
        (topics.COLOR_IMAGE, topics.COLOR_INFO, colour, "rgb8", rig.colour),
        (topics.DEPTH_IMAGE, topics.DEPTH_INFO, _encoded(depth_m, encoding), encoding, rig.depth),
        (topics.ALIGNED_DEPTH_IMAGE, topics.ALIGNED_DEPTH_INFO, _encoded(aligned_m, encoding), encoding, rig.colour),
    ):
        head = header(time_ns, camera.frame_id)
        if array is not None:
            messages.append(Outgoing(image_topic, {"header": head, **numpy_to_image_fields(array, image_encoding)}))
        messages.append(Outgoing(info_topic, _camera_info(camera, head)))
    return messages


def _encoded(depth_m: NDArray[np.float32] | None, encoding: str) -> NDArray[Any] | None:
    return None if depth_m is None else metres_to_depth(depth_m, encoding)


def _camera_info(camera: CameraModel, head: Fields) -> Fields:
    return {"header": head, **camera.to_camera_info_fields()}


def robot_messages(state: SimState) -> list[Outgoing]:
    """Joint states of arm and hand, and the moving part of the TF tree."""
    robot, head = state.robot, header(state.time_ns, "")
    names = (*ARM_JOINTS, *FINGER_JOINTS)
    transforms = [
        _transform(state.time_ns, parent, child, state.links[parent].inverse() @ state.links[child])
        for child, parent in _PARENTS.items()
    ]
    return [
        Outgoing(topics.JOINT_STATES, _joint_state(head, names, robot.positions, robot.velocities, robot.efforts)),
        Outgoing(
            topics.GRIPPER_JOINT_STATES,
            _joint_state(head, FINGER_JOINTS, robot.positions[7:], robot.velocities[7:], robot.efforts[7:]),
        ),
        Outgoing(topics.TF, {"transforms": transforms}),
    ]


def _joint_state(head: Fields, names: tuple[str, ...], position: Any, velocity: Any, effort: Any) -> Fields:
    return {"header": head, "name": list(names), "position": position, "velocity": velocity, "effort": effort}


def gripper_state(state: SimState) -> Outgoing:
    """Joint states as the gripper's driver publishes them: half the width for each finger, without velocities."""
    half = state.robot.gripper_width / 2
    zero = [0.0, 0.0]
    fields = _joint_state(header(state.time_ns, ""), FINGER_JOINTS, [half, half], zero, zero)
    return Outgoing(topics.GRIPPER_JOINT_STATES, fields)


def extrinsics(rig: CameraRig) -> Outgoing:
    """realsense2_camera_msgs/Extrinsics: takes points of the depth frame to the colour frame, rotation by columns."""
    pose = rig.colour_from_depth
    return Outgoing(topics.EXTRINSICS, {"rotation": pose.rotation.T.ravel(), "translation": pose.position})


def point_cloud(rig: CameraRig, time_ns: int, depth_m: NDArray[np.float32], colour: NDArray[np.uint8]) -> Outgoing:
    """The driver's coloured cloud: the depth image's valid points in its frame, black where colour sees none.

    Args:
        rig: The camera.
        time_ns: When the frame was taken.
        depth_m: float32[H, W], metres, NaN where invalid.
        colour: uint8[H, W, 3], RGB.
    """
    points = rig.depth.back_project(depth_m).reshape(-1, 3)
    points = points[np.isfinite(points[:, 2])]
    seen = rig.colour_from_depth.rotation @ points.T + rig.colour_from_depth.position[:, None]
    pixels = np.rint(rig.colour.project(seen.T)).astype(np.int64)
    inside = np.all((pixels >= 0) & (pixels < (rig.colour.width, rig.colour.height)), axis=1)
    packed = np.zeros(len(points), np.uint32)
    red, green, blue = colour[pixels[inside, 1], pixels[inside, 0]].astype(np.uint32).T
    packed[inside] = red << 16 | green << 8 | blue
    cloud = np.zeros(len(points), np.dtype([("xyz", np.float32, 3), ("rgb", np.uint32)]))
    cloud["xyz"], cloud["rgb"] = points, packed
    fields = [
        {"name": name, "offset": 4 * k, "datatype": 7, "count": 1} for k, name in enumerate(("x", "y", "z", "rgb"))
    ]
    return Outgoing(
        topics.POINTS,
        {
            "header": header(time_ns, rig.depth.frame_id),
            "height": 1,
            "width": len(cloud),
            "fields": fields,
            "is_bigendian": False,
            "point_step": cloud.itemsize,
            "row_step": cloud.nbytes,
            "data": cloud.tobytes(),
            "is_dense": True,
        },
    )


def rgbd(rig: CameraRig, time_ns: int, messages: list[Outgoing]) -> Outgoing:
    """realsense2_camera_msgs/RGBD: colour and aligned depth of one frame in one message."""
    by_topic = {message.topic: message.fields for message in messages}
    return Outgoing(
        topics.RGBD,
        {
            "header": header(time_ns, rig.colour.frame_id),
            "rgb_camera_info": by_topic[topics.COLOR_INFO],
            "depth_camera_info": by_topic[topics.ALIGNED_DEPTH_INFO],
            "rgb": by_topic[topics.COLOR_IMAGE],
            "depth": by_topic[topics.ALIGNED_DEPTH_IMAGE],
        },
    )


def static_transforms(rig: CameraRig) -> Outgoing:
    """Fixed frames: the camera's, and the URDF's fixed joints."""
    half = HAND_YAW / 2
    fixed = [
        ("base", "fr3_link0", Pose.identity()),
        ("fr3_link7", "fr3_link8", Pose(np.array([0.0, 0.0, FLANGE_Z]), np.array([0.0, 0.0, 0.0, 1.0]))),
        ("fr3_link8", "fr3_hand", Pose(np.zeros(3), np.array([0.0, 0.0, np.sin(half), np.cos(half)]))),
        ("fr3_hand", "fr3_hand_tcp", Pose(np.array([0.0, 0.0, TCP_Z]), np.array([0.0, 0.0, 0.0, 1.0]))),
        *rig.static_transforms(),
    ]
    return Outgoing(topics.TF_STATIC, {"transforms": [_transform(0, *entry) for entry in fixed]})


def _transform(time_ns: int, parent: str, child: str, pose: Pose) -> Fields:
    x, y, z = (float(value) for value in pose.position)
    return {
        "header": header(time_ns, parent),
        "child_frame_id": child,
        "transform": {"translation": {"x": x, "y": y, "z": z}, "rotation": _quaternion(pose)},
    }


def _quaternion(pose: Pose) -> Fields:
    return dict(zip("xyzw", (float(value) for value in pose.quaternion), strict=True))


def pose_fields(pose: Pose) -> Fields:
    """geometry_msgs/Pose."""
    position = dict(zip("xyz", (float(value) for value in pose.position), strict=True))
    return {"position": position, "orientation": _quaternion(pose)}


def object_poses(state: SimState) -> Outgoing:
    """Poses of the task's objects."""
    return Outgoing(
        topics.OBJECT_POSES,
        {
            "header": header(state.time_ns, topics.BASE_FRAME),
            "names": list(state.objects),
            "poses": [pose_fields(pose) for pose in state.objects.values()],
        },
    )


def commanded_action(time_ns: int, step: ExpertStep) -> Outgoing:
    """A commanded action: what a policy learns to predict."""
    action = {
        "header": header(time_ns, topics.BASE_FRAME),
        "joint_names": list(ARM_JOINTS),
        "joint_positions": step.command.joint_positions,
        "gripper_width": float(step.command.gripper_width),
        "end_effector_pose": pose_fields(step.tcp),
    }
    return Outgoing(topics.COMMANDED_ACTION, action)


def arm_trajectory(step: ExpertStep) -> Outgoing:
    """The same command as it would be sent to the arm's joint trajectory controller."""
    point = {
        "positions": step.command.joint_positions,
        "time_from_start": {"sec": 0, "nanosec": CONTROL_PERIOD_NS},
    }
    # Stamp 0 means "start at once" to the controller.
    fields = {"header": header(0, ""), "joint_names": list(ARM_JOINTS), "points": [point]}
    return Outgoing(topics.ARM_TRAJECTORY, fields)


def task_status(
    time_ns: int,
    *,
    task: str,
    seed: int,
    episode: int,
    subtask: str,
    success: bool,
    elapsed_s: float,
    message: str = "",
) -> Outgoing:
    """Progress of the task."""
    return Outgoing(
        topics.TASK_STATUS,
        {
            "header": header(time_ns, ""),
            "task": task,
            "seed": seed,
            "episode": episode,
            "subtask": subtask,
            "success": success,
            "elapsed_s": elapsed_s,
            "message": message,
        },
    )


def provenance_message(time_ns: int, record: BagProvenance) -> Outgoing:
    """The latched provenance beside the depth topics."""
    return Outgoing(
        topics.PROVENANCE,
        {
            "header": header(time_ns, topics.DEPTH_FRAME),
            "topics": list(record.depth),
            "kinds": [kind.msg_value for kind in record.depth.values()],
            "camera_profile": record.camera_profile or "",
            "seed": record.seed or 0,
            "details_json": record.to_json(),
        },
    )


def clock(time_ns: int) -> Outgoing:
    """Simulation time."""
    return Outgoing(topics.CLOCK, {"clock": stamp(time_ns)})
