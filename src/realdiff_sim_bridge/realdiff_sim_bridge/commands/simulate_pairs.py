"""``ros2 run realdiff_sim_bridge simulate_pairs``: clean/noisy depth pairs from simulated scenes and stereo camera."""

from __future__ import annotations

import os
from pathlib import Path

from realdiff_core.cli import parser, run_command
from realdiff_core.errors import ConfigError

_EXAMPLES = """\
  ros2 run realdiff_sim_bridge simulate_pairs -o pairs --frames 500 --seed 0
  ros2 run realdiff_sim_bridge simulate_pairs -o pairs --frames 500 --seed 0 --pack pairs.npz
  ros2 run realdiff_sim_bridge simulate_pairs -o held_out --frames 40 --settings evaluation --purpose evaluation
"""


def run(argv: list[str] | None = None) -> int:
    """Parse the arguments and simulate.

    Returns:
        Exit code.
    """
    arguments = parser(
        "Simulate pairs of clean and measured depth (an active-stereo camera in random scenes). Run again to continue.",
        _EXAMPLES,
        prog="simulate_pairs",
    )
    arguments.add_argument("-o", "--output", type=Path, required=True, help="folder of the pairs")
    arguments.add_argument("--frames", type=int, default=100, help="how many pairs in all (default 100)")
    arguments.add_argument("--seed", type=int, default=0, help="the same seed gives the same pairs (default 0)")
    arguments.add_argument(
        "--settings", default="train", help="train, evaluation or a YAML file of ranges (default train)"
    )
    arguments.add_argument(
        "--purpose",
        choices=("training", "evaluation"),
        default="training",
        help="what the pairs are for; evaluation settings are refused for training (default training)",
    )
    arguments.add_argument(
        "--size", choices=("640x480", "848x480"), default="640x480", help="image size (default 640x480)"
    )
    arguments.add_argument(
        "--pack", type=Path, metavar="FILE.npz", help="also pack the folder into one compressed file"
    )
    arguments.add_argument(
        "--pack-parts",
        type=int,
        default=1,
        metavar="N",
        help="spread the frames over N files: FILE_1.npz … FILE_N.npz (default 1)",
    )
    arguments.add_argument(
        "--pack-step",
        type=float,
        default=0.02,
        metavar="PX",
        help="clean depth in the packed file is rounded to steps of this disparity; 0: not rounded (default 0.02)",
    )
    arguments.add_argument(
        "--scenes",
        choices=("random", "robot"),
        default="random",
        help="random rooms, or the robot's cell (default random)",
    )
    options = arguments.parse_args(argv)
    if options.frames < 1:
        raise ConfigError("--frames must be positive", expected="1 or more", got=str(options.frames))
    if options.pack_parts < 1:
        raise ConfigError("--pack-parts must be positive", expected="1 or more", got=str(options.pack_parts))
    if options.seed < 0:
        raise ConfigError("--seed must not be negative", expected="0 or more", got=str(options.seed))
    os.environ.setdefault("MUJOCO_GL", "egl")

    from realdiff_sim_bridge.stereo.settings import load_ranges, require_trainable

    ranges = load_ranges(options.settings)
    if options.purpose == "training":
        require_trainable(ranges)  # before the slow imports

    from realdiff_sim_bridge.stereo.pairs import pack_pairs, simulate_pairs

    made = simulate_pairs(
        options.output,
        options.frames,
        ranges,
        seed=options.seed,
        size=options.size,
        purpose=options.purpose,
        kind=options.scenes,
    )
    print(f"{made} new pairs, {options.frames} in all: {options.output}")
    for part in range(options.pack_parts if options.pack else 0):
        path = options.pack
        if options.pack_parts > 1:
            path = path.with_name(f"{path.stem}_{part + 1}{path.suffix}")
        size = pack_pairs(options.output, path, clean_step_px=options.pack_step, part=part, parts=options.pack_parts)
        print(f"packed: {path} ({size / 1e6:.1f} MB)")
    return 0


def entry() -> None:
    """Console entry point."""
    run_command(run)


if __name__ == "__main__":
    entry()
