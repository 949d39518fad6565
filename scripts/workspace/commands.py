"""The commands of `./run`: short names for long ones; all else is run as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from workspace.layout import Layout
from workspace.report import SetupError

HELP = """\
usage: ./run COMMAND [ARGUMENT…]

Sets up what is missing (system packages, virtual environment, colcon build), then runs COMMAND in the built workspace.

  ./run demo             record an episode, enhance it, play it through the node, write a report
  ./run test [ARGUMENT…] run the tests, all but the long ones; arguments are pytest's (-m slow: the long ones)
  ./run bench            measure bag, node and model rates; table on screen, build/bench/results.json
  ./run lint             ruff and mypy
  ./run setup            only set up
  ./run COMMAND …        anything else, e.g.
                           ./run ros2 launch realdiff sim.launch.py
                           ./run ros2 run realdiff_enhancer enhance IN -o OUT
                           ./run bash

With a ROS 2 sourced (ROS_DISTRO set, rclpy importable) that one is used, else the embedded one.
Environment: REALDIFF_PYTHON names the Python to use (3.10 to 3.13).
"""

_VERBS = {"demo": "realdiff_experiments", "bench": "realdiff_experiments"}


@dataclass(frozen=True)
class Command:
    """What takes over the process.

    Args:
        arguments: Program and arguments; the program is a path or looked up on PATH.
        folder: Working folder; the caller's if None.
        env: Variables to add.
    """

    arguments: list[str]
    folder: Path | None = None
    env: dict[str, str] = field(default_factory=dict)


def resolve(argv: list[str], layout: Layout) -> Command:
    """Returns what to run for the arguments of `./run`.

    Raises:
        SetupError: A verb of the workspace is not installed.
    """
    name, rest = argv[0], argv[1:]
    if name == "test":
        pytest = ["-m", "pytest", *rest] if rest else [str(layout.root / "scripts" / "test.py")]
        return Command([str(layout.python), *pytest], folder=layout.root)
    if name == "lint":
        return Command([str(layout.python), str(layout.root / "scripts" / "lint.py"), *rest], folder=layout.root)
    if name in _VERBS:
        package = _VERBS[name]
        program = layout.install / package / "lib" / package / name
        if not program.is_file():
            raise SetupError(f"{package} has no verb {name!r} (no {program}).", "./run ros2 pkg executables")
        return Command([str(program), *rest])
    return Command(argv)
