"""Shared by the tests of the whole graph: a bridge as a real process, and a client node that speaks to it over DDS."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from realdiff_core.contract import contract
from realdiff_core.graph import StreamTally
from realdiff_core.processes import start_bound
from realdiff_core.ros_domain import free_domain


def start_bridge(*parameters: str, domain: int | None = None) -> subprocess.Popen:
    """Starts a bridge with parameters "name:=value", on a ROS domain of its own."""
    return start_node("sim_bridge", *parameters, domain=domain)


def start_node(name: str, *parameters: str, domain: int | None = None) -> subprocess.Popen:
    """Starts one of the package's nodes by its command's name; it ends with this process, even if that is killed."""
    command = [sys.executable, "-m", f"realdiff_sim_bridge.commands.{name}", "--ros-args"]
    for parameter in parameters:
        command += ["-p", parameter]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(free_domain() if domain is None else domain)}
    return start_bound(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


class Client:
    """A node that listens to all topics of the contract and calls services and actions.

    Attributes:
        node: The rclpy node.
        received: Messages by topic.
        process: The bridge.
        domain: The ROS domain of both.
        log: Lines that the bridge has printed.
    """

    def __init__(self, process: subprocess.Popen, table: Any, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
        from realdiff_sim_bridge.bridge.ros_messages import message_class

        self.process = process
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(process.stdout), daemon=True).start()
        self.domain = domain
        self.context = rclpy.Context()
        self.context.init(domain_id=domain)
        # A name of its own: of two nodes of one name in a process, the second takes the first's log publisher with it.
        self.node = rclpy.create_node(f"test_client_{domain}", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received: dict[str, list] = {}
        self.tallies: dict[str, StreamTally] = {}
        for topic in table.topics:
            if topic.direction == "subscribed":
                continue
            qos = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
            if topic.reliability == "reliable":
                qos.reliability = QoSReliabilityPolicy.RELIABLE
            if topic.durability == "transient_local":
                qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
            messages, tally = (
                self.received.setdefault(topic.name, []),
                self.tallies.setdefault(topic.name, StreamTally()),
            )

            def hear(message: Any, messages: list = messages, tally: StreamTally = tally) -> None:
                messages.append(message)
                tally.add(message, time.monotonic_ns())

            self.node.create_subscription(message_class(topic.msgtype), topic.name, hear, qos)

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Spins until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, "".join(self.log)
            assert time.monotonic() < deadline, "nothing came in time\n" + "".join(self.log)
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, kind: Any, name: str, /, **fields: Any) -> Any:
        """Calls a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def send(self, kind: Any, name: str, goal: Any, feedback: list | None = None) -> Any:
        """Sends a goal; returns its handle, accepted or not."""
        from rclpy.action import ActionClient

        client = ActionClient(self.node, kind, name)
        self.until(client.server_is_ready)
        sent = client.send_goal_async(
            goal, feedback_callback=None if feedback is None else lambda message: feedback.append(message.feedback)
        )
        self.until(sent.done)
        return sent.result()

    def act(self, kind: Any, name: str, goal: Any, feedback: list | None = None) -> Any:
        """Sends a goal and waits for its outcome (status and result)."""
        handle = self.send(kind, name, goal, feedback)
        assert handle.accepted
        outcome = handle.get_result_async()
        self.until(outcome.done)
        return outcome.result()

    def close(self) -> None:
        """Leaves the graph, then ends the process.

        In this order: Fast DDS's shared memory may crash a participant that leaves after a sender was killed.
        """
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()
        self.process.kill()
        self.process.wait()


@contextmanager
def running_bridge(*parameters: str, **names: Any) -> Iterator[Client]:
    """A bridge and a client that hears it.

    Args:
        *parameters: Of the bridge.
        **names: Of the contract, see `realdiff_core.contract.contract`.
    """
    from realdiff_core import topics

    domain = free_domain()
    process = start_bridge(*parameters, domain=domain)
    client = Client(process, contract(**names), domain)
    try:
        client.until(lambda: len(client.received[topics.CLOCK]) >= 4)
        yield client
    finally:
        client.close()
