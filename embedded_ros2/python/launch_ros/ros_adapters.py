"""The node that a launch itself has, for lifecycle nodes."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from launch.event_handlers import OnShutdown
from launch.launch_context import LaunchContext

if TYPE_CHECKING:
    from rclpy.node import Node


class ROSAdapter:
    """A node, spun in a thread."""

    def __init__(self) -> None:
        """Start it."""
        import rclpy
        import rclpy.context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        self.__rclpy = rclpy
        self.ros_context = rclpy.context.Context()
        # The launch handles signals; rclpy must not shut the node down under it.
        rclpy.init(args=[], context=self.ros_context, signal_handler_options=SignalHandlerOptions.NO)
        self.ros_node: Node = rclpy.create_node(f"launch_ros_{os.getpid()}", context=self.ros_context)
        self.__executor = SingleThreadedExecutor(context=self.ros_context)
        self.__executor.add_node(self.ros_node)
        self.__running = True
        self.__thread = threading.Thread(target=self.__spin, name="launch_ros", daemon=True)
        self.__thread.start()

    def __spin(self) -> None:
        while self.__running:
            self.__executor.spin_once(timeout_sec=0.2)

    def shutdown(self) -> None:
        """Stop it."""
        if not self.__running:
            return
        self.__running = False
        self.__executor.wake()
        self.__thread.join()
        self.__executor.shutdown()
        self.ros_node.destroy_node()
        self.__rclpy.shutdown(context=self.ros_context)


def get_ros_node(context: LaunchContext) -> Any:
    """Return the node of this launch; it is started when first asked for and ends with the launch."""
    if "ros_adapter" not in context.get_locals_as_dict():
        adapter = ROSAdapter()
        context.extend_globals({"ros_adapter": adapter})
        context.register_event_handler(OnShutdown(on_shutdown=lambda event, context: adapter.shutdown()))
    return context.locals.ros_adapter.ros_node
