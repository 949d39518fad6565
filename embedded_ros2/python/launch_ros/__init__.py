"""A small stand-in for ROS 2's launch_ros, beside the launch of this directory.

It has the import names and the behaviour of launch_ros 0.26 (ROS 2 Jazzy) for the subset that
this project's launch files use.
"""

from launch._gaps import module_gaps

from . import actions, event_handlers, events, substitutions

__all__ = ["actions", "event_handlers", "events", "substitutions"]

__getattr__ = module_gaps("launch_ros", ("descriptions", "ros_adapters"))
