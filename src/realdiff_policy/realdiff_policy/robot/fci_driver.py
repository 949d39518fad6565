"""The node `fci_driver`: the FR3 through libfranka, behind the topics and actions of franka_ros2 that policies use.

For machines with libfranka but without franka_ros2. It offers the joint trajectory topic and action, joint states,
robot mode, error recovery, and the hand's move and grasp.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import rclpy
from control_msgs.action import FollowJointTrajectory
from franka_msgs.action import ErrorRecovery, Grasp, Homing, Move
from franka_msgs.msg import FrankaRobotState
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from realdiff_core.contract import ERROR_RECOVERY, ROBOT_STATE
from realdiff_core.errors import ConfigError
from realdiff_core.topics import JOINT_STATES
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from realdiff_policy.contract import ARM_JOINTS
from realdiff_policy.robot.fci_process import PERIOD_S
from realdiff_policy.robot.messages import nanoseconds, time_message
from realdiff_policy.safety.trajectory import Trajectory

NODE_NAME = "fci_driver"
FINGER_JOINTS = ("fr3_finger_joint1", "fr3_finger_joint2")

_CONNECT_S = 30.0
_POLL_S = 0.005
_HAND_S = 0.1
_MODES = {
    "Other": FrankaRobotState.ROBOT_MODE_OTHER,
    "Idle": FrankaRobotState.ROBOT_MODE_IDLE,
    "Move": FrankaRobotState.ROBOT_MODE_MOVE,
    "Guiding": FrankaRobotState.ROBOT_MODE_GUIDING,
    "Reflex": FrankaRobotState.ROBOT_MODE_REFLEX,
    "UserStopped": FrankaRobotState.ROBOT_MODE_USER_STOPPED,
    "AutomaticErrorRecovery": FrankaRobotState.ROBOT_MODE_AUTOMATIC_ERROR_RECOVERY,
}


class Part:
    """A process of `fci_process`, and the line to it.

    Args:
        part: "arm" or "hand".
        address: The robot's.
    """

    def __init__(self, part: str, address: str) -> None:
        """Starts it and waits for the connection to the robot.

        Raises:
            ConfigError: There is no such robot, or no pylibfranka.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            module = "realdiff_policy.robot.fci_process"
            command = [sys.executable, "-m", module, part, str(theirs.fileno()), address]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.line = Connection(ours.detach())
        try:
            kind, value = self.line.recv() if self.line.poll(_CONNECT_S) else ("failed", "no answer")
        except (EOFError, ConnectionResetError):
            kind, value = "failed", "its process ended"
        if kind != "ready":
            self.close()
            raise ConfigError(
                f"no connection to the robot's {part} through libfranka",
                where=address,
                got=value,
                next_step="check robot_ip, that FCI is active in Desk, and that pylibfranka fits the robot's version",
            )

    def close(self) -> None:
        """Ends the process; the arm stops where it was told last."""
        self.line.close()
        self._process.kill()
        self._process.wait()


class FciDriver(Node):
    """The node; parameters: robot_ip, gripper, arm_controller."""

    def __init__(self) -> None:
        """Connects and opens topics and actions.

        Raises:
            ConfigError: The robot can't be reached.
        """
        super().__init__(NODE_NAME)
        address = str(self.declare_parameter("robot_ip", "").value)
        gripper = str(self.declare_parameter("gripper", "franka_gripper").value)
        controller = str(self.declare_parameter("arm_controller", "fr3_arm_controller").value)
        if not address:
            raise ConfigError("no robot is named", expected="the parameter robot_ip", next_step="robot_ip:=ADDRESS")
        self._parts: list[Part] = []
        self._arm = self._connect("arm", address)
        self._hand = self._connect("hand", address)
        self._width = 0.0
        self._goal: Any = None
        self._outcome: str | None = None
        self._hand_goal: Any = None
        self._hand_outcome: list[str] = []
        self._recovered: list[str] = []
        self._reading = False
        self._joints_out = self.create_publisher(JointState, JOINT_STATES, 10)
        self._fingers_out = self.create_publisher(JointState, f"/{gripper}/joint_states", 10)
        self._state_out = self.create_publisher(FrankaRobotState, ROBOT_STATE, 10)
        self.create_subscription(JointTrajectory, f"/{controller}/joint_trajectory", self._on_trajectory, 10)

        def accept(_: Any) -> CancelResponse:
            return CancelResponse.ACCEPT

        self._servers = [
            ActionServer(
                self, FollowJointTrajectory, f"/{controller}/follow_joint_trajectory", self._execute,
                goal_callback=self._on_goal, cancel_callback=accept,
            ),
            ActionServer(self, ErrorRecovery, ERROR_RECOVERY, self._recover),
            ActionServer(self, Move, f"/{gripper}/move", self._move, goal_callback=self._on_hand_goal),
            ActionServer(self, Grasp, f"/{gripper}/grasp", self._grasp, goal_callback=self._on_hand_goal),
            ActionServer(self, Homing, f"/{gripper}/homing", self._home, goal_callback=self._on_hand_goal),
        ]  # fmt: skip
        self.create_timer(_POLL_S, self._poll)
        self.create_timer(_HAND_S, self._read_hand)
        self.get_logger().info(f"connected to {address}")

    def _connect(self, part: str, address: str) -> Part:
        try:
            connected = Part(part, address)
        except ConfigError:
            self.close_parts()
            raise
        self._parts.append(connected)
        return connected

    def close_parts(self) -> None:
        """Ends the processes."""
        for part in self._parts:
            part.close()
        self._parts = []

    # -- arm -----------------------------------------------------------------------------------------------------------

    def _on_trajectory(self, message: JointTrajectory) -> None:
        problem = self._send(message)
        if problem:
            self.get_logger().error(f"trajectory refused: {problem}", throttle_duration_sec=1.0)

    def _send(self, message: JointTrajectory) -> str:
        """Hands a trajectory to the loop as a set-point each millisecond; returns why not."""
        if sorted(message.joint_names) != sorted(ARM_JOINTS) or not message.points:
            return f"it has other joints than {', '.join(ARM_JOINTS)}, or no points"
        order = [list(message.joint_names).index(name) for name in ARM_JOINTS]
        times = np.array([point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points])
        rows = [[list(getattr(point, name)) for point in message.points] for name in ("positions", "velocities")]
        if any(len(row) != len(ARM_JOINTS) for table in rows for row in table) or np.any(np.diff(times) <= 0.0):
            return "each point needs seven positions and velocities, and times must increase"
        positions, velocities = (np.array(table)[:, order] for table in rows)
        if not (np.all(np.isfinite(positions)) and np.all(np.isfinite(velocities))):
            return "it holds NaN or infinity"
        stamp = nanoseconds(message.header.stamp) or self.get_clock().now().nanoseconds
        trajectory = Trajectory(stamp, times - times[0], positions, velocities)
        moments = np.arange(0.0, float(trajectory.times_s[-1]) + PERIOD_S, PERIOD_S)
        path, _, _ = trajectory.sample_many(moments)
        self._arm.line.send(("follow", stamp + round(float(times[0]) * 1e9), path))
        return ""

    def _on_goal(self, request: Any) -> GoalResponse:
        names = sorted(request.trajectory.joint_names)
        return GoalResponse.ACCEPT if names == sorted(ARM_JOINTS) else GoalResponse.REJECT

    async def _execute(self, handle: Any) -> FollowJointTrajectory.Result:
        result = FollowJointTrajectory.Result()
        self._goal, self._outcome = handle, None
        problem = self._send(handle.request.trajectory)
        if problem:
            handle.abort()
            result.error_code, result.error_string = result.INVALID_GOAL, problem
            return result
        while self._goal is handle and self._outcome is None and not handle.is_cancel_requested:
            await Turn()
        if handle.is_cancel_requested:
            handle.canceled()
        elif self._goal is not handle or self._outcome:
            handle.abort()
            result.error_code = result.PATH_TOLERANCE_VIOLATED
            result.error_string = self._outcome or "replaced by a new goal"
        else:
            handle.succeed()
        return result

    async def _recover(self, handle: Any) -> ErrorRecovery.Result:
        self._recovered.clear()
        self._arm.line.send(("recover",))
        while not self._recovered:
            await Turn()
        if self._recovered[0]:
            self.get_logger().error(f"error recovery: {self._recovered[0]}")
            handle.abort()
        else:
            handle.succeed()
        return ErrorRecovery.Result()

    # -- hand ----------------------------------------------------------------------------------------------------------

    def _on_hand_goal(self, _: Any) -> GoalResponse:
        return GoalResponse.REJECT if self._hand_goal is not None else GoalResponse.ACCEPT

    async def _move(self, handle: Any) -> Move.Result:
        request = handle.request
        error = await self._act(handle, ("move", request.width, request.speed))
        return Move.Result(success=not error, error=error)

    async def _grasp(self, handle: Any) -> Grasp.Result:
        request = handle.request
        epsilon = (request.epsilon.inner, request.epsilon.outer)
        error = await self._act(handle, ("grasp", request.width, request.speed, request.force, *epsilon))
        return Grasp.Result(success=not error, error=error)

    async def _home(self, handle: Any) -> Homing.Result:
        error = await self._act(handle, ("homing",))
        return Homing.Result(success=not error, error=error)

    async def _act(self, handle: Any, order: tuple[Any, ...]) -> str:
        self._hand_goal = handle
        self._hand_outcome.clear()
        self._hand.line.send(order)
        while not self._hand_outcome:
            await Turn()
        self._hand_goal = None
        error = self._hand_outcome[0]
        if error:
            handle.abort()
        else:
            handle.succeed()
        return error

    def _read_hand(self) -> None:
        if self._hand_goal is None and not self._reading:
            self._reading = True
            self._hand.line.send(("read",))

    # -- reports ----------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        while self._arm.line.poll():
            report = self._arm.line.recv()
            if report[0] == "state":
                self._publish_state(*report[1:])
            elif report[0] == "recovered":
                self._recovered.append(report[1])
            else:  # "ended" with an empty text, or "fault"
                self._outcome = report[1]
                if report[1]:
                    self.get_logger().error(f"arm: {report[1]}")
        while self._hand.line.poll():
            report = self._hand.line.recv()
            if report[0] == "width":
                self._reading = False
                self._publish_width(report[1], report[2])
            else:
                self._hand_outcome.append(report[1])

    def _publish_state(self, stamp_ns: int, q: list[float], dq: list[float], tau: list[float], mode: str) -> None:
        stamp = time_message(stamp_ns)
        fingers = [self._width / 2.0] * 2
        joints = JointState(
            name=[*ARM_JOINTS, *FINGER_JOINTS],
            position=[*q, *fingers],
            velocity=[*dq, 0.0, 0.0],
            effort=[*tau, 0.0, 0.0],
        )
        joints.header.stamp = stamp
        self._joints_out.publish(joints)
        state = FrankaRobotState(robot_mode=_MODES.get(mode, FrankaRobotState.ROBOT_MODE_OTHER))
        state.header.stamp = stamp
        state.measured_joint_state = joints
        self._state_out.publish(state)

    def _publish_width(self, stamp_ns: int, width: float) -> None:
        self._width = width
        message = JointState(name=list(FINGER_JOINTS), position=[width / 2.0] * 2, velocity=[0.0] * 2, effort=[0.0] * 2)
        message.header.stamp = time_message(stamp_ns)
        self._fingers_out.publish(message)


class Turn:
    """Awaiting this gives the executor a turn."""

    def __await__(self) -> Any:
        """Yields once."""
        yield


def spin(arguments: list[str]) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node: FciDriver | None = None
    try:
        node = FciDriver()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        if node is not None:
            node.get_logger().error("the process that speaks to the robot has ended")
        return 1
    finally:
        if node is not None:
            node.close_parts()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
