"""Command line: the page of the assumptions A1 to A3, and of the noise over time."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from realdiff_core.cli import parser, run_command
from realdiff_core.errors import ConfigError

_EXAMPLES = """\
  ros2 run realdiff_enhancer statistics --pairs tron=pairs/tron:d435 --models none disparity two_stage -o statistics
  ros2 run realdiff_enhancer statistics --clip desk=STATIC_BAG:d435 --sigma-px 0.13 --models two_stage -o time
  ros2 run realdiff_enhancer statistics --clip desk=STATIC_BAG:d435 --models two_stage --fit-temporal -o time

output:
  OUT/statistics.md    A1 moments by depth, A2 KL, TV and bounds, A3 support, noise over time
  OUT/statistics.csv   one number a row              OUT/figures/SCENE_assumptions.png   curves

A scene is a folder of clean/noisy pairs as for `evaluate`; a clip is a bag or folder of frames of a camera at rest.
What the numbers mean: docs/guides/evaluate.md."""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser("Measure what learned noise rests on: paper 3.4, A1 to A3.", _EXAMPLES, "statistics")
    add = arguments.add_argument
    add("--pairs", nargs="+", default=[], metavar="[NAME=]DIR[:PROFILE]", help="scenes of clean/noisy pairs")
    add("--clip", nargs="+", default=[], metavar="[NAME=]CLIP[:PROFILE]", help="recordings of a camera at rest")
    form = "[LABEL=]MODEL[@STEPS]"
    add("--models", nargs="*", default=[], metavar=form, help="models to compare (default: the camera alone)")
    add(
        "--weights",
        nargs="*",
        default=[],
        metavar="NAME=PATH",
        help="weights other than the shipped, by label or model",
    )
    add("--steps", type=int, help="sampling steps a stage where a model names none")
    add("--profile", default="d435", help="camera profile where none is named (default: d435)")
    add("--sigma-px", type=float, metavar="PX", help="σ of the clips' whole error, px of disparity, from pairs")
    add("--fit-temporal", action="store_true", help="fit the models' settings over time to each clip")
    add("--focal", nargs=4, type=float, metavar="PX", help="fx fy cx cy of clips that are folders without intrinsics")
    add("--limit", type=int, metavar="N", help="read at most N frames of a clip")
    add("--seed", type=int, default=0, help="seeds models and resamples (default: 0)")
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add("--max-frames", type=int, metavar="N", help="use N pairs a scene, evenly spread")
    add("--resamples", type=int, default=500, help="bootstrap resamples (default: 500)")
    add("--overwrite", action="store_true", help="replace an earlier result")
    add("-o", "--output", type=Path, required=True, help="folder to write")
    return arguments


def statistics(options: argparse.Namespace, command: str) -> int:
    """Measure and write the page; returns the exit code."""
    from realdiff_core.config import camera_profile

    from realdiff_enhancer.commands.evaluate import torch_device
    from realdiff_enhancer.data.sequence import SequenceOptions, read_sequence
    from realdiff_enhancer.evaluation import statistics_page as page
    from realdiff_enhancer.evaluation.assumptions import measure_assumptions
    from realdiff_enhancer.evaluation.clips import measure_clip
    from realdiff_enhancer.evaluation.model_arguments import parse_models
    from realdiff_enhancer.evaluation.output import output_folder, run_description
    from realdiff_enhancer.evaluation.pairs import load_scene, parse_scene
    from realdiff_enhancer.evaluation.runner import EvaluationSettings
    from realdiff_enhancer.evaluation.temporal_fit import fit_temporal

    if not options.pairs and not options.clip:
        raise ConfigError("nothing to measure", expected="--pairs or --clip", next_step="name a scene or a clip")
    if options.fit_temporal and not (options.clip and options.models):
        raise ConfigError("nothing to fit", expected="--clip and --models", next_step="name a clip and a model")
    if options.sigma_px is not None and not options.sigma_px > 0:
        raise ConfigError("--sigma-px is too small", expected="> 0", got=options.sigma_px)
    for name, value, least in (("--resamples", options.resamples, 1), ("--max-frames", options.max_frames, 4)):
        if value is not None and value < least:
            raise ConfigError(f"{name} is too small", expected=f"≥ {least}", got=value)
    rows = parse_models(options.models, options.weights)
    scenes = [load_scene(parse_scene(text, options.profile), options.max_frames) for text in options.pairs]
    device = torch_device(options.device) if options.models else "cpu"
    settings = EvaluationSettings(options.seed, options.resamples, 0, device, "none")

    def models(profile_name: str) -> list:
        profile = camera_profile(profile_name)
        return [row.create(profile, options.steps, options.device) for row in rows]

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with output_folder(options.output, options.overwrite, marker="statistics.csv") as folder:
        results = [measure_assumptions(scene, models(scene.profile.name), settings, report) for scene in scenes]
        clips, fits = [], []
        for text in options.clip:
            argument = parse_scene(text, options.profile)
            profile = camera_profile(argument.profile)
            focal = tuple(options.focal) if options.focal else None
            reading = SequenceOptions(baseline_m=profile.baseline_m, focal=focal, limit=options.limit)
            report(f"{argument.name}: reading")
            sequence = read_sequence(argument.folder, reading)
            made = models(argument.profile)
            clips.append(
                measure_clip(argument.name, argument.folder, sequence, profile, made, options.sigma_px, options.seed)
            )
            if options.fit_temporal:
                fits += [fit_temporal(argument.name, sequence, profile, m, options.seed, report) for m in made]
        run = run_description(command, settings, options.steps)
        (folder / "statistics.md").write_text(page.markdown(results, clips, run, fits), encoding="utf-8")
        page.write_csv(folder / "statistics.csv", results, clips, fits)
        (folder / "figures").mkdir()
        for result in results:
            page.figure(folder / "figures" / f"{result.scene.name}_assumptions.png", result)
    print(options.output / "statistics.md")
    return 0


def main() -> None:
    """Entry point."""

    def command() -> int:
        options = build_parser().parse_args()
        return statistics(options, "ros2 run realdiff_enhancer statistics " + shlex.join(sys.argv[1:]))

    run_command(command)


if __name__ == "__main__":
    main()
