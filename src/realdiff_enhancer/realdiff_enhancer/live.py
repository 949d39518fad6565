"""The node `depth_enhancer` as a process of its own, and a client that leads it; for the bench and the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from realdiff_core.ros_domain import free_domain

from realdiff_core import topics

__all__ = ["LiveEnhancer"]


class LiveEnhancer:
    """Starts the node; use it as a context manager.

    Args:
        **parameters: Parameters of the node.

    Attributes:
        output: What the node has printed; known once it has ended.
    """

    def __init__(self, **parameters: object) -> None:
        """Remembers what to start, and chooses a ROS domain for everything that is started."""
        domain = free_domain()
        self.output = ""
        self.parameters = parameters
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        self._domain = domain
        self._cameras: list[subprocess.Popen[str]] = []

    def __enter__(self) -> LiveEnhancer:
        """Starts node and client."""
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        command = [sys.executable, "-m", "realdiff_enhancer.node", "--ros-args"]
        for name, value in self.parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self._domain)
        self.node = rclpy.create_node("live_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends everything that was started; the client first.

        Fast DDS's shared memory may crash a participant that leaves after a sender was killed.
        """
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()
        for process in (*self._cameras, self.process):
            if process.poll() is None:
                process.kill()
            printed = process.communicate()[0]
            if process is self.process:
                self.output = printed or self.output

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
        """Serves the client until a condition holds; returns whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def call(self, kind: Any, name: str, **fields: Any) -> Any:
        """Calls a service of the node.

        Raises:
            TimeoutError: No answer.
        """
        client = self.node.create_client(kind, f"/depth_enhancer/{name}")
        try:
            if not self.until(client.service_is_ready):
                raise TimeoutError(f"the node offers no {name}; is it running? exit code {self.process.poll()}")
            future = client.call_async(kind.Request(**fields))
            if not self.until(future.done):
                raise TimeoutError(f"the node doesn't answer {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change(self, transition: str) -> bool:
        """Asks for a lifecycle transition ("configure", "activate", …); returns whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        identifier = getattr(Transition, f"TRANSITION_{transition.upper()}")
        return bool(self.call(ChangeState, "change_state", transition=Transition(id=identifier)).success)

    def state(self) -> str:
        """Label of the lifecycle state."""
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, "get_state").current_state.label)

    def listen(self, kind: Any, topic: str, callback: Callable[[Any], None], **options: Any) -> None:
        """Subscribes the client.

        Args:
            kind: Message type.
            topic: Topic.
            callback: Called with each message.
            **options: `latched`, `best_effort` (bool); the rest goes to create_subscription.
        """
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

        qos = QoSProfile(depth=60)
        if options.pop("latched", False):
            qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
        if options.pop("best_effort", False):
            qos.reliability = QoSReliabilityPolicy.BEST_EFFORT
        self.node.create_subscription(kind, topic, callback, qos, **options)

    def camera(self, *arguments: object) -> subprocess.Popen[str]:
        """Starts `realdiff_enhancer.synthetic_camera` with these arguments."""
        command = [sys.executable, "-m", "realdiff_enhancer.synthetic_camera", *map(str, arguments)]
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._cameras.append(process)
        return process

    def interrupt(self) -> tuple[int, str]:
        """Sends SIGINT to the node; returns its exit code and what it printed."""
        self.process.send_signal(signal.SIGINT)
        self.output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, self.output

    @property
    def output_topic(self) -> str:
        """Where the node publishes enhanced depth if nothing else was asked for."""
        return topics.ENHANCED_PREFIX + str(self.parameters.get("input_topic", topics.DEPTH_IMAGE))
