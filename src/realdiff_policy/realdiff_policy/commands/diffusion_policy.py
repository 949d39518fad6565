"""`ros2 run realdiff_policy diffusion_policy`: the inference node; `--help` lists its parameters."""

from __future__ import annotations

import sys
from typing import NoReturn

from realdiff_core.cli import run_command


def main(argv: list[str] | None = None) -> int:
    """Runs the node until it is stopped; returns the exit code."""
    arguments = sys.argv if argv is None else argv
    if "--help" in arguments or "-h" in arguments:
        from realdiff_policy.node_parameters import help_text

        print(help_text())
        return 0
    from realdiff_policy.node import main as spin

    spin(arguments)
    return 0


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
