"""Command line: fit a camera profile on a recording of one's own camera."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

_EXAMPLES = """\
  ros2 run realdiff_enhancer fit_camera RAW_BAG --name my_d435
  ros2 run realdiff_enhancer fit_camera RAW_BAG --name my_d435 --time-limit-s 600
  ros2 run realdiff_enhancer fit_camera FRAMES --name bench_d415 --base d415 --static --far 1
  ros2 run realdiff_enhancer enhance episodes -o enhanced --profile my_d435

output, in ~/.config/realdiff (XDG_CONFIG_HOME is honoured) or --folder:
  cameras/NAME.yaml     the profile      weights/two_stage_NAME/   the model      cards/NAME.html   before and after

How to record: docs/guides/fit_camera.md."""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser("Fit a camera profile on a raw recording of your own camera.", _EXAMPLES, "fit_camera")
    add = arguments.add_argument
    add("source", metavar="RAW_BAG", type=Path, help="bag with raw depth, or folder of depth frames")
    add("--name", required=True, help="name of the new profile")
    add("--base", default="d435", metavar="PROFILE", help="profile of the camera's kind (default: d435)")
    add("--steps", type=int, default=1500, metavar="N", help="optimiser steps of the fine stage (default: 1500)")
    add("--time-limit-s", type=float, metavar="S", help="take as many steps as fit into S seconds, at most --steps")
    add("--static", action="store_true", default=None, help="the camera is at rest (default: find out)")
    add("--moving", action="store_false", dest="static", help="the camera moves")
    add("--weights", type=Path, metavar="DIR", help="model to start from (default: the shipped one)")
    add("--topic", metavar="NAME", help="depth topic of a bag (default: its only one)")
    add("--first", type=int, metavar="NUMBER", help="first frame number of a folder")
    add("--last", type=int, metavar="NUMBER", help="last frame number of a folder")
    add("--limit", type=int, metavar="N", help="read at most N frames")
    add("--far", type=float, default=2.6, metavar="M", help="clean depth ends here (default: 2.6)")
    add("--voxel", type=float, default=0.006, metavar="M", help="side of a voxel (default: 0.006)")
    add("--batch", type=int, default=16, metavar="N", help="crops a step (default: 16)")
    add("--crop", type=int, nargs=2, default=(352, 480), metavar=("H", "W"), help="of the crops, px (default: 352 480)")
    add("--seed", type=int, default=0, help="of training and comparison (default: 0)")
    add("--folder", type=Path, help="configuration folder to write to (default: ~/.config/realdiff)")
    add("--overwrite", action="store_true", help="replace an earlier fit of this name")
    return arguments


def fit_camera(options: argparse.Namespace, command: str) -> int:
    """Fit and save; returns the exit code."""
    from realdiff_core.config import camera_profile, user_config_folder
    from realdiff_core.errors import ConfigError

    from realdiff_enhancer.data.sequence import SequenceOptions
    from realdiff_enhancer.evaluation.fit_page import fit_page
    from realdiff_enhancer.fitting import FitOptions, check_name, fit, save_profile

    for name, value in (
        ("--steps", options.steps),
        ("--batch", options.batch),
        ("--time-limit-s", options.time_limit_s),
    ):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} is too small", expected="> 0", got=value)
    folder = options.folder or user_config_folder()
    check_name(options.name, folder, options.overwrite)
    base = camera_profile(options.base)
    reading = SequenceOptions(
        baseline_m=base.baseline_m, topic=options.topic, first=options.first, last=options.last, limit=options.limit
    )
    settings = FitOptions(
        name=options.name,
        base=base,
        steps=options.steps,
        time_limit_s=options.time_limit_s,
        static=options.static,
        initial=options.weights,
        batch=options.batch,
        crop=tuple(options.crop),
        seed=options.seed,
        far_m=options.far,
        voxel_m=options.voxel,
    )
    work = Path(tempfile.mkdtemp(prefix="realdiff-fit-"))
    try:
        with progress("clean depth", None) as bar:
            result = fit(options.source, reading, settings, work, _print, bar.advance)
        saved = save_profile(result, fit_page(result, command), folder, options.overwrite)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"profile: {saved}\ncard: {folder / 'cards' / f'{options.name}.html'}")
    print(f"use it: ros2 run realdiff_enhancer enhance BAG -o OUT --profile {options.name}")
    return 0


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Entry point."""

    def run() -> int:
        command = "ros2 run realdiff_enhancer fit_camera " + shlex.join(sys.argv[1:])
        return fit_camera(build_parser().parse_args(), command)

    run_command(run)


if __name__ == "__main__":
    main()
