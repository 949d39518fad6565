#!/usr/bin/env python3
"""Lifecycle node for the tests."""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import Node, State, TransitionCallbackReturn


class Worker(Node):
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        print("configured", flush=True)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        print("activated", flush=True)
        return super().on_activate(state)


def main() -> None:
    rclpy.init()
    try:
        node = Worker("worker")
        # Not rclpy.spin(): its wait without a limit now and then sleeps through SIGTERM.
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=0.2)
        print("worker leaves", flush=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        print("worker leaves", flush=True)


if __name__ == "__main__":
    main()
