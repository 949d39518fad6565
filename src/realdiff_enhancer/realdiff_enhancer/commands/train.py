"""``ros2 run realdiff_enhancer train``: train the two-stage depth diffusion on clean/noisy pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

from realdiff_core.cli import run_command

_EXAMPLES = """examples:
  ros2 run realdiff_enhancer train --config config/enhancer/two_stage.yaml -o runs/d435
  ros2 run realdiff_enhancer train --config config/enhancer/two_stage.yaml -o runs/short fine_steps=500 batch=16
  ros2 run realdiff_enhancer train --config base.yaml --config mine.yaml -o runs/mine --seed 1 --time-limit-s 540
  torchrun --nproc-per-node 2 -m realdiff_enhancer.commands.train --config config/enhancer/two_stage.yaml -o runs/d435

The same command continues a run that was stopped or killed. The trained model is OUTPUT/model; curves: tensorboard
--logdir OUTPUT/curves. Every key of the settings can be overridden: key=value, or model.guidance.sigma_px=8.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Train the two-stage depth diffusion on clean/noisy pairs: coarse, fine, distilled.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, required=True, action="append", metavar="YAML", help="training settings; later ones win"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="run folder; continued where it exists")
    parser.add_argument("--seed", type=int, help="seed of weights, batches and noise (default: the configuration's)")
    parser.add_argument(
        "--time-limit-s", type=float, metavar="S", help="stop after S seconds with a checkpoint (exit code 3)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over those of the files")
    return parser


#: Exit code of a run that its time limit or a signal ended before it was finished.
EXIT_UNFINISHED = 3


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    from realdiff_core.layers import load_layers

    from realdiff_enhancer.two_stage.training import TrainConfig, train_run

    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    config = load_layers(arguments.config, TrainConfig, overrides)
    result = train_run(config, arguments.output, report=_print, time_limit_s=arguments.time_limit_s)
    if not result.finished:
        return EXIT_UNFINISHED
    _print(f"trained model: {result.model}")
    _print(f"use it: ros2 run realdiff_enhancer enhance BAG -o OUT --weights {result.model}")
    return 0


def _print(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Entry point of `ros2 run realdiff_enhancer train`."""
    arguments = build_parser().parse_intermixed_args()
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    main()
