"""`ros2 run realdiff_sim_bridge recorder`: the node that records for others; `--help` lists its parameters."""

from __future__ import annotations

import sys
from typing import NoReturn

from realdiff_core.cli import run_command


def main(argv: list[str] | None = None) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    arguments = sys.argv if argv is None else argv
    if "--help" in arguments or "-h" in arguments:
        from realdiff_sim_bridge.recording.parameters import help_text

        print(help_text())
        return 0
    from realdiff_sim_bridge.recording.node import spin

    return spin(arguments)


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
