"""``ros2 run realdiff_enhancer evaluate``: every model on held-out pairs, tables with intervals, pictures."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from realdiff_core.cli import parser, run_command
from realdiff_core.errors import ConfigError

from realdiff_enhancer.defaults import RESAMPLES
from realdiff_enhancer.models.registry import model_names

#: What is compared where --models is absent: all that needs no weights of the user's.
DEFAULT_MODELS = ("none", "gaussian", "perlin", "active_dr", "disparity", "two_stage")

_EXAMPLES = """\
  ros2 run realdiff_enhancer evaluate --pairs tron=pairs/tron ovni=pairs/ovni --seed 0 -o evaluation
  ros2 run realdiff_enhancer evaluate --pairs pairs/tron --models two_stage@1 two_stage@2 two_stage two_stage@50 \\
      -o steps
  ros2 run realdiff_enhancer evaluate --pairs pairs/tron --models two_stage seed1=two_stage e2e \\
      --weights seed1=runs/seed1/model e2e=runs/e2e/model -o seeds
  ros2 run realdiff_enhancer evaluate --pairs pairs/tron --models disparity two_stage --max-frames 12 -o quick
  ros2 run realdiff_enhancer evaluate --pairs pairs/tron:my_d435 --models two_stage --first 1128 -o second_half
  ros2 run realdiff_enhancer evaluate --pairs tron=pairs/tron --other-clean tron=my_pairs/tron -o floor

output:
  OUT/summary.md     tables with 95 % intervals     OUT/figures/SCENE_frames.png   depth and residual, every model
  OUT/results.csv    one number a row               OUT/figures/SCENE_curves.png   σ(z), holes, correlation, spectrum
  OUT/results.json   the same, with command, seed, split, hardware, hashes of weights and data

A scene is a folder with clean/NNNNNN.png (16 bit, 0.1 mm, 0 = unknown), noisy/NNNNNN.png (16 bit, 1 mm, 0 = hole) and
K.txt. Scenes are reported one by one, never pooled. A row depends on its own model alone: results.csv of several runs
with the same pairs and seed can be read side by side. What the numbers mean: docs/concepts/metrics.md."""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser(
        "Measure enhancer models against real depth on held-out clean/real pairs.", _EXAMPLES, "evaluate"
    )
    arguments.add_argument(
        "--pairs",
        nargs="+",
        required=True,
        metavar="[NAME=]DIR[:PROFILE]",
        help="scenes: a name for the tables (default: the folder's), the folder, and the camera profile that "
        "recorded it (default: --profile); the profile gives the stereo baseline and is the one the models imitate",
    )
    arguments.add_argument(
        "--models",
        nargs="+",
        default=DEFAULT_MODELS,
        metavar="[LABEL=]MODEL[@STEPS]",
        help="models in the order of the tables, with a label and sampling steps a stage of their own if need be "
        f"(default: {' '.join(DEFAULT_MODELS)}; known: {', '.join(model_names())})",
    )
    arguments.add_argument(
        "--other-clean",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="for the scene NAME, pairs of the same recording with clean depth made otherwise: adds the row "
        "other_clean, the camera's own error measured there and put on the scene's clean depth (a lower bound for any "
        "model); only frames that both have are used",
    )
    arguments.add_argument("--profile", default="d435", help="camera profile of scenes that name none (default: d435)")
    arguments.add_argument(
        "--weights",
        nargs="*",
        default=[],
        metavar="NAME=PATH",
        help="weights other than the shipped; NAME is a label, or a model for all its rows",
    )
    arguments.add_argument("--steps", type=int, help="sampling steps a stage where a model names none")
    arguments.add_argument(
        "--seed", type=int, default=0, help="seeds models, points, resamples, classifiers (default: 0)"
    )
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    arguments.add_argument("--first", type=int, metavar="NUMBER", help="leave out pairs with a smaller frame number")
    arguments.add_argument("--last", type=int, metavar="NUMBER", help="leave out pairs with a larger frame number")
    arguments.add_argument("--max-frames", type=int, metavar="N", help="use N frames a scene, evenly spread")
    arguments.add_argument(
        "--resamples", type=int, default=RESAMPLES, help="bootstrap resamples (default: %(default)s)"
    )
    arguments.add_argument(
        "--classifier-steps",
        type=int,
        metavar="N",
        help="training steps of the two-sample network per fold; 0 leaves it out (default: 250)",
    )
    arguments.add_argument(
        "--features",
        choices=("mobilenetv2", "none"),
        default="mobilenetv2",
        help="features of the Fréchet distance; none leaves it out (default: mobilenetv2)",
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    arguments.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    return arguments


def _check(options: argparse.Namespace) -> None:
    for name, value, least in (
        ("--steps", options.steps, 1),
        ("--max-frames", options.max_frames, 4),
        ("--resamples", options.resamples, 1),
        ("--seed", options.seed, 0),
        ("--classifier-steps", options.classifier_steps, 0),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{name} is too small", expected=f"≥ {least}", got=value)


def evaluate(options: argparse.Namespace, command: str) -> int:
    """Run the evaluation and write its results.

    Args:
        options: parsed arguments.
        command: the command line, for the results.

    Returns:
        Exit code.
    """
    from realdiff_enhancer.evaluation.model_arguments import parse_models
    from realdiff_enhancer.evaluation.other_clean import common_frames, parse_other_clean
    from realdiff_enhancer.evaluation.output import output_folder, run_description, write_results
    from realdiff_enhancer.evaluation.pairs import SceneArgument, load_scene, parse_scene, thinned
    from realdiff_enhancer.evaluation.runner import EvaluationSettings, evaluate_scene
    from realdiff_enhancer.metrics.two_sample import NETWORK_STEPS

    _check(options)
    rows = parse_models(options.models, options.weights)
    scenes = [
        load_scene(parse_scene(text, options.profile), first=options.first, last=options.last) for text in options.pairs
    ]
    if len({scene.name for scene in scenes}) < len(scenes):
        raise ConfigError("two scenes have the same name", where="--pairs", next_step="name them: NAME=DIR")
    device = torch_device(options.device)
    # Models are made before anything slow starts: a wrong name or missing weights show at once.
    models = [[row.create(scene.profile, options.steps, options.device) for row in rows] for scene in scenes]
    for name, folder in parse_other_clean(options.other_clean, [scene.name for scene in scenes]).items():
        index = [scene.name for scene in scenes].index(name)
        other = load_scene(SceneArgument(name, folder, scenes[index].profile.name))
        scenes[index], bound = common_frames(scenes[index], other, options.seed)
        models[index].insert(0, bound)
    scenes = [thinned(scene, options.max_frames) for scene in scenes]
    network_steps = NETWORK_STEPS if options.classifier_steps is None else options.classifier_steps
    settings = EvaluationSettings(options.seed, options.resamples, network_steps, device, options.features)
    with output_folder(options.output, options.overwrite) as folder:
        results = [
            evaluate_scene(scene, scene_models, settings, lambda text: print(text, file=sys.stderr, flush=True))
            for scene, scene_models in zip(scenes, models, strict=True)
        ]
        run = {
            **run_description(command, settings, options.steps),
            "first": options.first,
            "last": options.last,
            "models": [{**asdict(row), "weights": row.weights and str(row.weights)} for row in rows],
        }
        write_results(folder, results, run)
    print(options.output / "summary.md")
    return 0


def torch_device(name: str) -> str:
    """Name the torch device that ``auto`` means here."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Entry point."""

    def command() -> int:
        options = build_parser().parse_args()
        return evaluate(options, "ros2 run realdiff_enhancer evaluate " + shlex.join(sys.argv[1:]))

    run_command(command)


if __name__ == "__main__":
    main()
