"""What camera and robot drivers offer on the ROS graph: one table, and a comparison with a graph that was observed.

The table states the names, types, QoS, encodings, frames and rates of realsense2_camera 4.58 and franka_ros2 3.4
(Jazzy) with ros2_controllers' joint trajectory controller, and what only a simulator adds. The simulation is tested
against it; on hardware the same comparison tells what a policy would trip over. Nothing here talks to ROS:
`realdiff_core.graph` describes a graph in the terms of this module, `realdiff_core.contract_check` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from realdiff_core import topics

Provider = Literal["camera", "arm", "gripper", "robot state", "recovery", "robot", "simulation"]
Direction = Literal["published", "subscribed"]
Reliability = Literal["reliable", "best_effort"]
Durability = Literal["volatile", "transient_local"]
Severity = Literal["error", "warning"]

PROVIDERS: tuple[Provider, ...] = ("camera", "arm", "gripper", "robot state", "recovery", "robot", "simulation")

HARDWARE_COMPONENT = "FrankaHardwareInterface"
"""Name of franka_ros2's hardware component for a single arm without prefix."""

ERROR_RECOVERY = "/action_server/error_recovery"
CONTROLLER_MANAGER = "/controller_manager"
ROBOT_STATE = "/franka_robot_state_broadcaster/robot_state"

_IMAGE, _INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
_JOINTS, _POSE = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped"
_TWIST, _WRENCH = "geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/WrenchStamped"


@dataclass(frozen=True)
class TopicContract:
    """A topic of a driver.

    Attributes:
        name: Full topic name.
        msgtype: Message type, e.g. "sensor_msgs/msg/Image".
        provider: Whose topic it is.
        direction: Whether the driver publishes or subscribes it.
        reliability: Of the driver's endpoint.
        durability: Of the driver's endpoint; "transient_local" is what ROS calls latched.
        encodings: Allowed image encodings; empty if it isn't an image.
        frame_id: Frame in the messages' header; None if any.
        rate_hz: Lowest and highest sensible rate [Hz]; None where messages come on occasion.
        required: Whether a graph without it can't be worked with.
        note: What a reader should know.
    """

    name: str
    msgtype: str
    provider: Provider
    direction: Direction = "published"
    reliability: Reliability = "reliable"
    durability: Durability = "volatile"
    encodings: tuple[str, ...] = ()
    frame_id: str | None = None
    rate_hz: tuple[float, float] | None = None
    required: bool = True
    note: str = ""

    @property
    def only_in_simulation(self) -> bool:
        """Whether no driver has it."""
        return self.provider == "simulation"

    @property
    def qos(self) -> Literal["default", "sensor", "latched"]:
        """The QoS preset for bags."""
        if self.durability == "transient_local":
            return "latched"
        return "default" if self.reliability == "reliable" else "sensor"


@dataclass(frozen=True)
class CallContract:
    """An action or a service of a driver.

    Attributes:
        name: Full name.
        kind: "action" or "service".
        srvtype: Its type, e.g. "franka_msgs/action/Move".
        provider: Whose it is.
        required: Whether a graph without it can't be worked with.
        note: What a reader should know.
    """

    name: str
    kind: Literal["action", "service"]
    srvtype: str
    provider: Provider
    required: bool = True
    note: str = ""

    @property
    def only_in_simulation(self) -> bool:
        """Whether no driver has it."""
        return self.provider == "simulation"


@dataclass(frozen=True)
class Contract:
    """All topics, actions and services.

    Attributes:
        topics: Topics.
        calls: Actions and services.
    """

    topics: tuple[TopicContract, ...]
    calls: tuple[CallContract, ...]

    def topic(self, name: str) -> TopicContract:
        """Returns the topic of that name; KeyError if there is none."""
        return {topic.name: topic for topic in self.topics}[name]

    def of(self, providers: Iterable[Provider]) -> Contract:
        """Returns the part of some providers."""
        chosen = set(providers)
        return Contract(
            tuple(topic for topic in self.topics if topic.provider in chosen),
            tuple(call for call in self.calls if call.provider in chosen),
        )

    def hardware(self) -> Contract:
        """Returns what real drivers offer: everything but what only a simulator can know."""
        return self.of(provider for provider in PROVIDERS if provider != "simulation")


def contract(
    *,
    gripper: str = "franka_gripper",
    arm_controller: str = "fr3_arm_controller",
    camera: str = topics.CAMERA,
    camera_rate_hz: float = 30.0,
    depth_encodings: tuple[str, ...] = ("16UC1",),
    simulator: str = "sim_bridge",
) -> Contract:
    """Makes the table.

    Args:
        gripper: Name of the gripper node. franka_ros2 starts it as "franka_gripper"; MoveIt's configuration of the FR3
            speaks to "fr3_gripper".
        arm_controller: Name of the joint trajectory controller.
        camera: Full name of the camera node.
        camera_rate_hz: Frame rate that the camera was started with.
        depth_encodings: Encodings of depth images; the real driver has 16UC1 only.
        simulator: Name of the simulator's node.
    """
    return Contract(
        (
            *_camera_topics(camera, camera_rate_hz, depth_encodings),
            *_robot_topics(gripper, arm_controller),
            *_simulation_topics(camera_rate_hz),
        ),
        _calls(gripper, arm_controller, simulator),
    )


def _camera_topics(camera: str, rate: float, depth: tuple[str, ...]) -> Iterator[TopicContract]:
    rates = (0.8 * rate, 1.2 * rate)
    aligned = "the same rate as colour: half of it means that the alignment can't keep up"
    for stream, image, encodings, frame, note in (
        ("color", "image_raw", ("rgb8",), topics.COLOR_FRAME, ""),
        ("depth", "image_rect_raw", depth, topics.DEPTH_FRAME, "millimetres, 0 = invalid"),
        ("aligned_depth_to_color", "image_raw", depth, topics.COLOR_FRAME, aligned),
    ):
        name = f"{camera}/{stream}"
        yield TopicContract(
            f"{name}/{image}", _IMAGE, "camera", encodings=encodings, frame_id=frame, rate_hz=rates, note=note
        )
        yield TopicContract(f"{name}/camera_info", _INFO, "camera", frame_id=frame, rate_hz=rates)
    yield TopicContract(
        f"{camera}/extrinsics/depth_to_color", "realsense2_camera_msgs/msg/Extrinsics", "camera",
        durability="transient_local", required=False, note="rotation column by column, translation in metres",
    )  # fmt: skip
    yield TopicContract(
        f"{camera}/depth/color/points", "sensor_msgs/msg/PointCloud2", "camera", frame_id=topics.DEPTH_FRAME,
        required=False, note="with pointcloud.enable",
    )  # fmt: skip
    yield TopicContract(
        f"{camera}/rgbd", "realsense2_camera_msgs/msg/RGBD", "camera", required=False, note="with enable_rgbd"
    )


def _robot_topics(gripper: str, arm: str) -> Iterator[TopicContract]:
    yield TopicContract(
        f"/{arm}/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", "arm", "subscribed",
        note="franka_bringup's own controllers.yaml has no joint trajectory controller",
    )  # fmt: skip
    yield TopicContract(
        f"/{arm}/controller_state", "control_msgs/msg/JointTrajectoryControllerState", "arm", rate_hz=(20.0, 1100.0)
    )
    yield TopicContract(f"/{gripper}/joint_states", _JOINTS, "gripper", rate_hz=(12.0, 18.0))
    yield TopicContract(ROBOT_STATE, "franka_msgs/msg/FrankaRobotState", "robot state", rate_hz=(20.0, 1100.0))
    broadcaster = ROBOT_STATE.rpartition("/")[0]
    for name, kind, frame in (
        ("current_pose", _POSE, topics.BASE_FRAME),
        ("last_desired_pose", _POSE, topics.BASE_FRAME),
        ("desired_end_effector_twist", _TWIST, topics.BASE_FRAME),
        ("measured_joint_states", _JOINTS, topics.BASE_FRAME),
        ("desired_joint_states", _JOINTS, topics.BASE_FRAME),
        ("external_joint_torques", _JOINTS, topics.BASE_FRAME),
        ("external_wrench_in_base_frame", _WRENCH, topics.BASE_FRAME),
        ("external_wrench_in_stiffness_frame", _WRENCH, "fr3_hand_tcp"),
    ):
        yield TopicContract(
            f"{broadcaster}/{name}", kind, "robot state", reliability="best_effort", frame_id=frame, required=False,
            note="best effort since franka_ros2 3.3",
        )  # fmt: skip
    yield TopicContract(topics.JOINT_STATES, _JOINTS, "robot", rate_hz=(20.0, 1100.0), note="arm and fingers")
    yield TopicContract(topics.TF, "tf2_msgs/msg/TFMessage", "robot", rate_hz=(10.0, 2200.0))
    yield TopicContract(topics.TF_STATIC, "tf2_msgs/msg/TFMessage", "robot", durability="transient_local")


def _simulation_topics(rate: float) -> tuple[TopicContract, ...]:
    return (
        TopicContract(topics.OBJECT_POSES, "realdiff_msgs/msg/ObjectPoses", "simulation", frame_id=topics.BASE_FRAME),
        TopicContract(
            topics.TASK_STATUS, "realdiff_msgs/msg/TaskStatus", "simulation", rate_hz=(0.8 * rate, 1.2 * rate)
        ),
        TopicContract(
            topics.PROVENANCE,
            "realdiff_msgs/msg/Provenance",
            "simulation",
            durability="transient_local",
            note="says what the depth topics carry",
        ),
        TopicContract(
            topics.COMMANDED_ACTION,
            "realdiff_msgs/msg/CommandedAction",
            "simulation",
            note="only while the scripted expert is at work",
        ),
        TopicContract(topics.CLOCK, "rosgraph_msgs/msg/Clock", "simulation", note="nodes need use_sim_time:=true"),
    )


def _calls(gripper: str, arm: str, simulator: str) -> tuple[CallContract, ...]:
    action: Literal["action"] = "action"
    service: Literal["service"] = "service"
    width = "position is per finger: half the width"
    return (
        CallContract(
            f"/{arm}/follow_joint_trajectory", action, "control_msgs/action/FollowJointTrajectory", "arm",
        ),
        CallContract(
            f"/{arm}/query_state", service, "control_msgs/srv/QueryTrajectoryState", "arm", required=False,
        ),
        CallContract(f"/{gripper}/homing", action, "franka_msgs/action/Homing", "gripper"),
        CallContract(f"/{gripper}/move", action, "franka_msgs/action/Move", "gripper"),
        CallContract(f"/{gripper}/grasp", action, "franka_msgs/action/Grasp", "gripper"),
        CallContract(
            f"/{gripper}/gripper_action", action, "control_msgs/action/GripperCommand", "gripper", note=width
        ),
        CallContract(f"/{gripper}/stop", service, "std_srvs/srv/Trigger", "gripper"),
        CallContract(
            ERROR_RECOVERY, action, "franka_msgs/action/ErrorRecovery", "recovery", note="first step after a reflex"
        ),
        CallContract(
            f"{CONTROLLER_MANAGER}/set_hardware_component_state", service,
            "controller_manager_msgs/srv/SetHardwareComponentState", "recovery",
            note=f"second step: {HARDWARE_COMPONENT} to active",
        ),
        CallContract(
            f"{CONTROLLER_MANAGER}/switch_controller", service, "controller_manager_msgs/srv/SwitchController",
            "recovery", note=f"third step: activate {arm}",
        ),
        CallContract(
            f"{CONTROLLER_MANAGER}/list_controllers", service, "controller_manager_msgs/srv/ListControllers",
            "recovery",
        ),
        CallContract(
            f"{CONTROLLER_MANAGER}/list_hardware_components", service,
            "controller_manager_msgs/srv/ListHardwareComponents", "recovery",
        ),
        CallContract(f"/{simulator}/reset", service, "realdiff_msgs/srv/Reset", "simulation"),
        CallContract(f"/{simulator}/set_depth_sensor", service, "realdiff_msgs/srv/SetDepthSensor", "simulation"),
    )  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription that was seen.

    Attributes:
        node: Name of its node.
        msgtype: Its type.
        reliability: Its reliability; None if unknown.
        durability: Its durability; None if unknown.
    """

    node: str
    msgtype: str
    reliability: Reliability | None = None
    durability: Durability | None = None


@dataclass(frozen=True)
class ObservedStream:
    """What the messages of a topic say, over a time of listening.

    Attributes:
        count: Messages received.
        rate_hz: Their rate; None if fewer than two came.
        encodings: Image encodings that occurred.
        frames: Frames that occurred.
    """

    count: int
    rate_hz: float | None = None
    encodings: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ObservedGraph:
    """A graph as it was seen.

    Attributes:
        publishers: By topic.
        subscriptions: By topic.
        actions: Types of action servers by name.
        services: Types of services by name, those of actions excepted.
        streams: By topic; topics that weren't listened to are missing.
    """

    publishers: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    subscriptions: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    streams: dict[str, ObservedStream] = field(default_factory=dict)
