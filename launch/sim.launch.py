"""Simulated FR3 and D435 behind the topics of their real drivers.

ros2 launch realdiff sim.launch.py
ros2 launch realdiff sim.launch.py behaviour:=expert rate:=10.0 width:=320 height:=240
"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

# name, default, description, choices, type
ARGUMENTS = (
    ("task", "can_to_plate", "task name (config/tasks), or the path of a task's .yaml file", None, str),
    ("seed", "0", "seed of the first reset", None, int),
    ("rate", "15.0", "camera frames per second of simulation time [Hz]", None, float),
    ("width", "0", "image width [px]; 0: as the camera's profile says", None, int),
    ("height", "0", "image height [px]; 0: as the camera's profile says", None, int),
    ("encoding", "16UC1", "depth encoding: millimetres as the driver, or metres", ["16UC1", "32FC1"], str),
    ("quality", "fast", "colour with or without shadows and smooth edges", ["fast", "good"], str),
    ("behaviour", "idle", "'expert' plays the task in a loop, 'idle' obeys commands", ["idle", "expert"], str),
    ("real_time_factor", "1.0", "simulation seconds per second; 0: as fast as the machine can", None, float),
    ("simulator", "mujoco", "simulator", ["mujoco"], str),
)


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, default, description, choices, _ in ARGUMENTS
    ]
    parameters = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, _, _, _, kind in ARGUMENTS}
    bridge = Node(
        package="realdiff_sim_bridge",
        executable="sim_bridge",
        name="sim_bridge",
        output="screen",
        parameters=[parameters],
    )
    return LaunchDescription([*arguments, bridge])
