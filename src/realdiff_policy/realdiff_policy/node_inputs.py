"""What the node hears: messages checked, converted, and handed to the run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from franka_msgs.msg import FrankaRobotState
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres
from realdiff_core.errors import RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_core.provenance import DepthKind
from realdiff_core.topics import camera_info_topic
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from realdiff_msgs.msg import Provenance
from realdiff_policy.contract import ARM_JOINTS, ImageContract
from realdiff_policy.images import fit_depth, intrinsics_problem
from realdiff_policy.robot.messages import nanoseconds
from realdiff_policy.runtime.runner import PolicyRunner
from realdiff_policy.safety import Fault, Reason
from realdiff_policy.safety.watch import provenance_fault

FINGER_JOINTS = ("fr3_finger_joint1", "fr3_finger_joint2")

_READY_MODES = (FrankaRobotState.ROBOT_MODE_IDLE, FrankaRobotState.ROBOT_MODE_MOVE)
_MODES = {
    FrankaRobotState.ROBOT_MODE_OTHER: "other",
    FrankaRobotState.ROBOT_MODE_GUIDING: "guiding",
    FrankaRobotState.ROBOT_MODE_REFLEX: "reflex",
    FrankaRobotState.ROBOT_MODE_USER_STOPPED: "user stopped",
    FrankaRobotState.ROBOT_MODE_AUTOMATIC_ERROR_RECOVERY: "automatic error recovery",
}

# Best effort matches publishers of either kind. Old messages are of no use, so the queues are short: after a moment
# without processor time the newest ones come first.
_IMAGES = QoSProfile(depth=2, reliability=QoSReliabilityPolicy.BEST_EFFORT)
_STATES = QoSProfile(depth=2, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
LATCHED_BY_SEVERAL = QoSProfile(
    depth=20, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)
"""A reader's depth counts the samples of all publishers together: with 1, one record can push out another unread."""


class Inputs:
    """Subscriptions of the node.

    Args:
        node: The node.
        runner: Where observations and faults go.
        values: The node's parameters.
        on_description: Called with the URDF when it comes.
        stop_recovery_of: Called when the robot can move again.
    """

    def __init__(
        self, node: Node, runner: PolicyRunner, values: dict[str, Any], on_description: Callable[[str], None]
    ) -> None:
        """Subscribes."""
        self._node = node
        self._runner = runner
        self._values = values
        contract = runner.contract
        self.colour_topic = node.resolve_topic_name(values["color_topic"] or contract.colour.topic)
        self.depth_topic = ""
        self._bad: set[str] = set()
        gripper_topic = f"/{values['gripper']}/joint_states"
        subscriptions = [
            (Image, self.colour_topic, self._on_colour, _IMAGES),
            (CameraInfo, camera_info_topic(self.colour_topic), self._info(contract.colour, "colour"), _STATES),
            (JointState, values["joint_states_topic"], self._on_joints, _STATES),
            (JointState, gripper_topic, self._on_gripper, _STATES),
            (Provenance, values["provenance_topic"], self._on_provenance, LATCHED_BY_SEVERAL),
        ]
        if contract.depth is not None:
            self.depth_topic = node.resolve_topic_name(values["depth_topic"] or contract.depth.topic)
            info = camera_info_topic(self.depth_topic)
            subscriptions += [
                (Image, self.depth_topic, self._on_depth, _IMAGES),
                (CameraInfo, info, self._info(contract.depth, "depth"), _STATES),
            ]
            self._judge_provenance(None)
        if values["robot_state_topic"]:
            subscriptions.append((FrankaRobotState, values["robot_state_topic"], self._on_robot_state, _STATES))
        if values["robot_description_topic"]:
            subscriptions.append(
                (String, values["robot_description_topic"], lambda message: on_description(message.data), LATCHED)
            )
        self._subscriptions = [
            node.create_subscription(
                kind, topic, callback, qos,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._incompatible(topic)),
            )
            for kind, topic, callback, qos in subscriptions
        ]  # fmt: skip

    def close(self) -> None:
        """Unsubscribes."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _incompatible(self, topic: str) -> Callable[[Any], None]:
        def warn(event: Any) -> None:
            self._node.get_logger().warning(
                f"{topic}: a publisher's QoS doesn't fit (policy {event.last_policy_kind}); nothing arrives from it",
                throttle_duration_sec=10.0,
            )

        return warn

    def _on_colour(self, message: Image) -> None:
        try:
            image = image_to_numpy(message)
            if message.encoding not in ("rgb8", "bgr8"):
                raise RealdiffError("it isn't a colour image", expected="rgb8 or bgr8", got=message.encoding)
        except RealdiffError as error:
            self._camera_fault(self.colour_topic, error.what)
            return
        self._camera_fault(self.colour_topic, "")
        image = image[..., ::-1] if message.encoding == "bgr8" else image
        self._runner.observe_colour(nanoseconds(message.header.stamp), np.ascontiguousarray(image))

    def _on_depth(self, message: Image) -> None:
        size = self._runner.contract.depth
        assert size is not None
        try:
            # Made smaller first: the fewer pixels to convert, the better.
            raw = fit_depth(image_to_numpy(message), size.width, size.height)
            depth = depth_to_metres(raw, message.encoding)
        except RealdiffError as error:
            self._camera_fault(self.depth_topic, error.what)
            return
        self._camera_fault(self.depth_topic, "")
        self._runner.observe_depth(nanoseconds(message.header.stamp), depth)

    def _info(self, wanted: ImageContract, which: str) -> Callable[[CameraInfo], None]:
        def check(message: CameraInfo) -> None:
            try:
                problem = intrinsics_problem(wanted, CameraModel.from_camera_info(message))
            except RealdiffError as error:
                problem = error.what
            self._camera_fault(f"{which} camera_info", problem)

        return check

    def _camera_fault(self, where: str, problem: str) -> None:
        """Keeps one fault for all of the camera's streams; it goes when the last of them is right again."""
        if problem:
            self._bad.add(where)
            self._runner.report(Fault(Reason.CAMERA, f"{where}: {problem}"))
        elif where in self._bad:
            self._bad.remove(where)
            if not self._bad:
                self._runner.clear(Reason.CAMERA)

    def _on_joints(self, message: JointState) -> None:
        positions = _pick(message, ARM_JOINTS)
        if positions is not None:
            self._runner.clear(Reason.JOINTS_STALE)
            self._runner.observe_joints(nanoseconds(message.header.stamp), positions)
        elif self._runner.buffer.joints is None:  # fingers may report by themselves once the arm is known
            self._runner.report(
                Fault(
                    Reason.JOINTS_STALE,
                    f"joint states name {', '.join(message.name) or 'no joints'}, but the policy moves "
                    f"{ARM_JOINTS[0]} to {ARM_JOINTS[-1]}: another robot, or another prefix of its joints",
                )
            )

    def _on_gripper(self, message: JointState) -> None:
        fingers = _pick(message, FINGER_JOINTS)
        if fingers is not None:
            self._runner.observe_gripper(nanoseconds(message.header.stamp), float(fingers.sum()))

    def _on_provenance(self, message: Provenance) -> None:
        if not self.depth_topic or self.depth_topic not in message.topics:
            return
        kinds = {kind.msg_value: kind for kind in DepthKind}
        self._judge_provenance(kinds.get(message.kinds[list(message.topics).index(self.depth_topic)]))

    def _judge_provenance(self, kind: DepthKind | None) -> None:
        hardware = bool(self._values["hardware"])
        self._runner.watch.noisy = kind is not DepthKind.CLEAN_SIM and (kind is not None or hardware)
        fault = provenance_fault(kind, self.depth_topic, hardware=hardware)
        if fault is None or self._values["override_provenance"]:
            self._runner.clear(Reason.PROVENANCE)
        else:
            self._runner.report(fault)

    def _on_robot_state(self, message: FrankaRobotState) -> None:
        if message.robot_mode in _READY_MODES:
            self._runner.clear(Reason.ROBOT_MODE)
            return
        mode = _MODES.get(message.robot_mode, f"mode {message.robot_mode}")
        self._runner.report(Fault(Reason.ROBOT_MODE, f"the robot is in mode '{mode}'"))


def _pick(message: JointState, names: tuple[str, ...]) -> np.ndarray | None:
    """Positions of some joints by name; None where one is missing."""
    known = dict(zip(message.name, message.position, strict=False))
    if any(name not in known for name in names):
        return None
    return np.array([known[name] for name in names], dtype=np.float64)
