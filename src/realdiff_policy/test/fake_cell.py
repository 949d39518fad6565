"""A process that stands for camera, arm and hand on the ROS graph, and breaks on order: `python fake_cell.py`.

Its arm follows trajectories exactly, in the way of a joint trajectory controller. Orders come as text on
/fake_cell/order, measurements leave on /fake_cell/jump (velocity jump at each take-over, percent of the joint's limit).
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import rclpy
from control_msgs.action import FollowJointTrajectory
from franka_msgs.action import Grasp, Move
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from realdiff_core.camera import CameraModel
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.provenance import DepthKind
from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.node_inputs import FINGER_JOINTS
from realdiff_policy.robot.messages import nanoseconds, time_message
from realdiff_policy.safety import Trajectory, motion_limits, robot_config
from rosgraph_msgs.msg import Clock
from scripted_policy import HOME, contract
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, String
from trajectory_msgs.msg import JointTrajectory

from realdiff_core import topics
from realdiff_msgs.msg import Provenance

STEP_S = 0.01


class FakeCell(Node):
    """Camera at 20 Hz, joints at 50 Hz, hand at 20 Hz, its own clock at 100 Hz."""

    def __init__(self, width: int, height: int, gripper: str) -> None:
        super().__init__("fake_cell")
        self.now_ns = 1_000_000_000
        self.limits = motion_limits(robot_config("fr3"))
        self.trajectory = Trajectory.rest(HOME, self.now_ns)
        self.goal: Any = None
        self.prefix = "fr3"
        self.goal_outcome = ""
        self.width, self.wanted_width = 0.08, 0.08
        self.camera = self.depth = self.joints = self.arm_accepts = self.gripper_accepts = True
        self.frozen: tuple[np.ndarray, np.ndarray] | None = None
        shape = contract(width=width, height=height)
        self.model = CameraModel(
            width, height, shape.colour.fx, shape.colour.fy, shape.colour.cx, shape.colour.cy,
            frame_id=topics.COLOR_FRAME,
        )  # fmt: skip
        self.random = np.random.default_rng(0)
        self.count = 0
        self.clock_out = self.create_publisher(Clock, topics.CLOCK, 10)
        self.colour_out = self.create_publisher(Image, topics.COLOR_IMAGE, 10)
        self.colour_info_out = self.create_publisher(CameraInfo, topics.COLOR_INFO, 10)
        self.depth_out = self.create_publisher(Image, topics.ALIGNED_DEPTH_IMAGE, 10)
        self.depth_info_out = self.create_publisher(CameraInfo, topics.ALIGNED_DEPTH_INFO, 10)
        self.joints_out = self.create_publisher(JointState, topics.JOINT_STATES, 10)
        self.gripper_out = self.create_publisher(JointState, f"/{gripper}/joint_states", 10)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.provenance_out = self.create_publisher(Provenance, topics.PROVENANCE, latched)
        self.jump_out = self.create_publisher(Float64, "/fake_cell/jump", 100)
        self.create_subscription(String, "/fake_cell/order", self.on_order, 10)
        self.create_subscription(JointTrajectory, topics.ARM_TRAJECTORY, self.follow, 10)
        self.servers = [
            ActionServer(
                self, FollowJointTrajectory, "/fr3_arm_controller/follow_joint_trajectory", self.execute,
                goal_callback=self.on_arm_goal, cancel_callback=lambda _: CancelResponse.ACCEPT,
            ),
            ActionServer(self, Move, f"/{gripper}/move", self.move, goal_callback=self.on_gripper_goal),
            ActionServer(self, Grasp, f"/{gripper}/grasp", self.grasp, goal_callback=self.on_gripper_goal),
        ]  # fmt: skip

    def on_order(self, message: String) -> None:
        verb, _, rest = message.data.partition(" ")
        if verb == "camera":
            self.camera = rest == "on"
        elif verb == "depth":
            self.depth = rest == "on"
        elif verb == "joints":
            self.joints = rest == "on"
        elif verb == "arm":
            self.arm_accepts = rest == "on"
        elif verb == "gripper":
            self.gripper_accepts = rest == "on"
        elif verb == "lens":  # focal length, as a share of the contract's
            shape = contract(width=self.model.width, height=self.model.height).colour
            focal = {"fx": shape.fx * float(rest), "fy": shape.fy * float(rest)}
            self.model = replace(self.model, **focal)
        elif verb == "prefix":
            self.prefix = rest
        elif verb == "depth_is":
            self.say_provenance(rest)
        elif verb == "freeze":
            self.frozen = self.pictures() if rest == "on" else None
        elif verb == "abort":
            self.goal_outcome = "aborted"
            self.trajectory = Trajectory.rest(self.trajectory.sample(self.now_ns)[0], self.now_ns)
        elif verb == "back":
            back = round(float(rest) * 1e9)
            self.now_ns -= back
            old = self.trajectory
            self.trajectory = Trajectory(old.start_ns - back, old.times_s, old.positions, old.velocities)

    def say_provenance(self, kind: str) -> None:
        """What an enhancer, a simulator or a trial say about the depth topic."""
        value = DepthKind(kind).msg_value
        self.provenance_out.publish(Provenance(topics=[topics.ALIGNED_DEPTH_IMAGE], kinds=[value]))

    # -- arm -----------------------------------------------------------------------------------------------------------

    def follow(self, message: JointTrajectory) -> None:
        times = np.array([p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points])
        positions = np.array([list(p.positions) for p in message.points])
        velocities = np.array([list(p.velocities) for p in message.points])
        new = Trajectory(nanoseconds(message.header.stamp), times, positions, velocities)
        before, after = self.trajectory.sample(self.now_ns), new.sample(self.now_ns)
        jump = float(np.max(np.abs(after[1] - before[1]) / self.limits.velocity))
        self.jump_out.publish(Float64(data=100.0 * jump))
        self.trajectory = new

    def on_arm_goal(self, _: Any) -> GoalResponse:
        return GoalResponse.ACCEPT if self.arm_accepts else GoalResponse.REJECT

    async def execute(self, handle: Any) -> FollowJointTrajectory.Result:
        self.goal, self.goal_outcome = handle, ""
        self.follow(handle.request.trajectory)
        result = FollowJointTrajectory.Result()
        while self.goal is handle and not self.goal_outcome and self.now_ns < self.trajectory.end_ns:
            await Turn()
        if self.goal is not handle or self.goal_outcome:
            handle.abort()
            result.error_code, result.error_string = -4, "path tolerance violated (fr3_joint2)"
        else:
            handle.succeed()
        return result

    # -- hand ----------------------------------------------------------------------------------------------------------

    def on_gripper_goal(self, _: Any) -> GoalResponse:
        return GoalResponse.ACCEPT if self.gripper_accepts else GoalResponse.REJECT

    async def move(self, handle: Any) -> Move.Result:
        self.wanted_width = handle.request.width
        while abs(self.width - self.wanted_width) > 1e-6:
            await Turn()
        handle.succeed()
        return Move.Result(success=True)

    async def grasp(self, handle: Any) -> Grasp.Result:
        self.wanted_width = 0.0
        while self.width > 1e-6 and self.wanted_width == 0.0:
            await Turn()
        handle.succeed()
        return Grasp.Result(success=True)

    # -- time ----------------------------------------------------------------------------------------------------------

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        size = (self.model.height, self.model.width)
        return (
            self.random.integers(0, 255, (*size, 3), dtype=np.uint8),
            self.random.integers(500, 1500, size).astype(np.uint16),
        )

    def step(self) -> None:
        self.now_ns += round(STEP_S * 1e9)
        self.count += 1
        stamp = time_message(self.now_ns)
        self.clock_out.publish(Clock(clock=stamp))
        travel = 0.1 * STEP_S
        self.width += float(np.clip(self.wanted_width - self.width, -travel, travel))
        if self.count % 2 == 0 and self.joints:
            positions, velocities = self.trajectory.sample(self.now_ns)
            names = [name.replace("fr3", self.prefix) for name in ARM_JOINTS]
            state = JointState(name=names, position=positions.tolist(), velocity=velocities.tolist())
            state.header.stamp = stamp
            self.joints_out.publish(state)
        if self.count % 5 == 0:
            fingers = JointState(name=list(FINGER_JOINTS), position=[self.width / 2] * 2)
            fingers.header.stamp = stamp
            self.gripper_out.publish(fingers)
            if self.camera:
                self.publish_images(stamp)

    def publish_images(self, stamp: Any) -> None:
        colour, depth = self.frozen or self.pictures()
        for image, encoding, out, info_out in (
            (colour, "rgb8", self.colour_out, self.colour_info_out),
            (depth, "16UC1", self.depth_out, self.depth_info_out),
        ):
            if out is self.depth_out and not self.depth:
                continue
            message = Image(**numpy_to_image_fields(image, encoding))
            info = CameraInfo(**self.model.to_camera_info_fields())
            for part in (message, info):
                part.header.stamp, part.header.frame_id = stamp, topics.COLOR_FRAME
            info_out.publish(info)
            out.publish(message)


class Turn:
    """Awaiting this gives the executor a turn."""

    def __await__(self) -> Any:
        yield


def main() -> None:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    width, height = (int(value) for value in sys.argv[1:3]) if len(sys.argv) > 2 else (32, 24)
    cell = FakeCell(width, height, sys.argv[3] if len(sys.argv) > 3 else "franka_gripper")
    executor = SingleThreadedExecutor()
    executor.add_node(cell)
    due = time.monotonic()
    while not stop.is_set():
        cell.step()
        due += STEP_S
        executor.spin_once(timeout_sec=0.0)
        while (left := due - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=0.0)
            time.sleep(min(left, 0.001))
        due = max(due, time.monotonic() - 0.1)
    cell.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
