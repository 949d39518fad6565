"""Small episode bags and a tiny policy for the tests of training and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from realdiff_core.bag import BagWriter
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import BagProvenance, DepthKind
from realdiff_policy.contract import ARM_JOINTS

from realdiff_core import topics

STORAGES = ("mcap", "sqlite3")
ENCODINGS = ("16UC1", "32FC1")
SIZE = (48, 64)
RATE_HZ = 10.0
CONTROL_HZ = 50.0
SECOND = 1_000_000_000

TINY = {
    "policy": {
        "policy": "diffusion_policy",
        "action": {"rate_hz": RATE_HZ, "observation_steps": 2, "horizon": 8, "execute": 4},
        "image": SIZE,
        "crop": (40, 56),
        "colour": {"width": 8, "keypoints": 4, "features": 8},
        "depth": {"width": 8, "keypoints": 4, "features": 8},
        "denoiser": {"channels": (16, 32), "step_embedding": 16},
        "diffusion": {"sampling_steps": 4},
    },
    "steps": 6,
    "batch": 4,
    "validation_share": 0.34,
    "optimiser": {"warmup_steps": 1},
    "log_every": 2,
    "checkpoint_every": 3,
    "validate_every": 6,
    "workers": 0,
}
"""Settings of a run that takes seconds."""


def joints_at(time_s: float, offset: float = 0.0) -> np.ndarray:
    """The command of a moment: each joint its own slow sine, so that every time has a value of its own."""
    phase = np.arange(7)
    return 0.3 * np.sin(2.0 * time_s + phase + offset) + np.array([0, -0.7, 0, -2.3, 0, 1.5, 0.7])


def depth_mm(frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint16[H, W] in millimetres: a slope that moves, with holes."""
    y, x = np.mgrid[: size[0], : size[1]]
    depth = (700 + 5 * y + 3 * x + 10 * frame).astype(np.uint16)
    depth[(x + frame) % 9 == 0] = 0
    return depth


def colour_of(frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8[H, W, 3], different in every frame."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([(y * 4) % 256, (x * 3) % 256, (x + y + 7 * frame) % 256], axis=-1).astype(np.uint8)


def write_episode(
    path: Path,
    *,
    storage: str = "mcap",
    encoding: str = "16UC1",
    frames: int = 9,
    offset: float = 0.0,
    size: tuple[int, int] = SIZE,
    focal_px: float = 60.0,
    kind: DepthKind | None = DepthKind.CLEAN_SIM,
    task: str = "can_to_plate",
    success: bool = True,
    without: tuple[str, ...] = (),
    poison: float | None = None,
) -> Path:
    """Writes an episode: images at 10 Hz, commands at 50 Hz; the arm is where it was commanded 20 ms ago.

    Args:
        path: Bag to make.
        storage: Its storage.
        encoding: Encoding of the depth.
        frames: Images of each stream.
        offset: Phase of the motion [rad], to tell episodes apart.
        size: Height and width of the images.
        focal_px: Focal length.
        kind: Where the depth comes from; None: the bag doesn't say.
        task: The task's name.
        success: Whether the episode succeeded.
        without: Topics to leave out.
        poison: A joint value for one command in the middle.
    """
    camera = CameraModel(size[1], size[0], focal_px, focal_px, size[1] / 2, size[0] / 2, frame_id=topics.COLOR_FRAME)
    types = {
        topics.COLOR_IMAGE: IMAGE,
        topics.COLOR_INFO: CAMERA_INFO,
        topics.ALIGNED_DEPTH_IMAGE: IMAGE,
        topics.ALIGNED_DEPTH_INFO: CAMERA_INFO,
        topics.JOINT_STATES: "sensor_msgs/msg/JointState",
        topics.GRIPPER_JOINT_STATES: "sensor_msgs/msg/JointState",
        topics.COMMANDED_ACTION: "realdiff_msgs/msg/CommandedAction",
    }
    with BagWriter(path, storage=storage) as bag:  # type: ignore[arg-type]
        for name, msgtype in types.items():
            if name not in without:
                bag.add_topic(name, msgtype)

        def write(topic: str, stamp: int, **fields: Any) -> None:
            if topic not in without:
                bag.write_message(
                    topic, stamp, make(types[topic], header=make_header(stamp, topics.COLOR_FRAME), **fields)
                )

        for tick in range(round((frames - 1) * CONTROL_HZ / RATE_HZ) + 1):
            time_s = tick / CONTROL_HZ
            stamp = SECOND + round(time_s * SECOND)
            width = 0.08 if time_s < 0.4 else 0.03
            command = joints_at(time_s + 1 / CONTROL_HZ, offset)
            if poison is not None and tick == 10:
                command[2] = poison
            measured = joints_at(time_s, offset)
            write(topics.JOINT_STATES, stamp, name=list(ARM_JOINTS), position=measured)
            write(
                topics.GRIPPER_JOINT_STATES,
                stamp,
                name=["fr3_finger_joint1", "fr3_finger_joint2"],
                position=[width / 2] * 2,
            )
            write(
                topics.COMMANDED_ACTION,
                stamp,
                joint_names=list(ARM_JOINTS),
                joint_positions=command,
                gripper_width=width,
                end_effector_pose=make(
                    "geometry_msgs/msg/Pose",
                    position=make("geometry_msgs/msg/Point", x=0.4 + 0.01 * time_s, y=0.1, z=0.3),
                    orientation=make("geometry_msgs/msg/Quaternion", x=1.0, y=0.0, z=0.0, w=0.0),
                ),
            )
            if tick % round(CONTROL_HZ / RATE_HZ) == 0:
                frame = tick // round(CONTROL_HZ / RATE_HZ)
                depth = (
                    depth_mm(frame, size) if encoding == "16UC1" else depth_to_metres(depth_mm(frame, size), "16UC1")
                )
                for image, pixels, code in (
                    (topics.COLOR_IMAGE, colour_of(frame, size), "rgb8"),
                    (topics.ALIGNED_DEPTH_IMAGE, depth, encoding),
                ):
                    write(topics.camera_info_topic(image), stamp, **camera.to_camera_info_fields())
                    write(image, stamp, **numpy_to_image_fields(pixels, code))
        if kind is not None:
            bag.set_provenance(
                BagProvenance(
                    depth={topics.ALIGNED_DEPTH_IMAGE: kind}, source="simulation", task=task, seed=1, success=success
                )
            )
    return path


def write_episodes(folder: Path, count: int = 3, **options: Any) -> Path:
    """Writes a folder of episodes whose motions differ."""
    for number in range(count):
        write_episode(folder / f"episode_{number:06d}", offset=0.5 * number, **options)
    return folder
