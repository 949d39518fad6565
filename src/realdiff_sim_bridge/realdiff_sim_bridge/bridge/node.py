"""The node `sim_bridge`: the simulation on the ROS graph, under the names of the real drivers.

It only converts messages, keeps time and reports; what happens is decided in `realdiff_sim_bridge.bridge.session`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from realdiff_core.contract import contract
from realdiff_core.errors import ConfigError, RealdiffError

from realdiff_core import topics
from realdiff_msgs.srv import Reset, SetDepthSensor
from realdiff_sim_bridge.bridge.arm_server import ArmServer
from realdiff_sim_bridge.bridge.depth_sensor import SENSORS, SensorName
from realdiff_sim_bridge.bridge.gripper_server import GripperServer
from realdiff_sim_bridge.bridge.parameters import PARAMETERS, session_settings
from realdiff_sim_bridge.bridge.publishers import Publishers
from realdiff_sim_bridge.bridge.recovery_server import RecoveryServer
from realdiff_sim_bridge.bridge.robot_state import STATE_TOPICS
from realdiff_sim_bridge.bridge.session import FrameMaker, Session
from realdiff_sim_bridge.contract import TABLE
from realdiff_sim_bridge.declared_parameters import declare
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.ros_context import ros_context
from realdiff_sim_bridge.streams import Outgoing

NODE_NAME = "sim_bridge"

_POLL_S = 0.005
"""Rest between looks at the executor while a goal is awaited: waiting inside it would spin without rest then."""

_REPORT_S = 1.0
_SLOW = 0.9
"""Below this share of the wanted speed the diagnostics warn."""


class SimBridge(Node):
    """The bridge node; `run` is its main loop."""

    def __init__(self) -> None:
        """Declares parameters, builds the scene and opens topics, actions and services.

        Raises:
            RealdiffError: A parameter is wrong, or nothing can be rendered on this machine.
        """
        super().__init__(NODE_NAME)
        values = {item.name: declare(self, item) for item in PARAMETERS}
        self._speed = float(values["real_time_factor"])
        controller, gripper = _name(values, "arm_controller"), _name(values, "gripper_name")
        optional = {topics.EXTRINSICS, *STATE_TOPICS}
        optional |= {topics.POINTS} if values["pointcloud.enable"] else set()
        optional |= {topics.RGBD} if values["enable_rgbd"] else set()
        self._output = Publishers(
            self, TABLE, contract(gripper=gripper, arm_controller=controller), color_qos=values["color_qos"],
            depth_qos=values["depth_qos"], optional=optional,
        )  # fmt: skip
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.session = Session(session_settings(values), self._output.wanted, self.get_logger().error)
        self._arm = ArmServer(self, self.session, controller)
        self._gripper = GripperServer(self, self.session, gripper)
        self._recovery = RecoveryServer(self, self.session, controller)
        self.create_service(Reset, "~/reset", self._on_reset)
        self.create_service(SetDepthSensor, "~/set_depth_sensor", self._on_depth_sensor)
        self._frame_thread = ThreadPoolExecutor(1, thread_name_prefix="frames")
        self._frame: Future[None] | None = None
        self._report_from = (0.0, 0, 0)
        self._frames = 0
        self._publish(self.session.latched())
        self.get_logger().info(
            f"simulating {self.session.task.name} ({values['behaviour']}), camera {self.session.rig.profile.name} at "
            f"{values['rate']:g} Hz"
        )

    def _publish_later(self, make_frame: FrameMaker) -> None:
        """Lets the other thread align, encode and publish a frame while the simulation goes on, one frame at a time."""
        self._finish_frame()
        self._frame = self._frame_thread.submit(lambda: self._publish(make_frame()))

    def _finish_frame(self) -> None:
        frame, self._frame = self._frame, None
        if frame is not None:
            frame.result()

    def close(self) -> None:
        """Ends the other thread and frees the simulator."""
        self._frame_thread.shutdown()
        self.session.close()

    def _publish(self, messages: list[Outgoing]) -> None:
        self._output.publish(messages)
        self._frames += sum(message.topic == topics.COLOR_INFO for message in messages)

    def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        self._finish_frame()  # none may follow that belongs to the scene before
        try:
            response.message = self.session.reset(int(request.seed), request.task)
        except RealdiffError as error:
            response.success, response.message = False, str(error)
            self.get_logger().error(f"reset: {error}")
            return response
        self._publish(self.session.latched())
        response.success = True
        self.get_logger().info(f"reset: {response.message}")
        return response

    def _on_depth_sensor(
        self, request: SetDepthSensor.Request, response: SetDepthSensor.Response
    ) -> SetDepthSensor.Response:
        try:
            if request.sensor not in SENSORS:
                raise ConfigError(
                    f"depth sensor '{request.sensor}' isn't available here", expected=" or ".join(SENSORS),
                    got=request.sensor,
                )  # fmt: skip
            self.session.set_sensor(cast(SensorName, request.sensor))
        except RealdiffError as error:
            response.success, response.message = False, str(error)
            return response
        self._publish(self.session.latched())
        response.success, response.message = True, f"depth topics carry the sensor '{request.sensor}'"
        self.get_logger().info(response.message)
        return response

    def run(self, executor: SingleThreadedExecutor, stopped: Callable[[], bool]) -> None:
        """Steps the simulation and serves requests until `stopped` says so.

        Everything but the conversion of frames happens in this one thread: OpenGL contexts belong to a thread, so no
        locks are needed.
        """
        wall, simulated = time.monotonic(), self.session.time_ns
        self._report_from = (wall, simulated, self._frames)
        while not stopped():
            try:
                self._publish(self.session.advance(self._publish_later))
                self._arm.update()
                self._gripper.update()
                if self.session.next_episode():
                    self._publish(self.session.latched())
            except SimulationError as error:
                self.get_logger().error(f"{error}; the scene is reset")
                self.session.reset(self.session.seed + 1)
                self._publish(self.session.latched())
            due = wall
            if self._speed > 0.0:
                due = wall + (self.session.time_ns - simulated) * 1e-9 / self._speed
                if time.monotonic() - due > 0.2:  # too slow for this machine: no race to catch up
                    wall, simulated = time.monotonic(), self.session.time_ns
            self._serve(executor, 0.0)
            while not stopped() and (left := due - time.monotonic()) > 0.0:
                if self._arm.waiting or self._gripper.waiting:
                    self._serve(executor, 0.0)
                    time.sleep(max(0.0, min(due - time.monotonic(), _POLL_S)))
                else:
                    self._serve(executor, left)
            self._report()

    def _serve(self, executor: SingleThreadedExecutor, timeout_s: float) -> None:
        """Serves one request, if one comes in time."""
        try:
            executor.spin_once(timeout_sec=timeout_s)
        except Exception:
            # Whatever a request or a client that has vanished leads to: it is reported, and the robot stays in hand.
            self.get_logger().error(f"a request has failed:\n{traceback.format_exc()}")

    def _report(self) -> None:
        """Publishes speed and frame rate once a second."""
        since, simulated, frames = self._report_from
        elapsed = time.monotonic() - since
        if elapsed < _REPORT_S:
            return
        speed = (self.session.time_ns - simulated) * 1e-9 / elapsed
        rate = (self._frames - frames) / elapsed
        slow = self._speed > 0.0 and speed < _SLOW * self._speed
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if slow else DiagnosticStatus.OK,
            name=f"{NODE_NAME}: simulation",
            message=f"slower than wanted: {speed:.2f} × real time" if slow else "running",
            hardware_id=self.session.task.name,
            values=[
                KeyValue(key="real_time_factor", value=f"{speed:.3f}"),
                KeyValue(key="camera_rate_hz", value=f"{rate:.2f}"),
                KeyValue(key="episode", value=str(self.session.episode)),
                KeyValue(key="depth_sensor", value=self.session.sensor),
                KeyValue(key="robot_mode", value=self.session.robot.mode(self.session.time_ns).name.lower()),
            ],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
        if slow:
            self.get_logger().warning(
                f"{speed:.2f} × real time instead of {self._speed:g}: lower rate, width and height",
                throttle_duration_sec=30.0,
            )
        self._report_from = (time.monotonic(), self.session.time_ns, self._frames)


def _name(values: dict[str, Any], parameter: str) -> str:
    """A name that becomes a part of topics' names."""
    name = str(values[parameter]).strip("/")
    if not name or not all(part.isidentifier() for part in name.split("/")):
        raise ConfigError(
            f"parameter {parameter} is wrong", expected="a node's name such as franka_gripper", got=values[parameter]
        )
    return name


def spin(arguments: list[str]) -> int:
    """Runs the node until it is stopped.

    Args:
        arguments: Command line with ROS arguments.

    Returns:
        The exit code.
    """
    with ros_context(arguments) as stop:
        release: list[Callable[[], None]] = []
        try:
            executor = SingleThreadedExecutor()
            node = SimBridge()
            release = [node.close, node.destroy_node]
            executor.add_node(node)
            node.run(executor, stop.is_set)
        finally:
            for action in release:
                action()
    return 0
