"""Closes the loop: camera, robot, policy behind the safety gate, and one trial with its record.

ros2 launch realdiff deploy.launch.py task:=can_to_plate robot:=sim camera:=sim
ros2 launch realdiff deploy.launch.py task:=can_to_plate robot:=real camera:=real robot_ip:=172.16.0.2
ros2 launch realdiff deploy.launch.py robot:=real camera:=real robot_ip:=172.16.0.2 dry_run:=true rviz:=true
"""

import difflib
import json

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events import Shutdown, matches_action
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import Command, FindExecutable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition
from realdiff_policy.bundle_path import RECORD_FILE, find_bundle
from realdiff_policy.images import rendered_size

from launch import LaunchDescription

# name, default, description, choices
ARGUMENTS = (
    ("task", "can_to_plate", "task name (config/tasks)", None),
    ("robot", "sim", "the FR3 with franka_ros2, a simulated one, or the FR3 through libfranka", ["real", "sim", "fci"]),
    ("camera", "sim", "the RealSense D435 with its driver, or a simulated one", ["real", "sim"]),
    ("policy", "", "bundle: a folder, or the name of one that ships; empty: the task's", None),
    ("robot_ip", "", "host name or address of the robot (real, fci)", None),
    ("rviz", "false", "open RViz", ["true", "false"]),
    ("record", "true", "record the trial into a bag", ["true", "false"]),
    ("dry_run", "false", "do everything but command the robot", ["true", "false"]),
    ("trial", "true", "run one trial and end; otherwise hold the policy ready for its services", ["true", "false"]),
    ("seed", "0", "which of the scenes kept for trials (sim), and seed of the policy's sampler", None),
    ("time_limit", "0.0", "longest duration of the trial [s]; 0: the task's own", None),
    ("output", "trials", "folder for trials", None),
    ("device", "auto", "where the policy runs", ["auto", "cpu", "cuda"]),
    ("loader", "", "module:function that loads the bundle; empty: the usual one", None),
    ("command_mode", "topic", "how trajectories are sent to the arm's controller", ["topic", "action"]),
    ("gripper", "franka_gripper", "name of the gripper's node", None),
    ("ensemble", "newest", "newest chunk alone, or average of all that overlap", ["newest", "average"]),
    ("depth_sensor", "clean", "what the simulated depth camera is like", ["clean", "stereo"]),
    ("randomisation", "none", "what a simulated reset varies", ["none", "physics", "looks", "all"]),
    ("rate", "0.0", "simulated camera frames per second [Hz]; 0: twice the policy's rate", None),
    ("real_time_factor", "1.0", "simulated seconds per second; 0: as fast as the machine can", None),
    ("serial_no", "", "serial number of the RealSense; empty: the only one", None),
    ("color_profile", "640x480x30", "colour stream of the RealSense", None),
    ("depth_profile", "848x480x30", "depth stream of the RealSense", None),
)
NAMES = [name for name, *_ in ARGUMENTS]


def refuse_unknown(context):
    """Refuses arguments that don't exist, when this file is what was launched."""
    given = [argument.partition(":=")[0] for argument in context.argv if ":=" in argument]
    if set(context.launch_configurations) - set(given) - {"launch-prefix", "launch-prefix-filter"}:
        return []  # included by another launch file, whose arguments these may be
    for name in given:
        if name not in (*NAMES, "launch-prefix", "launch-prefix-filter"):
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
            raise RuntimeError(
                f"unknown argument '{name}': did you mean '{near}'? All arguments: "
                "ros2 launch realdiff deploy.launch.py --show-args"
            )
    return []


def compose(context):
    """Puts the graph together for the chosen robot and camera."""
    value = {name: LaunchConfiguration(name).perform(context) for name in NAMES}
    refuse_contradictions(value)
    bundle = value["policy"] or value["task"]
    contract = {}
    if not value["loader"]:
        bundle = str(find_bundle(bundle))
        contract = json.loads((find_bundle(bundle) / RECORD_FILE).read_text()).get("contract", {})
    simulated = value["robot"] == "sim"
    actions = []
    if simulated:
        actions.append(simulation(value, contract))
    if value["camera"] == "real":
        actions.append(realsense(value))
    if value["robot"] == "real":
        actions += franka(value)
    if value["robot"] == "fci":
        actions += [libfranka(value), description(simulated=False)]
    policy = policy_node(value, bundle, simulated)
    actions += [*managed(policy, start_trial(value, bundle) if value["trial"] == "true" else []), policy]
    actions += show(value, simulated)
    return actions


def refuse_contradictions(value):
    """Says what can't be, before anything starts."""
    if value["robot"] in ("real", "fci") and not value["robot_ip"]:
        raise RuntimeError(f"robot:={value['robot']} needs robot_ip:=ADDRESS")
    if value["robot"] != "sim" and value["camera"] == "sim":
        raise RuntimeError(
            f"camera:=sim shows the simulated robot, not the one of robot:={value['robot']}: use camera:=real"
        )
    if value["robot"] == "sim" and value["camera"] == "real":
        raise RuntimeError(
            "camera:=real doesn't see the simulated robot, and its clock is another: use camera:=sim, "
            "or robot:=real dry_run:=true"
        )


def simulation(value, contract):
    """Simulated robot and camera; images hardly larger than the policy sees, which saves most of the rendering."""
    colour, action = contract.get("colour", {}), contract.get("action", {})
    width, height = rendered_size(colour["width"], colour["height"]) if colour else (0, 0)
    rate = float(value["rate"]) or 2.0 * float(action.get("rate_hz", 7.5))
    return Node(
        package="realdiff_sim_bridge",
        executable="sim_bridge",
        name="sim_bridge",
        output="screen",
        parameters=[
            {
                "task": value["task"],
                "seed": int(value["seed"]),
                "rate": rate,
                "width": width,
                "height": height,
                "depth_sensor": value["depth_sensor"],
                "randomisation": value["randomisation"],
                "gripper_name": value["gripper"],
                "real_time_factor": float(value["real_time_factor"]),
            }
        ],
    )


def realsense(value):
    """The camera's own driver, with depth aligned to colour as policies expect it."""
    arguments = {
        "camera_name": "camera",
        "camera_namespace": "camera",
        "serial_no": f"'{value['serial_no']}'",
        "rgb_camera.color_profile": value["color_profile"],
        "depth_module.depth_profile": value["depth_profile"],
        "align_depth.enable": "true",
        "enable_sync": "true",
        "publish_tf": "true",
    }
    return included("realsense2_camera", "rs_launch.py", arguments)


def franka(value):
    """franka_ros2's bring-up with our controllers, and the spawner of the arm's."""
    controllers = PathJoinSubstitution(
        [FindPackageShare("realdiff"), "config", "controllers", "fr3_arm_controller.yaml"]
    )
    arguments = {
        "robot_type": "fr3",
        "robot_ip": value["robot_ip"],
        "load_gripper": "true",
        "use_fake_hardware": "false",
        "fake_sensor_commands": "false",
        "joint_state_rate": "100",
        "controllers_yaml": controllers,
    }
    spawner = Node(
        package="controller_manager",
        executable="spawner",
        arguments=["fr3_arm_controller", "--controller-manager-timeout", "60"],
        output="screen",
    )
    return [included("franka_bringup", "franka.launch.py", arguments), spawner]


def libfranka(value):
    """The FR3 through libfranka alone, behind the same topics and actions."""
    return Node(
        package="realdiff_policy",
        executable="fci_driver",
        name="fci_driver",
        output="screen",
        parameters=[{"robot_ip": value["robot_ip"], "gripper": value["gripper"]}],
    )


def included(package, file, arguments):
    """Another package's launch file, whose arguments stay its own.

    Nor does it see ours: rs_launch.py, too, has an `output`, and takes a folder for trials as the name of a log.
    """
    path = PathJoinSubstitution([FindPackageShare(package), "launch", file])
    source = PythonLaunchDescriptionSource(path)
    include = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
    return GroupAction([include], scoped=True, forwarding=False)


def policy_node(value, bundle, simulated):
    """The inference node."""
    parameters = {
        "bundle": bundle,
        "device": value["device"],
        "hardware": not simulated,
        "dry_run": value["dry_run"] == "true",
        "command_mode": value["command_mode"],
        "gripper": value["gripper"],
        "ensemble": value["ensemble"],
        "seed": int(value["seed"]),
        "autostart": False,
        "use_sim_time": simulated,
    }
    if value["robot"] == "fci":
        parameters["gripper_timeout_s"] = 3.0  # libfranka's hand tells nothing while it moves
    if value["loader"]:
        parameters["loader"] = value["loader"]
    return LifecycleNode(
        package="realdiff_policy",
        executable="diffusion_policy",
        name="diffusion_policy",
        namespace="",
        output="screen",
        parameters=[parameters],
    )


def managed(node, when_active):
    """Configures and activates the node, and ends the launch where that fails."""

    def change(transition):
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    def give_up(reason):
        return [EmitEvent(event=Shutdown(reason=reason))]

    return [
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
                start_state="configuring",
                goal_state="unconfigured",
                entities=give_up("the policy could not be loaded"),
            )
        ),
        # Once: who takes the policy down and up again by hand must not start a second trial or end the launch.
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, goal_state="active", entities=when_active, handle_once=True
            )
        ),
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=give_up("diffusion_policy ended"))),
        # Only once it runs can it be told to configure.
        RegisterEventHandler(OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])),
    ]


def start_trial(value, bundle):
    """One trial; the launch ends with it."""
    arguments = [
        *("--task", value["task"], "--policy", bundle.rstrip("/").rpartition("/")[2]),
        *("--robot", value["robot"], "--camera", value["camera"], "--seed", value["seed"]),
        *("--time-limit", value["time_limit"], "--output", value["output"]),
    ]
    if value["record"] != "true":
        arguments.append("--no-record")
    trial = Node(package="realdiff_policy", executable="trial", name="trial", output="screen", arguments=arguments)
    ended = OnProcessExit(target_action=trial, on_exit=[EmitEvent(event=Shutdown(reason="the trial has ended"))])
    return [RegisterEventHandler(ended), trial]


def show(value, simulated):
    """RViz with model, camera, predicted path and workspace."""
    if value["rviz"] != "true":
        return []
    config = PathJoinSubstitution([FindPackageShare("realdiff"), "config", "rviz", "deploy.rviz"])
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["--display-config", config],
        parameters=[{"use_sim_time": simulated}],
    )
    # On hardware the description is there already; the simulation publishes frames, but no description.
    return [description(simulated, tf="/robot_state_publisher/"), rviz] if simulated else [rviz]


def description(simulated, tf="/"):
    """The robot's description, and its frames under names that begin with `tf`."""
    model = PathJoinSubstitution([FindPackageShare("franka_description"), "robots", "fr3", "fr3.urdf.xacro"])
    urdf = Command([FindExecutable(name="xacro"), " ", model, " hand:=true"])
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(urdf, value_type=str), "use_sim_time": simulated}],
        remappings=[("/tf", f"{tf}tf"), ("/tf_static", f"{tf}tf_static")],
    )


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, default, description, choices in ARGUMENTS
    ]
    return LaunchDescription([OpaqueFunction(function=refuse_unknown), *arguments, OpaqueFunction(function=compose)])
