"""Parameters of the node `diffusion_policy`: one table for declaration, description, type and range.

Most are the settings of run time and watch themselves, so that no default is written twice.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from realdiff_core.contract import CONTROLLER_MANAGER, ERROR_RECOVERY, ROBOT_STATE
from realdiff_core.errors import ConfigError
from realdiff_core.node_parameters import Parameter, describe
from realdiff_core.topics import JOINT_STATES, PROVENANCE

from realdiff_policy.runtime.process import DEFAULT_LOADER
from realdiff_policy.runtime.settings import RuntimeSettings
from realdiff_policy.safety.watch import WatchSettings

DEFAULT_LEAD_S = 0.04
"""A trajectory of a hundred points reaches the controller well within this time, also on two busy cores."""

_NOT_OFFERED = ("latency_s",)
"""Settings that make sense in lockstep only."""


def _of_model(model: type[BaseModel], **defaults: Any) -> tuple[Parameter, ...]:
    parameters = []
    for name, field in model.model_fields.items():
        if name in _NOT_OFFERED:
            continue
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        unit = " [s]" if name.endswith("_s") else " [rad]" if name.endswith("_rad") else ""
        text = f"{field.description or name}{unit}"
        parameters.append(Parameter(name, defaults.get(name, field.default), text, tuple(choices)))
    return tuple(parameters)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("bundle", "", "policy bundle: a folder written by `ros2 run realdiff_policy export`"),
    Parameter("device", "auto", "where the policy runs", ("auto", "cpu", "cuda")),
    Parameter("loader", DEFAULT_LOADER, "module:function that loads a bundle; for policies of your own"),
    Parameter("robot", "fr3", "robot cell: name in config/robots, or the path of a .yaml file"),
    Parameter("robot_description_topic", "/robot_description", "the URDF, whose joint limits count; empty: robot's"),
    Parameter("hardware", False, "robot or camera are real: depth must be the raw camera's"),
    Parameter("override_provenance", False, "expert: accept depth that this policy should not see here"),
    Parameter("dry_run", False, "do everything but command the robot"),
    Parameter("command_mode", "topic", "how trajectories are sent to the arm's controller", ("topic", "action")),
    Parameter("arm_controller", "fr3_arm_controller", "name of the joint trajectory controller"),
    Parameter("gripper", "franka_gripper", "name of the gripper's node; MoveIt's configuration says fr3_gripper"),
    Parameter("color_topic", "", "colour images; empty: the bundle's"),
    Parameter("depth_topic", "", "depth images registered to colour; empty: the bundle's"),
    Parameter("joint_states_topic", JOINT_STATES, "joint states of the arm"),
    Parameter("robot_state_topic", ROBOT_STATE, "franka_msgs/FrankaRobotState; empty: none"),
    Parameter("provenance_topic", PROVENANCE, "latched provenance of the depth topics"),
    Parameter("error_recovery", ERROR_RECOVERY, "action that clears a reflex"),
    Parameter("controller_manager", CONTROLLER_MANAGER, "ros2_control's controller manager"),
    Parameter("autostart", True, "begin as soon as the node is active; otherwise wait for the service ~/start"),
    *_of_model(RuntimeSettings, lead_s=DEFAULT_LEAD_S),
    *_of_model(WatchSettings),
)


def settings_from(values: dict[str, Any]) -> tuple[RuntimeSettings, WatchSettings]:
    """Makes the settings of run time and watch from parameter values.

    Raises:
        ConfigError: A value is out of its range.
    """
    return _validated(RuntimeSettings, values), _validated(WatchSettings, values)


def _validated(model: Any, values: dict[str, Any]) -> Any:
    try:
        return model(**{name: values[name] for name in model.model_fields if name in values})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ConfigError(
            f"parameter {name} is wrong",
            expected=first["msg"],
            got=repr(first["input"]),
            next_step=f"{name}: {model.model_fields[name].description}",
        ) from error


def help_text() -> str:
    """Describes all parameters, one a line."""
    lines = [
        "usage: ros2 run realdiff_policy diffusion_policy [--ros-args -p NAME:=VALUE …]",
        "",
        "Runs a policy bundle behind the safety gate: camera and joints in, trajectories and gripper actions out.",
        "",
        "parameters:",
        *describe(PARAMETERS),
        "",
        "examples:",
        "  ros2 launch realdiff deploy.launch.py task:=can_to_plate robot:=sim camera:=sim",
        "  ros2 run realdiff_policy diffusion_policy --ros-args -p bundle:=bundles/can_to_plate -p dry_run:=true",
    ]
    return "\n".join(lines)
