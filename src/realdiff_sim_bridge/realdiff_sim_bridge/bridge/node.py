"""The node `sim_bridge`: the simulation on the ROS graph, under the names of the real drivers.

It only converts messages, keeps time and reports; what happens is decided in `realdiff_sim_bridge.bridge.session`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from realdiff_core.errors import ConfigError, RealdiffError

from realdiff_core import topics
from realdiff_msgs.srv import Reset, SetDepthSensor
from realdiff_sim_bridge.bridge.actions import ArmAndGripper
from realdiff_sim_bridge.bridge.parameters import PARAMETERS, Parameter, session_settings
from realdiff_sim_bridge.bridge.ros_messages import message_class, to_message
from realdiff_sim_bridge.bridge.session import Session
from realdiff_sim_bridge.contract import TOPICS, TopicContract
from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.streams import Outgoing

NODE_NAME = "sim_bridge"
DEPTH_SENSORS = ("clean",)
"""Depth sensors that this bridge can switch to."""

_POLL_S = 0.002
"""Rest between looks at the executor. Waiting inside it would spin without rest while a goal is awaited."""

_REPORT_S = 1.0
_SLOW = 0.9
"""Below this share of the wanted speed the diagnostics warn."""


class SimBridge(Node):
    """The bridge node; `run` is its main loop."""

    def __init__(self) -> None:
        """Declares parameters, builds the scene and opens topics and services.

        Raises:
            RealdiffError: A parameter is wrong, or nothing can be rendered on this machine.
        """
        super().__init__(NODE_NAME)
        values = {item.name: self._declared(item) for item in PARAMETERS}
        self._speed = float(values["real_time_factor"])
        self._types = {topic.name: topic.msgtype for topic in TOPICS}
        self._opened = {topic.name: self._open_publisher(topic) for topic in TOPICS}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.session = Session(session_settings(values), self._wanted)
        self._arm = ArmAndGripper(self, self.session)
        self.create_service(Reset, "~/reset", self._on_reset)
        self.create_service(SetDepthSensor, "~/set_depth_sensor", self._on_depth_sensor)
        self._report_from = (0.0, 0, 0)
        self._frames = 0
        self._publish(self.session.latched())
        self.get_logger().info(
            f"simulating {self.session.task.name} ({values['behaviour']}), camera {self.session.rig.profile.name} at "
            f"{values['rate']:g} Hz"
        )

    def _declared(self, item: Parameter) -> Any:
        descriptor = ParameterDescriptor(description=item.description, read_only=True)
        if item.choices:
            descriptor.additional_constraints = f"one of {', '.join(item.choices)}"
        if item.bounds is not None and isinstance(item.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=item.bounds[0], to_value=item.bounds[1])]
        elif item.bounds is not None:
            lowest, highest = (int(bound) for bound in item.bounds)
            descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
        try:
            value = self.declare_parameter(item.name, item.default, descriptor).value
        except (
            rclpy.exceptions.InvalidParameterValueException,
            rclpy.exceptions.InvalidParameterTypeException,
        ) as error:
            raise ConfigError(
                f"parameter {item.name} is wrong",
                expected=f"{type(item.default).__name__} {item.bounds or ''}".strip(),
                got=str(error),
                next_step=f"{item.name}: {item.description}",
            ) from error
        if item.choices and value not in item.choices:
            raise ConfigError(f"parameter {item.name} is wrong", expected=" or ".join(item.choices), got=value)
        return value

    def _open_publisher(self, topic: TopicContract) -> Any:
        qos = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
        if topic.qos == "latched":
            qos = QoSProfile(
                depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
            )
        return self.create_publisher(message_class(topic.msgtype), topic.name, qos)

    def _wanted(self, topic: str) -> bool:
        return bool(self._opened[topic].get_subscription_count())

    def _publish(self, messages: list[Outgoing]) -> None:
        for message in messages:
            self._opened[message.topic].publish(to_message(self._types[message.topic], message.fields))
            self._frames += int(message.topic == topics.COLOR_INFO)

    def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        try:
            self._arm.cancel("the scene has been reset")
            response.message = self.session.reset(int(request.seed), request.task)
        except RealdiffError as error:
            response.success, response.message = False, str(error)
            return response
        self._publish(self.session.latched())
        response.success = True
        self.get_logger().info(f"reset: {response.message}")
        return response

    def _on_depth_sensor(
        self, request: SetDepthSensor.Request, response: SetDepthSensor.Response
    ) -> SetDepthSensor.Response:
        response.success = request.sensor in DEPTH_SENSORS
        response.message = (
            f"depth topics carry the sensor '{request.sensor}'"
            if response.success
            else f"depth sensor '{request.sensor}' isn't available here; available: {', '.join(DEPTH_SENSORS)}"
        )
        return response

    def run(self, executor: SingleThreadedExecutor, stopped: Callable[[], bool]) -> None:
        """Steps the simulation and serves requests until `stopped` says so.

        Everything happens in this one thread: OpenGL contexts belong to a thread, and so no locks are needed.
        """
        wall, simulated = time.monotonic(), self.session.time_ns
        self._report_from = (wall, simulated, self._frames)
        while not stopped():
            try:
                self._publish(self.session.advance())
                self._arm.update()
                if self.session.next_episode():
                    self._publish(self.session.latched())
            except SimulationError as error:
                self.get_logger().error(f"{error}; the scene is reset")
                self._arm.cancel("the simulation has become unstable")
                self.session.reset(self.session.seed + 1)
                self._publish(self.session.latched())
            due = wall
            if self._speed > 0.0:
                due = wall + (self.session.time_ns - simulated) * 1e-9 / self._speed
                if time.monotonic() - due > 0.2:  # too slow for this machine: no race to catch up
                    wall, simulated = time.monotonic(), self.session.time_ns
            executor.spin_once(timeout_sec=0.0)
            while not stopped() and (left := due - time.monotonic()) > 0.0:
                executor.spin_once(timeout_sec=0.0)
                time.sleep(min(left, _POLL_S))
            self._report()

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


def spin(arguments: list[str]) -> int:
    """Runs the node until it is stopped.

    Args:
        arguments: Command line with ROS arguments.

    Returns:
        The exit code.
    """
    # rclpy's own handlers shut the context down in the middle of a step; ours let the step end first.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    release: list[Callable[[], None]] = []
    try:
        executor = SingleThreadedExecutor()
        node = SimBridge()
        release = [node.session.close, node.destroy_node]
        executor.add_node(node)
        node.run(executor, stop.is_set)
    finally:
        for action in release:
            action()
        rclpy.try_shutdown()
    return 0
