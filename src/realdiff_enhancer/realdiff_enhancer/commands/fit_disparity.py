"""``ros2 run realdiff_enhancer fit_disparity``: the noise model without learning, measured on pairs of a camera."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

_EXAMPLES = """\
  ros2 run realdiff_enhancer make_pairs RAW_BAG -o pairs/desk
  ros2 run realdiff_enhancer pack_pairs pairs/desk -o packs/desk.npz
  ros2 run realdiff_enhancer fit_disparity packs/desk.npz -o disparity_desk.yaml
  ros2 run realdiff_enhancer enhance episodes -o enhanced --model disparity --weights disparity_desk.yaml
  ros2 run realdiff_enhancer evaluate --pairs pairs/other --models desk=disparity disparity \\
      --weights desk=disparity_desk.yaml -o evaluation"""


def run(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parser(
        "Measure the parameters of the model `disparity` on the training pairs of packs. Takes seconds, and no GPU.",
        _EXAMPLES,
        "fit_disparity",
    )
    add = arguments.add_argument
    add("packs", nargs="+", type=Path, metavar="PACK", help="packs of pairs of one camera (see pack_pairs)")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the parameters, YAML")
    add("--profile", default="d435", metavar="NAME", help="camera profile of the pairs (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    options = arguments.parse_args(argv)

    import yaml
    from realdiff_core.config import camera_profile
    from realdiff_core.errors import OutputError

    from realdiff_enhancer.data.pairs import PairPack, refuse_other_baseline
    from realdiff_enhancer.data.splits import refuse_held_out
    from realdiff_enhancer.disparity_fitting import fit_disparity
    from realdiff_enhancer.models.disparity import DisparityModel, DisparityParameters
    from realdiff_enhancer.models.parameters import load_parameters

    output: Path = options.output
    if output.exists() and not options.overwrite:
        raise OutputError("output exists already", where=output, next_step="choose another name, or add --overwrite")
    profile = camera_profile(options.profile)
    packs = []
    for path in options.packs:
        pack = PairPack.load(path)
        refuse_held_out(pack, where=path)
        refuse_other_baseline(
            pack.baseline_m,
            profile.baseline_m,
            whose=f"the camera profile {profile.name!r}",
            where=path,
            next_step="name the camera's profile with --profile",
        )
        packs.append(pack)
    start = load_parameters(DisparityParameters, DisparityModel.name, profile)
    total = sum(len(pack.training_indices()) for pack in packs)
    with progress("measuring", total, "pairs") as bar:
        fitted = fit_disparity(packs, start, profile, lambda: bar.advance(1))
    command = shlex.join(["fit_disparity", *(argv if argv is not None else sys.argv[1:])])
    sources = ", ".join(dict.fromkeys(pack.source for pack in packs))
    head = f"# Measured by `ros2 run realdiff_enhancer {command}`\n# on {total} pairs of {sources}\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(head + yaml.safe_dump(fitted.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    partial.replace(output)
    for name, value in fitted.model_dump().items():
        before = getattr(start, name)
        if value != before:
            print(f"{name}: {before} → {value}")
    if DisparityModel.name in profile.noise:
        print(f"note: what the profile {profile.name!r} says under noise.disparity goes before this file")
    use = f"enhance BAG -o OUT --model disparity --weights {output} --profile {options.profile}"
    print(f"use it: ros2 run realdiff_enhancer {use}")
    return 0


def main() -> None:
    """Console entry point."""
    run_command(run)


if __name__ == "__main__":
    main()
