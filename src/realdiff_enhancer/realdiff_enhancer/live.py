"""The node `depth_enhancer` as a process of its own, and a client that leads it; for the bench and the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from realdiff_core.ros_domain import free_domain

from realdiff_core import topics

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LiveClient", "LiveEnhancer"]


class LiveClient:
    """A client in a ROS domain of its own; use it as a context manager.

    Attributes:
        environment: For processes that are to be in the client's domain.
    """

    def __init__(self) -> None:
        """Chooses the domain."""
        self._domain = free_domain()
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(self._domain)}

    def __enter__(self) -> Self:
        """Starts the client."""
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self._domain)
        self.node = rclpy.create_node("live_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the client."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()

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
                raise TimeoutError(f"no node offers /depth_enhancer/{name}; is it running?")
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


class LiveEnhancer(LiveClient):
    """Starts the node, and a client beside it; use it as a context manager.

    Args:
        **parameters: Parameters of the node.

    Attributes:
        output: What the node has printed; known once it has ended.
    """

    def __init__(self, **parameters: object) -> None:
        """Remembers what to start."""
        super().__init__()
        self.output = ""
        self.parameters = parameters
        self._cameras: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """Starts node and client."""
        command = [sys.executable, "-m", "realdiff_enhancer.node", "--ros-args"]
        for name, value in self.parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Ends everything that was started; the client first.

        Fast DDS's shared memory may crash a participant that leaves after a sender was killed.
        """
        super().__exit__()
        for process in (*self._cameras, self.process):
            if process.poll() is None:
                process.kill()
            printed = process.communicate()[0]
            if process is self.process:
                self.output = printed or self.output

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
