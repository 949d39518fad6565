"""Shared by the tests of the node: processes on a ROS domain, and a client of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from realdiff_core.processes import start_bound

HERE = Path(__file__).parent


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
