"""``ros2 run realdiff_sim_bridge validate_stereo``: the simulated stereo camera against real frames, on one page."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from realdiff_core.cli import parser, run_command
from realdiff_core.errors import ConfigError

_EXAMPLES = """\
  ros2 run realdiff_sim_bridge validate_stereo -o page.html --frames 40
  ros2 run realdiff_sim_bridge validate_stereo -o page.html --frames 40 --settings train --scenes robot
  ros2 run realdiff_sim_bridge validate_stereo -o page.html --reference pairs/office --static recordings/desk:30
"""


def run(argv: list[str] | None = None) -> int:
    """Parse the arguments, simulate, compare, write the page.

    Returns:
        Exit code.
    """
    arguments = parser(
        "Compare the simulated stereo camera with real frames: holes, errors, their correlation, temporal noise.",
        _EXAMPLES,
        prog="validate_stereo",
    )
    add = arguments.add_argument
    add("-o", "--output", type=Path, required=True, help="the page (.html); curves go beside it as .png and .csv")
    add("--frames", type=int, default=40, help="simulated pairs (default 40)")
    add("--settings", choices=("evaluation", "train"), default="evaluation", help="default: evaluation")
    add("--seed", type=int, default=0, help="of the simulated scenes (default 0)")
    add("--scenes", choices=("random", "robot"), default="random", help="rooms or the robot's cell (default: random)")
    add("--size", choices=("640x480", "848x480"), default="640x480", help="simulated image size (default: 640x480)")
    add(
        "--reference",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="real pairs: clean/, noisy/, K.txt; may be repeated",
    )
    add(
        "--static",
        action="append",
        default=[],
        metavar="FOLDER[:N]",
        help="depth images (16-bit PNG, mm) of a static camera, all or the first N; may be repeated",
    )
    add("--baseline", type=float, default=0.05, metavar="M", help="of references that name none (default 0.05)")
    add("--reference-frames", type=int, metavar="N", help="at most N frames of each reference (default: all)")
    options = arguments.parse_args(argv)
    if options.frames < 1:
        raise ConfigError("--frames must be positive", expected="1 or more", got=str(options.frames))
    if options.output.suffix != ".html":
        raise ConfigError("the page is an HTML file", expected="a name that ends in .html", got=options.output.name)
    for folder in [*options.reference, *(_split(text)[0] for text in options.static)]:
        if not folder.is_dir():
            raise ConfigError("the reference doesn't exist", where=str(folder), next_step="check the path")
    os.environ.setdefault("MUJOCO_GL", "egl")

    import csv

    from realdiff_sim_bridge.stereo.settings import load_ranges
    from realdiff_sim_bridge.stereo.validation import flat_walls, pair_folder, simulated, static_folder
    from realdiff_sim_bridge.stereo.validation_page import csv_rows, write_page

    ranges = load_ranges(options.settings)
    sources = [pair_folder(folder, options.baseline, options.reference_frames) for folder in options.reference]
    sources += [static_folder(*_split(text)) for text in options.static]
    own = simulated(ranges, frames=options.frames, seed=options.seed, kind=options.scenes, size=options.size)
    sources = [*own, *sources]
    walls = flat_walls(ranges, size=options.size)
    notes = {
        "command": shlex.join(["validate_stereo", *(argv if argv is not None else sys.argv[1:])]),
        "settings": f"{options.settings}, seed {options.seed}, {options.scenes} scenes, {options.size}",
        "sources": ", ".join(f"{source.name} ({len(source.frames)} {source.unit})" for source in sources),
    }
    picture = write_page(options.output, sources, walls, notes)
    with options.output.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(csv_rows(sources))
    print(f"{options.output}\n{picture}\n{options.output.with_suffix('.csv')}")
    return 0


def _split(text: str) -> tuple[Path, int | None]:
    """``FOLDER:N`` → folder and N."""
    found = re.fullmatch(r"(.+):(\d+)", text)
    return (Path(found[1]), int(found[2])) if found else (Path(text), None)


def entry() -> None:
    """Console entry point."""
    run_command(run)


if __name__ == "__main__":
    entry()
