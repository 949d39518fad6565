"""A small node of its own for commands: calls services and actions and waits for them, with limits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from realdiff_core.errors import RealdiffError

SERVICE_TIMEOUT_S = 15.0


class Client:
    """A node that waits without ever blocking for good.

    Args:
        name: Its name.
        use_sim_time: Take time from /clock.
    """

    def __init__(self, name: str, *, use_sim_time: bool = False) -> None:
        """Opens it; rclpy must have been initialised."""
        overrides = [Parameter("use_sim_time", Parameter.Type.BOOL, use_sim_time)]
        self.node = rclpy.create_node(name, parameter_overrides=overrides)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.stopped = threading.Event()

    def spin_once(self) -> None:
        """Serves what has come.

        Raises:
            KeyboardInterrupt: The user has asked for an end.
        """
        if self.stopped.is_set():
            raise KeyboardInterrupt
        self._executor.spin_once(timeout_sec=0.05)

    def wait_for(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Waits until a condition gives something true, and returns that.

        Raises:
            RealdiffError: It didn't in time.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise RealdiffError(
                    f"{what}: nothing within {timeout_s:g} s", next_step="is the robot's side running? ros2 node list"
                )
            self.spin_once()
        return value

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = SERVICE_TIMEOUT_S) -> Any:
        """Calls a service and returns its answer."""
        client = self.node.create_client(kind, name)
        try:
            self.wait_for(client.service_is_ready, timeout_s, f"service {name}")
            future = client.call_async(request)
            self.wait_for(future.done, timeout_s, f"answer of {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def close(self) -> None:
        """Closes the node."""
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def client(name: str, *, use_sim_time: bool = False) -> Iterator[Client]:
    """Initialises ROS, opens a `Client` that Ctrl-C and SIGTERM stop, and closes both at the end."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    opened: Client | None = None
    try:
        opened = Client(name, use_sim_time=use_sim_time)
        stop = opened.stopped.set
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop())
        yield opened
    finally:
        if opened is not None:
            opened.close()
        rclpy.try_shutdown()
