"""Enhances a depth topic while it is played from a bag, or live.

ros2 launch realdiff enhance.launch.py bag:=episodes/can_to_plate_000000 model:=disparity
ros2 launch realdiff enhance.launch.py topic:=/camera/camera/depth/image_rect_raw
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, RegisterEventHandler, TimerAction
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

# name, default, description, choices, type of the node's parameter (None: not a parameter of the node)
ARGUMENTS = (
    ("bag", "", "bag to play beside the node; empty: enhance a live topic", None, None),
    ("rate", "1.0", "speed at which the bag is played", None, None),
    ("topic", "/camera/camera/depth/image_rect_raw", "clean depth image topic", None, None),
    ("output", "", "enhanced depth topic; empty: /realdiff and the input's name", None, None),
    ("model", "two_stage", "enhancer model", ["two_stage", "disparity", "perlin", "gaussian", "none"], str),
    ("profile", "d435", "camera profile (config/cameras)", None, str),
    ("weights", "", "folder of learned weights; empty: what ships for the profile", None, str),
    ("seed", "0", "seed of the noise", None, int),
    ("steps", "0", "sampling steps a stage; 0: the model's default", None, int),
    ("device", "auto", "where the model runs", ["auto", "cpu", "cuda"], str),
    ("queue_size", "30", "frames that may wait for the model", None, int),
    ("override_provenance", "false", "expert: enhance noisy or unknown depth as well", ["true", "false"], bool),
    ("use_sim_time", "false", "take time from /clock", ["true", "false"], bool),
)

#: Time for the last frames of a bag to pass through the node [s].
DRAIN_S = 3.0


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, default, description, choices, _ in ARGUMENTS
    ]
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, _, _, _, kind in ARGUMENTS
        if kind is not None
    }
    parameters["input_topic"] = ParameterValue(LaunchConfiguration("topic"), value_type=str)
    parameters["output_topic"] = ParameterValue(LaunchConfiguration("output"), value_type=str)
    node = LifecycleNode(
        package="realdiff_enhancer",
        executable="depth_enhancer",
        name="depth_enhancer",
        namespace="",
        output="screen",
        parameters=[parameters],
    )
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--rate", LaunchConfiguration("rate")],
        output="screen",
        condition=IfCondition(PythonExpression(["'", LaunchConfiguration("bag"), "' != ''"])),
    )

    def change(transition):
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    return LaunchDescription(
        [
            *arguments,
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[change(Transition.TRANSITION_ACTIVATE)],
                    handle_once=True,
                )
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    goal_state="unconfigured",
                    entities=[EmitEvent(event=Shutdown(reason="depth_enhancer could not be configured"))],
                )
            ),
            # The bag starts when the node first listens, and the launch ends when the bag has been played.
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node, goal_state="active", entities=[play], handle_once=True
                )
            ),
            RegisterEventHandler(
                OnProcessExit(
                    target_action=play,
                    on_exit=[
                        TimerAction(period=DRAIN_S, actions=[EmitEvent(event=Shutdown(reason="the bag was played"))])
                    ],
                )
            ),
            RegisterEventHandler(
                OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown(reason="depth_enhancer ended"))])
            ),
            node,
            change(Transition.TRANSITION_CONFIGURE),
        ]
    )
