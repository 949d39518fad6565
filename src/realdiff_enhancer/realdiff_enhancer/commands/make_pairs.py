"""``ros2 run realdiff_enhancer make_pairs``: clean/noisy depth pairs from a real camera moving in a static scene."""

from __future__ import annotations

import argparse
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

from realdiff_enhancer.defaults import CLEAN_FAR_M, PAIR_WINDOW, VOXEL_M

_EXAMPLES = """\
  ros2 run realdiff_enhancer make_pairs RAW_BAG -o pairs/office
  ros2 run realdiff_enhancer make_pairs FRAMES -o pairs/lab --fx 384 --fy 384 --cx 320 --cy 240 --licence MIT
  ros2 run realdiff_enhancer make_pairs RAW_BAG -o pairs/bench --static
  ros2 run realdiff_enhancer make_pairs cleargrasp/real-val/d435 -o pairs/glass
  ros2 run realdiff_enhancer make_pairs recorded_data/20250601_1200 --sensor realsense_455 -o pairs/byte --camera d435
  ros2 run realdiff_enhancer make_pairs FRAMES -o pairs/table --camera d415 --voxel 0.003 --far 1 --window 24 --step 12

The clean depth of a frame is fused from the frames around it, never from itself; frames whose residual speaks of bad
registration are left out and listed in rejected.csv. The next step is pack_pairs, or fit_camera.

output:
  DIR/clean/NNNNNN.png   16 bit, 0.1 mm, 0 = unknown      DIR/pairs.csv, rejected.csv   figures of every frame
  DIR/noisy/NNNNNN.png   16 bit, 1 mm, 0 = hole           DIR/K.txt, meta.yaml          camera and origin
  DIR/colour/NNNNNN.png  with --colour, on the pixels of the depth"""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser(
        "Make clean/noisy depth pairs from depth frames of a camera moving in a static scene.", _EXAMPLES, "make_pairs"
    )
    add = arguments.add_argument
    add("source", type=Path, help="bag, or folder of depth images")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to make")
    add("--camera", default="d435", metavar="NAME", help="camera profile, for the stereo baseline (default: d435)")
    add(
        "--static",
        action="store_true",
        help="the camera is at rest: fuse over time (moving things are taken out); otherwise its motion is used",
    )
    add("--sensor", metavar="NAME", help="camera of a ByteCameraDepth session, e.g. realsense_455")
    add("--topic", metavar="NAME", help="depth topic of a bag (default: its only one)")
    add("--depth-glob", metavar="PATTERN", help="depth images of a folder (default: the usual names)")
    add("--intrinsics", type=Path, metavar="FILE", help="intrinsics of a folder (default: the usual names)")
    for name, meaning in (("fx", "focal length"), ("fy", "focal length"), ("cx", "centre"), ("cy", "centre")):
        add(f"--{name}", type=float, metavar="PX", help=f"{meaning} [px], instead of a file; all four together")
    add("--scale", type=float, metavar="M", help="metres per unit of a folder (default: 0.001, floats 1)")
    add("--first", type=int, metavar="NUMBER", help="first frame number of a folder")
    add("--last", type=int, metavar="NUMBER", help="last frame number of a folder")
    add("--every", type=int, default=1, metavar="N", help="use every N-th frame (default: 1)")
    add("--limit", type=int, metavar="N", help="read at most N frames")
    add("--window", type=int, default=PAIR_WINDOW, metavar="N", help="frames fused together (default: %(default)s)")
    add("--step", type=int, metavar="N", help="frames from one window to the next (default: half a window)")
    add("--voxel", type=float, default=VOXEL_M, metavar="M", help="side of a voxel (default: %(default)s)")
    add("--far", type=float, default=CLEAN_FAR_M, metavar="M", help="clean depth ends here (default: %(default)s)")
    add("--colour", action="store_true", help="also write the colour images, for models that look at colour")
    add("--name", help="name of the sequence in meta.yaml (default: the source's)")
    add("--licence", default="", help="licence of the images, for meta.yaml")
    add("--use", default="", metavar="TEXT", help="what the pairs may be used for, for meta.yaml")
    return arguments


def run(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = build_parser()
    args = arguments.parse_args(argv)
    focal = (args.fx, args.fy, args.cx, args.cy)
    if any(value is not None for value in focal) and not all(value is not None for value in focal):
        arguments.error("--fx, --fy, --cx and --cy belong together")
    step = args.step if args.step is not None else max(args.window // 2, 1)
    limits = (("--every", args.every, 1), ("--limit", args.limit, 1), ("--window", args.window, 4), ("--step", step, 1))
    for option, value, least in limits:
        if value is not None and value < least:
            arguments.error(f"{option} must be at least {least}")
    if args.voxel <= 0 or args.far <= 0 or (args.scale is not None and args.scale <= 0):
        arguments.error("--voxel, --far and --scale must be positive")
    return _make(args, focal if args.fx is not None else None, step)


def _make(args: argparse.Namespace, focal: tuple[float, float, float, float] | None, step: int) -> int:
    from realdiff_core.config import camera_profile
    from realdiff_core.output import StagedFolder

    from realdiff_enhancer.data.pair_folder import PairFolderWriter, PairMeta
    from realdiff_enhancer.data.sequence import SequenceOptions
    from realdiff_enhancer.data.sources import PairSource

    profile = camera_profile(args.camera)
    options = SequenceOptions(
        baseline_m=profile.baseline_m,
        topic=args.topic,
        depth_glob=args.depth_glob,
        intrinsics=args.intrinsics,
        focal=focal,
        scale=args.scale,
        first=args.first,
        last=args.last,
        every=args.every,
        limit=args.limit,
        sensor=args.sensor,
        colour=args.colour,
    )
    output = StagedFolder(args.output)
    output.check()
    source = PairSource.open(
        args.source,
        options,
        profile,
        static=args.static,
        window=args.window,
        step=step,
        voxel_m=args.voxel,
        far_m=args.far,
    )
    name = args.name or args.source.resolve().stem
    meta = PairMeta(
        source=name,
        licence=args.licence,
        camera=profile.name,
        baseline_m=profile.baseline_m,
        method=source.method,
        use=args.use,
    )
    accepted, total = 0, source.frames
    reasons: dict[str, int] = {}
    try:
        with progress("fusing", total) as bar:
            writer = PairFolderWriter(output.begin(), source.K, meta)
            for pair in source.pairs(bar.advance):
                writer.write(pair, None if pair.failures else source.colour(pair.number))
                accepted += not pair.failures
                for failure in pair.failures:
                    reasons[failure.split()[0]] = reasons.get(failure.split()[0], 0) + 1
        summary = ", ".join(f"{count} × {name}" for name, count in sorted(reasons.items()))
        if not accepted:
            raise source.nothing_accepted(reasons)
        output.complete()
    except BaseException:
        output.abort()
        raise
    print(f"{accepted} of {total} frames accepted{f' (rejected: {summary})' if summary else ''} → {args.output}")
    return 0


def main() -> None:
    """Console entry point."""
    run_command(run)


if __name__ == "__main__":
    main()
