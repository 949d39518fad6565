"""Command line: train the two-stage model on packs of clean/noisy pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

from realdiff_core.cli import run_command

_EXAMPLES = """examples:
  ros2 run realdiff_enhancer train --config config/enhancer/two_stage.yaml -o runs/d435
  ros2 run realdiff_enhancer train --config my_camera.yaml -o runs/mine --seed 1
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="train",
        description="Train the two-stage depth diffusion (coarse, then fine) on clean/noisy pairs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="training settings (YAML)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the trained model; must not exist")
    parser.add_argument("--seed", type=int, help="seed of weights, batches and noise (default: the configuration's)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Trains and writes the model folder, beside its final name first."""
    from realdiff_core.config import load_yaml
    from realdiff_core.errors import OutputError

    output: Path = arguments.output
    if output.exists():
        raise OutputError(
            "output exists",
            where=str(output),
            expected="a new folder",
            got="an existing one",
            next_step="choose another -o, or remove the old folder",
        )
    from realdiff_enhancer.two_stage.training import TrainConfig, train

    config = load_yaml(arguments.config, TrainConfig)
    if arguments.seed is not None:
        config = config.model_copy(update={"seed": arguments.seed})
    partial = output.with_name(f".{output.name}.partial")
    train(config, partial)
    partial.rename(output)
    print(f"trained model: {output}\nuse it: ros2 run realdiff_enhancer enhance BAG -o OUT --weights {output}")
    return 0


def main() -> None:
    """Entry point of `ros2 run realdiff_enhancer train`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    main()
