"""``ros2 run realdiff_enhancer enhance``: bag in, bag out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.cli import parser, progress, run_command

from realdiff_enhancer.models.registry import DEFAULT_MODEL, model_descriptions, model_names

if TYPE_CHECKING:
    from realdiff_core.worker_pool import Workers

    from realdiff_enhancer.bag_farm import EnhancePlan

_EXAMPLES = """\
  ros2 run realdiff_enhancer enhance episodes/episode_000000 -o enhanced
  ros2 run realdiff_enhancer enhance episodes -o enhanced --model disparity --draws 4
  ros2 run realdiff_enhancer enhance episodes -o /shared/enhanced --ray 10.0.0.5:6379 --workers 64
  ros2 run realdiff_enhancer enhance big_bag -o enhanced --steps 4 --resume

OUT is a bag where IN is a bag, a folder of bags where IN is one. Several draws write OUT/draw_000, OUT/draw_001, …
A run that was interrupted is continued with --resume; the result is the same to the byte.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    models = "; ".join(f"{name}: {description}" for name, description in model_descriptions().items())
    arguments = parser(
        "Make the clean depth of recorded episodes look like a real camera's. Every depth topic is enhanced, "
        "everything else is kept byte for byte.",
        _EXAMPLES,
        "enhance",
    )
    add = arguments.add_argument
    add("input", metavar="IN", type=Path, help="bag (mcap or sqlite3), or folder of bags")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="bag or folder to make")
    add("--model", choices=model_names(), default=DEFAULT_MODEL, help=f"{models} (default: {DEFAULT_MODEL})")
    add("--profile", default="d435", help="camera whose noise is imitated: name or YAML file (default: d435)")
    add("--weights", type=Path, help="folder of learned weights, or parameter file of an analytic model")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add("--steps", type=int, metavar="N", help="sampling steps a stage, for models that sample")
    add("--draws", type=int, default=1, metavar="K", help="write K differently seeded outputs in one pass (default: 1)")
    add("--topics", nargs="+", default=[], metavar="TOPIC", help="depth topics (default: all of the bag)")
    add(
        "--batch",
        type=int,
        default=8,
        metavar="N",
        help="frames at once, a GPU may take more; never changes the result (default: 8)",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="bags enhanced at the same time; never changes the result (default: one a core, or one a GPU)",
    )
    add("--ray", metavar="ADDRESS", help="let the workers run on the Ray cluster there (auto: the one on this machine)")
    add("--device", default="auto", help="auto, cpu, openvino, cuda or cuda-compiled (default: auto)")
    add("--storage", choices=("mcap", "sqlite3"), help="storage of the output (default: as the input)")
    add("--compression", choices=("none", "zstd"), default="none", help="compression of the output (default: none)")
    add("--resume", action="store_true", help="continue an interrupted run; leave outputs that are complete")
    add("--overwrite", action="store_true", help="replace outputs that exist, forget an interrupted run")
    add(
        "--override-provenance",
        action="store_true",
        help="for experts: enhance depth that carries noise already, or whose origin is unknown",
    )
    return arguments


def _workers(arguments: argparse.Namespace, plan: EnhancePlan, bags: int) -> Workers | None:
    """The workers that are asked for; None where this process does it by itself."""
    from realdiff_core.errors import ConfigError

    from realdiff_enhancer.bag_farm import local_workers

    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError("--workers is too small", expected="≥ 1", got=arguments.workers)
    if arguments.ray is None:
        return local_workers(plan, bags, arguments.workers)
    from realdiff_core.ray_workers import RayWorkers

    return RayWorkers(plan, arguments.ray, arguments.workers, gpus=1.0 if arguments.device.startswith("cuda") else 0.0)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = build_parser().parse_args(argv)
    from realdiff_core.config import camera_profile

    from realdiff_enhancer.bag_enhancer import count_frames, enhance, output_paths
    from realdiff_enhancer.bag_farm import EnhancePlan, enhance_folder
    from realdiff_enhancer.job import EnhanceOptions
    from realdiff_enhancer.memory import keep_freed_memory
    from realdiff_enhancer.models.registry import create_model

    keep_freed_memory()
    options = EnhanceOptions(
        model=arguments.model,
        seed=arguments.seed,
        steps=arguments.steps,
        draws=arguments.draws,
        topics=tuple(arguments.topics),
        batch=arguments.batch,
        storage=arguments.storage,
        compression=arguments.compression,
        override_provenance=arguments.override_provenance,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    profile = camera_profile(arguments.profile)
    # Cheap checks first: loading a model takes seconds.
    bags = output_paths(arguments.input, arguments.output, options.draws)
    frames = sum(count_frames(bag, options) for bag, _ in bags)
    plan = EnhancePlan(options.model, profile, options.steps, arguments.device, arguments.weights)
    workers = _workers(arguments, plan, len(bags))
    if workers is not None:
        with progress(f"enhance ({options.model}, {workers.size} workers)", len(bags), "bags") as bar:
            result = enhance_folder(arguments.input, arguments.output, workers, options, lambda _: bar.advance(1))
    else:
        model = create_model(
            options.model, profile=profile, steps=options.steps, device=arguments.device, weights=arguments.weights
        )
        with progress(f"enhance ({options.model})", frames) as bar:
            result = enhance(arguments.input, arguments.output, model, profile, options, bar.advance)
    speed = result.frames / result.seconds if result.seconds else 0.0
    parts = [f"{result.frames} frames in {result.seconds:.1f} s ({speed:.1f} frames/s)"]
    if result.resumed:
        parts.append(f"{result.resumed} of them from the interrupted run")
    if result.skipped:
        parts.append(f"{result.skipped} outputs were complete already")
    print(f"{', '.join(parts)} -> {arguments.output}")
    return 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_enhancer enhance``."""
    run_command(main)


if __name__ == "__main__":
    cli()
