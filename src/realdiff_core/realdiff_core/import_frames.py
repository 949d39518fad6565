"""Turn real depth frames into a bag, so that real data walks the same way as simulated data."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

EXAMPLES = """\
  ros2 run realdiff_core import_frames captures/desk -o desk_bag
  ros2 run realdiff_core import_frames captures/desk -o desk_bag --intrinsics K.txt --rate 15 --camera d415
  ros2 run realdiff_core import_frames captures/raw -o raw_bag --fx 384 --fy 384 --cx 320 --cy 240
  ros2 run realdiff_core import_frames pairs/desk -o clean_bag --depth-glob 'clean/*.png' --scale 0.0001 --clean
"""
FIRST_STAMP_NS = 1_000_000_000  # not zero: ROS takes the stamp zero for "not set"
INVALID_Z16 = 65535  # what some recorders write where nothing was measured


@dataclass(frozen=True)
class ImportOptions:
    """How frames become a bag.

    Args:
        depth_glob: Pattern of the depth images, relative to the folder; None: look for the usual names.
        colour_glob: Pattern of the colour images.
        intrinsics: File with the camera's intrinsics; None: look for the usual names.
        focal: fx, fy, cx, cy [px], instead of a file.
        scale: Metres per unit of the depth images; None: 0.001 for integers, 1 for floats.
        rate_hz: Frame rate [Hz]; frame numbers that are left out leave a gap.
        camera: Name of the camera profile.
        storage: mcap or sqlite3.
        compression: none or zstd.
        aligned: The depth is registered to the colour image.
        clean: The depth is a noise-free reference (fused or rendered) rather than a measurement.
        overwrite: Replace an existing bag.
        limit: Import only so many frames.
    """

    depth_glob: str | None = None
    colour_glob: str | None = None
    intrinsics: Path | None = None
    focal: tuple[float, float, float, float] | None = None
    scale: float | None = None
    rate_hz: float = 30.0
    camera: str = "d435"
    storage: str = "mcap"
    compression: str = "none"
    aligned: bool = False
    clean: bool = False
    overwrite: bool = False
    limit: int | None = None


def import_frames(folder: Path, output: Path, options: ImportOptions) -> int:
    """Write a folder's frames into a bag.

    Depth keeps its numbers where the unit is the millimetre (16UC1); other units and floats become metres (32FC1).
    The provenance record says ``sensor`` and names the folder.

    Args:
        folder: Folder with the frames.
        output: Bag to make.
        options: See `ImportOptions`.

    Returns:
        The number of depth frames.

    Raises:
        RealdiffError: Frames or intrinsics are missing or contradict each other; the output exists.
    """
    from realdiff_core.config import camera_profile
    from realdiff_core.frame_bag import FrameBag
    from realdiff_core.frames import find_frames

    profile = camera_profile(options.camera)
    files = find_frames(folder, options.depth_glob, options.colour_glob)
    numbers = list(files.depth)[: options.limit]
    with FrameBag(folder, output, files, profile, options) as bag, progress("importing", len(numbers)) as bar:
        for number in numbers:
            bag.write(number)
            bar.advance()
    return len(numbers)


def main() -> int:
    """Run the command line."""
    arguments = parser("Turn real depth frames into a rosbag2 bag marked as sensor data.", EXAMPLES)
    add = arguments.add_argument
    add("folder", type=Path, help="folder with the frames")
    add("-o", "--output", type=Path, required=True, help="bag folder to make")
    add("--depth-glob", metavar="PATTERN", help="depth images, relative to FOLDER (default: the usual names)")
    add("--colour-glob", "--color-glob", metavar="PATTERN", help="colour images, relative to FOLDER")
    add("--intrinsics", type=Path, metavar="FILE", help="JSON, YAML, CSV or K.txt (default: the usual names)")
    for name, meaning in (("fx", "focal length"), ("fy", "focal length"), ("cx", "centre"), ("cy", "centre")):
        add(f"--{name}", type=float, metavar="PX", help=f"{meaning} [px], instead of a file; all four together")
    add("--scale", type=float, metavar="M", help="metres per unit (default: 0.001 for integers, 1 for floats)")
    add("--rate", type=float, default=30.0, metavar="HZ", help="frames per second (default: 30)")
    add("--camera", default="d435", metavar="NAME", help="camera profile (default: d435)")
    add("--storage", choices=("mcap", "sqlite3"), default="mcap", help="bag storage (default: mcap)")
    add("--compression", choices=("none", "zstd"), default="none", help="bag compression (default: none)")
    add("--aligned", action="store_true", help="the depth is registered to the colour image")
    add("--clean", action="store_true", help="the depth is a noise-free reference, not a measurement")
    add("--limit", type=int, metavar="N", help="import only the first N frames")
    add("--overwrite", action="store_true", help="replace an existing bag")
    args = arguments.parse_args()
    focal = (args.fx, args.fy, args.cx, args.cy)
    given = [value is not None for value in focal]
    if any(given) and not all(given):
        arguments.error("--fx, --fy, --cx and --cy belong together")
    if args.rate <= 0 or (args.scale is not None and args.scale <= 0) or (args.limit is not None and args.limit <= 0):
        arguments.error("--rate, --scale and --limit must be positive")
    return _run(args, focal if all(given) else None)


def _run(args: argparse.Namespace, focal: tuple[float, float, float, float] | None) -> int:
    options = ImportOptions(
        depth_glob=args.depth_glob,
        colour_glob=args.colour_glob,
        intrinsics=args.intrinsics,
        focal=focal,
        scale=args.scale,
        rate_hz=args.rate,
        camera=args.camera,
        storage=args.storage,
        compression=args.compression,
        aligned=args.aligned,
        clean=args.clean,
        overwrite=args.overwrite,
        limit=args.limit,
    )
    frames = import_frames(args.folder, args.output, options)
    print(f"{frames} frames → {args.output}")
    return 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_core import_frames``."""
    run_command(main)
