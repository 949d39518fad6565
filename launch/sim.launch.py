"""Simulated FR3 and D435 behind the topics of their real drivers.

ros2 launch realdiff sim.launch.py
ros2 launch realdiff sim.launch.py behaviour:=expert rate:=10.0 width:=320 height:=240
"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from realdiff_sim_bridge.bridge.parameters import PARAMETERS

from launch import LaunchDescription


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def generate_launch_description():
    # The node's own table: an argument for each of its parameters.
    arguments = [
        DeclareLaunchArgument(
            item.name,
            default_value=_text(item.default),
            description=item.description,
            choices=list(item.choices) or None,
        )
        for item in PARAMETERS
    ]
    parameters = {
        item.name: ParameterValue(LaunchConfiguration(item.name), value_type=type(item.default)) for item in PARAMETERS
    }
    bridge = Node(
        package="realdiff_sim_bridge",
        executable="sim_bridge",
        name="sim_bridge",
        output="screen",
        parameters=[parameters],
    )
    return LaunchDescription([*arguments, bridge])
