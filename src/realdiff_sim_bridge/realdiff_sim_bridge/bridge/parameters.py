"""The bridge node's parameters, and what they say to a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from realdiff_core.node_parameters import Parameter, describe

if TYPE_CHECKING:
    from realdiff_sim_bridge.bridge.session import SessionSettings
    from realdiff_sim_bridge.randomisation import Level


_QOS = ("DEFAULT", "SYSTEM_DEFAULT", "SENSOR_DATA")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("task", "can_to_plate", "task name (config/tasks), or the path of a task's .yaml file"),
    Parameter("seed", 0, "seed of the first reset", bounds=(0, 2**62)),
    Parameter("rate", 15.0, "camera frames per second of simulation time [Hz]", bounds=(0.1, 100.0)),
    Parameter("width", 0, "image width [px]; 0: as the camera's profile says", bounds=(0, 4096)),
    Parameter("height", 0, "image height [px]; 0: as the camera's profile says", bounds=(0, 4096)),
    Parameter("encoding", "16UC1", "depth encoding: millimetres as the driver, or metres", ("16UC1", "32FC1")),
    Parameter("quality", "fast", "colour with or without shadows and smooth edges", ("fast", "good")),
    Parameter("behaviour", "idle", "'expert' plays the task in a loop, 'idle' obeys commands", ("idle", "expert")),
    Parameter(
        "real_time_factor", 1.0, "simulation seconds per second; 0: as fast as the machine can", bounds=(0.0, 100.0)
    ),
    Parameter("simulator", "mujoco", "simulator", ("mujoco", "isaac", "replay")),
    Parameter(
        "randomisation", "none", "what every reset varies beside the start poses: 'looks' moves the camera, too",
        ("none", "physics", "looks", "all"),
    ),
    Parameter("bag", "", "episode that the simulator 'replay' plays"),
    Parameter("depth_sensor", "clean", "rendered depth, or the simulated stereo camera's", ("clean", "stereo")),
    Parameter("gripper_name", "franka_gripper", "name of the gripper's node; MoveIt's configuration says fr3_gripper"),
    Parameter("arm_controller", "fr3_arm_controller", "name of the joint trajectory controller"),
    Parameter("color_qos", "DEFAULT", "reliability of the colour image, as the camera driver's parameter", _QOS),
    Parameter("depth_qos", "DEFAULT", "reliability of the depth images, as the camera driver's parameter", _QOS),
    Parameter("pointcloud.enable", False, "make coloured point clouds, as the camera driver's parameter"),
    Parameter("enable_rgbd", False, "publish RGBD messages, as the camera driver's parameter"),
    Parameter("collision_force", 60.0, "external force that is a reflex [N]; 0: none is", bounds=(0.0, 1e6)),
    Parameter("collision_torque", 40.0, "external joint torque that is a reflex [N·m]; 0: none is", bounds=(0.0, 1e6)),
    Parameter("constraints.goal_time", 0.0, "time to meet the goal tolerance [s]; 0: for ever", bounds=(0.0, 1e6)),
    Parameter(
        "constraints.stopped_velocity_tolerance", 0.01, "goal tolerance of the joints' speed [rad/s]; 0: off",
        bounds=(0.0, 1e3),
    ),
    Parameter("constraints.trajectory", 0.0, "path tolerance of all joints [rad]; 0: off", bounds=(0.0, 1e3)),
    Parameter("constraints.goal", 0.0, "goal tolerance of all joints [rad]; 0: off", bounds=(0.0, 1e3)),
    Parameter("allow_partial_joints_goal", False, "accept trajectories that name some of the joints only"),
    Parameter("allow_nonzero_velocity_at_trajectory_end", False, "accept trajectories that end in motion"),
)  # fmt: skip


def session_settings(values: dict[str, Any]) -> SessionSettings:
    """Turns parameter values (checked against `PARAMETERS` before) into a session's settings."""
    from realdiff_sim_bridge.bridge.arm_controller import ControllerSettings
    from realdiff_sim_bridge.bridge.robot import ReflexLimits
    from realdiff_sim_bridge.bridge.session import SessionSettings

    return SessionSettings(
        task=str(values["task"]),
        seed=int(values["seed"]),
        rate_hz=float(values["rate"]),
        width=int(values["width"]) or None,
        height=int(values["height"]) or None,
        encoding=cast(Literal["16UC1", "32FC1"], values["encoding"]),
        quality=cast(Literal["good", "fast"], values["quality"]),
        behaviour=cast(Literal["idle", "expert"], values["behaviour"]),
        simulator=str(values["simulator"]),
        randomisation=cast("Level", values["randomisation"]),
        bag=str(values["bag"]),
        sensor=cast(Literal["clean", "stereo"], values["depth_sensor"]),
        controller=ControllerSettings(
            allow_partial_joints_goal=bool(values["allow_partial_joints_goal"]),
            allow_nonzero_velocity_at_trajectory_end=bool(values["allow_nonzero_velocity_at_trajectory_end"]),
            goal_time=float(values["constraints.goal_time"]),
            stopped_velocity_tolerance=float(values["constraints.stopped_velocity_tolerance"]),
            trajectory=float(values["constraints.trajectory"]),
            goal=float(values["constraints.goal"]),
        ),
        arm_controller=str(values["arm_controller"]),
        reflex=ReflexLimits(float(values["collision_force"]), float(values["collision_torque"])),
        points=bool(values["pointcloud.enable"]),
        rgbd=bool(values["enable_rgbd"]),
    )


def help_text() -> str:
    """Describes all parameters, one a line."""
    lines = [
        "usage: ros2 run realdiff_sim_bridge sim_bridge [--ros-args -p NAME:=VALUE …]",
        "",
        "Simulates a Franka FR3 and a RealSense D435 behind the topics, services and actions of their real drivers.",
        "",
        "parameters:",
        *describe(PARAMETERS),
        "",
        "examples:",
        "  ros2 run realdiff_sim_bridge sim_bridge --ros-args -p behaviour:=expert",
        "  ros2 launch realdiff sim.launch.py behaviour:=expert rate:=10.0",
        "  ros2 launch realdiff sim.launch.py behaviour:=expert randomisation:=all",
        "  ros2 service call /sim_bridge/reset realdiff_msgs/srv/Reset '{seed: 7}'",
        "  ros2 service call /sim_bridge/set_depth_sensor realdiff_msgs/srv/SetDepthSensor '{sensor: stereo}'",
    ]
    return "\n".join(lines)
