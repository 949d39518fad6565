"""Topic and frame names, identical to those of realsense2_camera and franka_ros2.

So hardware can take the simulator's place without remapping.
"""

from __future__ import annotations

CAMERA = "/camera/camera"
COLOR_IMAGE = f"{CAMERA}/color/image_raw"
COLOR_INFO = f"{CAMERA}/color/camera_info"
DEPTH_IMAGE = f"{CAMERA}/depth/image_rect_raw"
DEPTH_INFO = f"{CAMERA}/depth/camera_info"
ALIGNED_DEPTH_IMAGE = f"{CAMERA}/aligned_depth_to_color/image_raw"
ALIGNED_DEPTH_INFO = f"{CAMERA}/aligned_depth_to_color/camera_info"
EXTRINSICS = f"{CAMERA}/extrinsics/depth_to_color"  # realsense2_camera_msgs/Extrinsics
POINTS = f"{CAMERA}/depth/color/points"
RGBD = f"{CAMERA}/rgbd"  # realsense2_camera_msgs/RGBD

JOINT_STATES = "/joint_states"
GRIPPER_JOINT_STATES = "/franka_gripper/joint_states"
ARM_TRAJECTORY = "/fr3_arm_controller/joint_trajectory"
TF = "/tf"
TF_STATIC = "/tf_static"
CLOCK = "/clock"

ENHANCED_PREFIX = "/realdiff"
OBJECT_POSES = f"{ENHANCED_PREFIX}/object_poses"  # realdiff_msgs/ObjectPoses
TASK_STATUS = f"{ENHANCED_PREFIX}/task_status"  # realdiff_msgs/TaskStatus
PROVENANCE = f"{ENHANCED_PREFIX}/provenance"  # realdiff_msgs/Provenance, latched
COMMANDED_ACTION = f"{ENHANCED_PREFIX}/commanded_action"  # realdiff_msgs/CommandedAction

COLOR_FRAME = "camera_color_optical_frame"
DEPTH_FRAME = "camera_depth_optical_frame"
BASE_FRAME = "base"


def camera_info_topic(image_topic: str) -> str:
    """Return the camera_info topic that belongs to an image topic: its sibling, by image_transport's convention."""
    return image_topic.rstrip("/").rpartition("/")[0] + "/camera_info"
