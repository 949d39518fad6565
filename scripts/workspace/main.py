"""`./run`: brings the workspace up to date, then becomes the command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from workspace import colcon, environment, python_env, system
from workspace.commands import HELP, resolve
from workspace.layout import Layout, locked
from workspace.report import SetupError, note
from workspace.ros import sourced_rclpy, without_checkout


def prepare(layout: Layout, env: Mapping[str, str], rclpy: Path | None) -> dict[str, str]:
    """Sets up what is missing, and only that.

    Args:
        layout: The checkout.
        env: The caller's environment without entries of the checkout.
        rclpy: Where a sourced ROS 2 has rclpy, if there is one.

    Returns:
        The environment in which commands run.

    Raises:
        SetupError: Something is missing and can't be installed from here.
    """
    no_rendering = system.missing_rendering(env)
    if no_rendering:
        system.install_rendering(
            no_rendering, stamp=layout.state / "no_rendering", log=layout.state / "apt.log", env=env
        )
    target = colcon.wanted(layout, env)
    if not python_env.is_up_to_date(layout) or colcon.outdated(layout, target):
        with locked(layout.root / ".run.lock"):
            _set_up(layout, env, rclpy)
    if not layout.sourced:
        from embedded_ros2.shared_memory import remove_orphans

        remove_orphans()
    return environment.complete(layout, environment.base(layout, env), list(colcon.packages(layout, env)))


def _set_up(layout: Layout, env: Mapping[str, str], rclpy: Path | None) -> None:
    """Does the work, with the lock held; another ./run may have done some of it meanwhile."""
    if not layout.sourced:
        python_env.check_platform()
    fresh = python_env.is_up_to_date(layout)
    interpreter = python_env.choose_interpreter(layout, env, rclpy)
    missing = system.missing_for_build(interpreter, env, new_venv=not python_env.is_kept(layout, interpreter))
    system.install(missing, log=layout.state / "apt.log", env=env)
    if not fresh:
        python_env.update(layout, interpreter, env)
    target = colcon.wanted(layout, env)
    if colcon.outdated(layout, target):
        colcon.build(layout, environment.base(layout, env), target)


def main(argv: list[str], *, python: str) -> int:
    """Runs `./run`.

    Args:
        argv: What follows `./run`.
        python: The interpreter that the shell script found.

    Returns:
        The exit status, where no command took over the process: 0 help or set-up done, 3 something is missing,
        127 no such command, 130 interrupted.
    """
    del python  # named on the command line so that a process list tells which one runs
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if argv else 2
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))
    env = without_checkout(os.environ, root)
    rclpy = sourced_rclpy(env, root)
    layout = Layout(root, sourced=rclpy is not None)
    try:
        ready = prepare(layout, env, rclpy)
        if argv[0] == "setup":
            note("ready")
            return 0
        command = resolve(argv, layout)
    except SetupError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(
            f"run: {error}\n  next: make that path writable and readable (or free disk space), then ./run again",
            file=sys.stderr,
        )
        return 3
    except KeyboardInterrupt:
        print("\nrun: interrupted; ./run goes on where it stopped", file=sys.stderr)
        return 130
    program = shutil.which(command.arguments[0], path=ready["PATH"])
    if program is None:
        print(f"run: no command {command.arguments[0]!r}.\n  next: ./run --help", file=sys.stderr)
        return 127
    if command.folder:
        os.chdir(command.folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, [command.arguments[0], *command.arguments[1:]], {**ready, **command.env})
