"""Shared by the tests of the node: processes on a ROS domain, and a client of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from realdiff_core.processes import start_bound

HERE = Path(__file__).parent
RUNNING, HOLD, STOPPED = 1, 2, 3


def start(command: list[str], domain: int | None = None) -> subprocess.Popen:
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if domain is not None:
        environment["ROS_DOMAIN_ID"] = str(domain)
    return start_bound(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def start_node(folder: Path, domain: int | None = None, **parameters: object) -> subprocess.Popen:
    values = {"bundle": folder, "loader": "scripted_policy:load", "use_sim_time": True, **parameters}
    command = [sys.executable, "-m", "realdiff_policy.commands.diffusion_policy", "--ros-args"]
    for name, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        command += ["-p", f"{name}:={text or repr(text)}"]
    return start(command, domain)


class Client:
    """A node with a context of its own: several live in this process at once."""

    def __init__(self, domain: int | None = None) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        # Of two nodes of one name in a process, the second takes the first's log publisher with it.
        name = "test_client" if domain is None else f"test_client_{domain}"
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=min(left, 0.02))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


class Graph:
    """A client of the node: its states, its orders, and what it says."""

    def __init__(self, tmp_path: Path, domain: int | None = None, **parameters: object) -> None:
        from nav_msgs.msg import Path as PathMessage
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64, String
        from visualization_msgs.msg import MarkerArray

        from realdiff_core import topics
        from realdiff_msgs.msg import CommandedAction, PolicyStatus

        self.order = tmp_path / "order"
        self.client = Client(domain)
        self.node = self.client.node
        gripper = str(parameters.get("gripper", "franka_gripper"))
        self.cell = start([sys.executable, str(HERE / "fake_cell.py"), "32", "24", gripper], domain)
        self.process = start_node(tmp_path, domain, **parameters)
        self.statuses: list[tuple[float, int, str]] = []
        self.jumps: list[float] = []
        self.joints: list[tuple[float, np.ndarray]] = []
        self.paths: list = []
        self.markers: list = []
        self.actions: list = []

        def on_status(message: PolicyStatus) -> None:
            self.status = message
            self.statuses.append((time.monotonic(), message.state, message.reason))

        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        subscribe = self.node.create_subscription
        subscribe(PolicyStatus, "/diffusion_policy/status", on_status, 50)
        subscribe(Float64, "/fake_cell/jump", lambda message: self.jumps.append(message.data), 100)
        subscribe(PathMessage, "/diffusion_policy/path", self.paths.append, 10)
        subscribe(MarkerArray, "/diffusion_policy/workspace", self.markers.append, latched)
        subscribe(CommandedAction, topics.COMMANDED_ACTION, self.actions.append, 50)
        subscribe(
            JointState, topics.JOINT_STATES,
            lambda message: self.joints.append((time.monotonic(), np.array(message.velocity))), 50,
        )  # fmt: skip
        self.orders = self.node.create_publisher(String, "/fake_cell/order", 10)
        try:
            self.change_state("configure")
            self.change_state("activate")
            self.until(lambda: self.orders.get_subscription_count() == 1)
            self.until_state(RUNNING)
        except BaseException:
            self.close()
            raise

    def until(self, condition: Callable[[], object], timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            for process in (self.cell, self.process):
                assert process.poll() is None, (
                    f"{process.args[1:]} ended ({process.returncode}): {process.stdout.read()}"
                )
            assert time.monotonic() < deadline, f"nothing came in time; last: {self.statuses[-3:]}"
            self.client.executor.spin_once(timeout_sec=0.02)

    def until_state(self, state: int, timeout_s: float = 40.0) -> None:
        seen = len(self.statuses)
        self.until(lambda: any(entry[1] == state for entry in self.statuses[seen:]), timeout_s)

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= deadline)

    def call(self, kind, name: str, **fields):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def change_state(self, transition: str) -> None:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}"))
        assert self.call(ChangeState, "/diffusion_policy/change_state", transition=request).success, transition

    def tell(self, order: str) -> None:
        from std_msgs.msg import String

        self.orders.publish(String(data=order))

    def hold_after(self, break_it: Callable[[], None], timeout_s: float = 10.0) -> SimpleNamespace:
        """Breaks something; returns how long until the hold was told and until the arm stood still, and the reason."""
        began = time.monotonic()
        break_it()
        seen = len(self.statuses)
        self.until(lambda: any(entry[1] == HOLD for entry in self.statuses[seen:]), timeout_s)
        told, _, reason = next(entry for entry in self.statuses[seen:] if entry[1] == HOLD)
        return SimpleNamespace(hold_s=told - began, reason=reason, told=told)

    def still_after(self, told: float) -> float:
        """How long after the hold the arm first stood still for 0.1 s [s]."""
        self.wait(0.7)
        still_since = None
        for moment, velocity in self.joints:
            if moment < told or np.any(np.abs(velocity) > 1e-4):
                still_since = None
                continue
            still_since = moment if still_since is None else still_since
            if moment - still_since > 0.1:
                return still_since - told
        return float("inf")

    def close(self) -> None:
        for process in (self.process, self.cell):
            process.terminate()
        for process in (self.process, self.cell):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.client.close()
