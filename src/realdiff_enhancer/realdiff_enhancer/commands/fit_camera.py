"""Command line: fit a camera profile on a recording of one's own camera."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

from realdiff_enhancer.defaults import CLEAN_FAR_M, FIT_BATCH, FIT_CROP, FIT_STEPS, VOXEL_M

_EXAMPLES = """\
  ros2 run realdiff_enhancer fit_camera RAW_BAG --name my_d435
  ros2 run realdiff_enhancer fit_camera RAW_BAG --name my_d435 --time-limit-s 600
  ros2 run realdiff_enhancer fit_camera FRAMES --name bench_d415 --base d415 --static --far 1
  ros2 run realdiff_enhancer make_pairs RAW_BAG -o pairs/desk
  ros2 run realdiff_enhancer fit_camera pairs/desk --name desk_d435
  ros2 run realdiff_enhancer enhance episodes -o enhanced --profile my_d435

output, in ~/.config/realdiff (XDG_CONFIG_HOME is honoured) or --folder:
  cameras/NAME.yaml     the profile      weights/two_stage_NAME/   the model      cards/NAME.html   before and after

How to record: docs/guides/fit_camera.md. Pairs from make_pairs can be looked at first and fitted on another machine."""

#: Options that only concern how pairs are made of a recording, by their name in the parsed arguments.
_OF_RECORDINGS = {
    "static": "--static or --moving",
    "topic": "--topic",
    "first": "--first",
    "last": "--last",
    "limit": "--limit",
    "far": "--far",
    "voxel": "--voxel",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser("Fit a camera profile on a raw recording of your own camera.", _EXAMPLES, "fit_camera")
    add = arguments.add_argument
    add(
        "source",
        metavar="SOURCE",
        type=Path,
        help="bag with raw depth, folder of depth frames, or folder of pairs that make_pairs wrote",
    )
    add("--name", required=True, help="name of the new profile")
    add("--base", metavar="PROFILE", help="profile of the camera's kind (default: what pairs say of theirs, or d435)")
    add(
        "--steps",
        type=int,
        default=FIT_STEPS,
        metavar="N",
        help="optimiser steps of the fine stage (default: %(default)s)",
    )
    add("--time-limit-s", type=float, metavar="S", help="take as many steps as fit into S seconds, at most --steps")
    add("--weights", type=Path, metavar="DIR", help="model to start from (default: the shipped one)")
    add("--batch", type=int, default=FIT_BATCH, metavar="N", help="crops a step (default: %(default)s)")
    add(
        "--crop",
        type=int,
        nargs=2,
        default=FIT_CROP,
        metavar=("H", "W"),
        help=f"of the crops, px (default: {FIT_CROP[0]} {FIT_CROP[1]})",
    )
    add("--seed", type=int, default=0, help="of training and comparison (default: 0)")
    add("--folder", type=Path, help="configuration folder to write to (default: ~/.config/realdiff)")
    add("--overwrite", action="store_true", help="replace an earlier fit of this name")
    group = arguments.add_argument_group("how pairs are made of a recording")
    add = group.add_argument
    add("--static", action="store_true", default=None, help="the camera is at rest (default: find out)")
    add("--moving", action="store_false", dest="static", help="the camera moves")
    add("--topic", metavar="NAME", help="depth topic of a bag (default: its only one)")
    add("--first", type=int, metavar="NUMBER", help="first frame number of a folder")
    add("--last", type=int, metavar="NUMBER", help="last frame number of a folder")
    add("--limit", type=int, metavar="N", help="read at most N frames")
    add("--far", type=float, metavar="M", help=f"clean depth ends here (default: {CLEAN_FAR_M})")
    add("--voxel", type=float, metavar="M", help=f"side of a voxel (default: {VOXEL_M})")
    return arguments


def fit_camera(options: argparse.Namespace, command: str) -> int:
    """Fit and save; returns the exit code."""
    from realdiff_core.config import camera_profile, user_config_folder
    from realdiff_core.errors import ConfigError

    from realdiff_enhancer.data.pair_folder import is_pair_folder
    from realdiff_enhancer.data.sequence import SequenceOptions
    from realdiff_enhancer.evaluation.fit_page import fit_page
    from realdiff_enhancer.fitting import FitOptions, check_name, fit, save_profile

    for name in ("steps", "batch", "time_limit_s", "far", "voxel"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} is too small", expected="> 0", got=value)
    given = is_pair_folder(options.source)
    _check_given(options, given)
    folder = options.folder or user_config_folder()
    check_name(options.name, folder, options.overwrite)
    base = camera_profile(options.base or (_camera(options.source) if given else "d435"))
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
        far_m=CLEAN_FAR_M if options.far is None else options.far,
        voxel_m=VOXEL_M if options.voxel is None else options.voxel,
    )
    work = Path(tempfile.mkdtemp(prefix="realdiff-fit-"))
    with ExitStack() as unfinished:
        unfinished.callback(_keep, work, options.name)
        with progress("pairs" if given else "clean depth", None) as bar:
            result = fit(options.source, reading, settings, work, _print, bar.advance)
        saved = save_profile(result, fit_page(result, command), folder, options.overwrite)
        unfinished.pop_all()
    shutil.rmtree(work, ignore_errors=True)
    print(f"profile: {saved}\ncard: {folder / 'cards' / f'{options.name}.html'}")
    print(f"use it: ros2 run realdiff_enhancer enhance BAG -o OUT --profile {options.name}")
    return 0


def _check_given(options: argparse.Namespace, given: bool) -> None:
    """Refuse options on how pairs are made where they are made already."""
    from realdiff_core.errors import ConfigError

    useless = [text for name, text in _OF_RECORDINGS.items() if getattr(options, name) is not None]
    if given and useless:
        raise ConfigError(
            "the pairs are made already, so this would have no effect",
            where=options.source,
            got=", ".join(useless),
            next_step="leave it out, or give it to make_pairs and make the pairs again",
        )


def _keep(work: Path, name: str) -> None:
    """Say where the work of a failed or interrupted fit lies and how to go on; remove it where nothing can."""
    from realdiff_enhancer.fitting_pairs import MIN_PAIRS

    pairs, run = work / "pairs", work / "run"
    made = len(list((pairs / "noisy").glob("*.png")))
    begun = [*run.glob("*/*.safetensors")]
    lines = []
    if made >= MIN_PAIRS:
        lines.append(f"{made} pairs; to fit them: ros2 run realdiff_enhancer fit_camera {pairs} --name {name}")
    if (run / "model").is_dir():
        lines.append(
            f"fitted model; to use it: ros2 run realdiff_enhancer enhance BAG -o OUT --weights {run / 'model'}"
        )
    elif begun:
        from realdiff_enhancer.two_stage.training import CONFIG_NAME

        again = f"ros2 run realdiff_enhancer train --config {run / CONFIG_NAME} -o {run}"
        lines.append(f"unfinished training; to go on with it: {again}")
    if not lines:
        shutil.rmtree(work, ignore_errors=True)
        return
    _print("\n  ".join((f"kept in {work} (remove it when it isn't needed any more):", *lines)))


def _camera(folder: Path) -> str:
    from realdiff_enhancer.data.pair_folder import PairMeta, read_meta

    return read_meta(folder, PairMeta(source="", camera="d435", baseline_m=1.0)).camera


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
