"""The bridge node's parameters: one table for declaration, help text and checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from realdiff_sim_bridge.bridge.session import SessionSettings


@dataclass(frozen=True)
class Parameter:
    """A parameter of the node.

    Attributes:
        name: Its name.
        default: Its default; also gives the type.
        description: What it does.
        choices: Allowed values; empty if free.
        bounds: Lowest and highest value of a number.
    """

    name: str
    default: str | int | float
    description: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None


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
    Parameter("simulator", "mujoco", "simulator", ("mujoco",)),
)


def session_settings(values: dict[str, Any]) -> SessionSettings:
    """Turns parameter values (checked against `PARAMETERS` before) into a session's settings."""
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
    )


def help_text() -> str:
    """Describes all parameters, one a line."""
    lines = [
        "usage: ros2 run realdiff_sim_bridge sim_bridge [--ros-args -p NAME:=VALUE …]",
        "",
        "Simulates a Franka FR3 and a RealSense D435 behind the topics of their real drivers.",
        "",
        "parameters:",
    ]
    for item in PARAMETERS:
        choices = f" ({' | '.join(item.choices)})" if item.choices else ""
        lines.append(f"  {item.name:<18}{item.description}{choices} [{item.default}]")
    lines += [
        "",
        "examples:",
        "  ros2 run realdiff_sim_bridge sim_bridge --ros-args -p behaviour:=expert",
        "  ros2 launch realdiff sim.launch.py behaviour:=expert rate:=10.0",
        "  ros2 service call /sim_bridge/reset realdiff_msgs/srv/Reset '{seed: 7}'",
    ]
    return "\n".join(lines)
