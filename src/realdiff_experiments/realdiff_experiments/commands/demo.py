"""`./run demo`: the product's main job on real code paths, with a report at the end."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from realdiff_core.cli import parser, run_command

_EXAMPLES = """\
  ./run demo
  ./run demo -o /tmp/demo --seed 3 --steps 12
"""

_SOURCE_TREE_DATA = Path("../shared/data")


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser(
        "Record an episode in simulation, enhance it, play it through the live node, write an HTML report.",
        _EXAMPLES,
        "demo",
    )
    add = arguments.add_argument
    add("-o", "--output", type=Path, default=Path("build/demo"), help="folder (default: build/demo)")
    add("--seed", type=int, default=0, help="seed of scene and noise (default: 0)")
    add("--rate", type=float, default=3.0, metavar="HZ", help="camera frames a second in the recording (default: 3)")
    add("--model", default="two_stage", help="enhancer model (default: two_stage)")
    add("--no-trial", action="store_true", help="leave out the policy's trial")
    add("--steps", type=int, metavar="N", help="sampling steps a stage (default: the model's)")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs the demonstration."""
    options = build_parser().parse_args(argv)
    from realdiff_experiments.demo import DemoSettings, run_demo
    from realdiff_experiments.demo_report import write_report

    started = time.monotonic()
    data = Path(os.environ.get("REALDIFF_SHARED_DATA", _SOURCE_TREE_DATA))
    settings = DemoSettings(
        output=options.output.resolve(),
        seed=options.seed,
        rate_hz=options.rate,
        model=options.model,
        steps=options.steps,
        real_data=data.resolve() if data.is_dir() else None,
        trial=not options.no_trial,
    )
    result = run_demo(settings, lambda text: print(f"demo: {text}", flush=True))
    report = write_report(settings, result)
    live = result.live
    print(f"demo: live node: {live.received} of {live.sent} frames, {live.identical} identical to the bag enhancer's")
    if result.trial is not None:
        print(f"demo: trial of the policy: {result.trial.record['outcome']}")
    print(f"demo: done in {time.monotonic() - started:.0f} s; open {report}")
    return 0


def cli() -> None:
    """Entry point of `ros2 run realdiff_experiments demo`."""
    run_command(main)


if __name__ == "__main__":
    cli()
