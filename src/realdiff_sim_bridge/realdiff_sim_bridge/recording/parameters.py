"""The recorder node's parameters, and the plan that they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realdiff_core.errors import ConfigError
from realdiff_core.node_parameters import Parameter, describe

if TYPE_CHECKING:
    from realdiff_sim_bridge.recording.plan import RecordingPlan
    from realdiff_sim_bridge.tasks import Task

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("workers", 1, "processes that record at the same time; one a core is right", bounds=(1, 1024)),
    Parameter("ray", "", "address of a Ray cluster for the workers (auto: the one on this machine); empty: no Ray"),
    Parameter("rate", 10.0, "camera frames per second of simulation time [Hz]", bounds=(0.1, 100.0)),
    Parameter("width", 0, "image width [px]; 0: as the camera's profile says", bounds=(0, 4096)),
    Parameter("height", 0, "image height [px]; 0: as the camera's profile says", bounds=(0, 4096)),
    Parameter("encoding", "16UC1", "depth encoding: millimetres as the driver, or metres", ("16UC1", "32FC1")),
    Parameter("storage", "mcap", "bag storage", ("mcap", "sqlite3")),
    Parameter("compression", "none", "bag compression", ("none", "zstd")),
    Parameter(
        "quality", "auto", "colour with or without shadows and smooth edges; auto: fast up to 480 px wide, else good",
        ("auto", "good", "fast"),
    ),
    Parameter("randomisation", "all", "what varies beside the start poses", ("none", "physics", "looks", "all")),
    Parameter(
        "disturbance", 0.0, "pushes the arm off its way while it demonstrates [rad]; 0.03 is about 15 mm of the hand",
        bounds=(0.0, 0.2),
    ),
    Parameter("clock", False, "record /clock as well"),
)  # fmt: skip


def recording_plan(values: dict[str, Any], task: Task) -> RecordingPlan:
    """Makes a plan of parameter values (checked against `PARAMETERS` before).

    Raises:
        ConfigError: They contradict each other.
    """
    from realdiff_sim_bridge.recording.plan import RecordingPlan, Settings, default_quality

    width, height = int(values["width"]) or None, int(values["height"]) or None
    if (width is None) != (height is None):
        raise ConfigError("width and height belong together", expected="both or neither", got=f"{width} × {height}")
    settings = Settings(
        rate_hz=float(values["rate"]),
        width=width,
        height=height,
        encoding=values["encoding"],
        quality=default_quality(width) if values["quality"] == "auto" else values["quality"],
        clock=bool(values["clock"]),
        randomisation=values["randomisation"],
        disturbance_rad=float(values["disturbance"]),
    )
    return RecordingPlan(task, settings, values["storage"], values["compression"])


def help_text() -> str:
    """Describes the node and all parameters."""
    lines = [
        "usage: ros2 run realdiff_sim_bridge recorder [--ros-args -p NAME:=VALUE …]",
        "",
        "Serves the action /recorder/record_episodes (realdiff_msgs/action/RecordEpisodes): what",
        "`ros2 run realdiff_sim_bridge record` does, for other nodes. One recording at a time.",
        "",
        "parameters:",
        *describe(PARAMETERS),
        "",
        "examples:",
        "  ros2 run realdiff_sim_bridge recorder --ros-args -p workers:=2 -p width:=320 -p height:=240",
        "  ros2 action send_goal --feedback /recorder/record_episodes realdiff_msgs/action/RecordEpisodes \\",
        "      '{task: can_to_plate, output: data, episodes: 900, seed: 0}'",
    ]
    return "\n".join(lines)
