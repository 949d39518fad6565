"""``ros2 run realdiff_enhancer pack_pairs``: pair folders of one camera in one file for training."""

from __future__ import annotations

from pathlib import Path

from realdiff_core.cli import parser, run_command

_EXAMPLES = """\
  ros2 run realdiff_enhancer pack_pairs pairs/lab -o packs/lab.npz
  ros2 run realdiff_enhancer pack_pairs pairs/lab pairs/office -o packs/both.npz --validation-windows 2
  ros2 run realdiff_enhancer pack_pairs PAIRS_WITHOUT_META -o packs/held_out.npz --camera d415"""


def run(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parser(
        "Pack folders of clean/noisy pairs into one compressed file, without loss.", _EXAMPLES, "pack_pairs"
    )
    arguments.add_argument("folders", nargs="+", type=Path, help="pair folders (see make_pairs), all of one camera")
    arguments.add_argument("-o", "--output", type=Path, required=True, help="the .npz file")
    arguments.add_argument("--camera", metavar="NAME", help="camera profile of folders without meta.yaml")
    arguments.add_argument("--licence", default="", help="licence of folders without meta.yaml")
    arguments.add_argument(
        "--validation-windows",
        type=int,
        default=1,
        metavar="N",
        help="the last N windows of each folder stay out of training (default: 1)",
    )
    arguments.add_argument(
        "--private-experiment",
        action="store_true",
        help="pack frames of held-out scenes too, marked as neither for shipping nor for reported results",
    )
    options = arguments.parse_args(argv)
    if options.validation_windows < 0:
        arguments.error("--validation-windows must not be negative")

    from realdiff_core.config import camera_profile

    from realdiff_enhancer.data.pair_folder import PairMeta, pack_pairs

    default = None
    if options.camera:
        profile = camera_profile(options.camera)
        default = PairMeta(
            source="unnamed", licence=options.licence, camera=profile.name, baseline_m=profile.baseline_m
        )
    pack, size = pack_pairs(
        options.folders,
        options.output,
        default=default,
        validation_windows=options.validation_windows,
        private=options.private_experiment,
    )
    kept_out = len(pack.validation_indices())
    print(f"{len(pack)} pairs ({kept_out} for validation), {size / 1e6:.1f} MB → {options.output}")
    return 0


def main() -> None:
    """Console entry point."""
    run_command(run)


if __name__ == "__main__":
    main()
