"""The ROS context of this package's nodes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.signals import SignalHandlerOptions


@contextmanager
def ros_context(arguments: list[str]) -> Iterator[threading.Event]:
    """Initialises ROS 2 and shuts it down at the end; SIGINT and SIGTERM set the event that it gives.

    rclpy's own handlers would shut the context down in the middle of a step or a recording; so that may end first.

    Args:
        arguments: Command line with ROS arguments.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        rclpy.try_shutdown()
