"""`ros2 run realdiff_sim_bridge calibrate`: where the camera stands, from silhouettes of the robot."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from realdiff_core.cli import parser as make_parser
from realdiff_core.cli import progress, run_command
from realdiff_core.errors import ConfigError, OutputError, RealdiffError

if TYPE_CHECKING:
    from realdiff_core.camera import CameraModel

    from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer
    from realdiff_sim_bridge.calibration.views import ViewSet
    from realdiff_sim_bridge.geometry import Pose

_PROG = "ros2 run realdiff_sim_bridge calibrate"
_EXAMPLES = f"""\
  {_PROG} views BAG -o views --position 1.1 0.4 0.7 --target 0.3 0 0.3     # masks from a bag
  {_PROG} fit views -o calibration --position 1.1 0.4 0.7 --target 0.3 0 0.3
  {_PROG} fit views -o calibration --marker 7 --marker-size 0.05 --marker-frame fr3_hand \\
      --marker-pose 0.04 0 0.03 0 0.7071 0 0.7071
  {_PROG} bench --runs 50 -o bench

`fit` writes camera_tf.yaml, pictures and report.html; a result that can't be trusted is refused (exit code 2).
"""


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} isn't a finite number")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} isn't positive")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{value} isn't positive")
    return value


def parser() -> argparse.ArgumentParser:
    """Returns the command's argument parser."""
    result = make_parser("Find where a fixed camera stands, from silhouettes of the robot.", _EXAMPLES, prog=_PROG)
    verbs = result.add_subparsers(dest="verb", required=True, metavar="VERB")
    raw = argparse.RawDescriptionHelpFormatter
    fit = verbs.add_parser("fit", help="align the camera", description="Align the camera.", formatter_class=raw)
    fit.add_argument("views", type=Path, help="folder with views.yaml and masks")
    _add_output(fit)
    _add_guess(fit)
    fit.add_argument("--camera-info", type=Path, metavar="FILE", help="intrinsics instead of those in views.yaml")
    fit.add_argument("--profile", default="d435", help="camera profile: how its imagers stand (default d435)")
    fit.add_argument("--without", nargs="+", default=[], metavar="VIEW", help="leave out views, by their masks' names")
    fit.add_argument("--search-position", type=_positive, default=0.05, metavar="M", help="guess is so wrong (0.05)")
    fit.add_argument("--search-angle", type=_positive, default=5.0, metavar="DEG", help="guess is so wrong (5)")
    fit.add_argument("--starts", type=_count, default=16, help="starts of the search (default 16)")
    fit.add_argument("--seed", type=int, default=0, help="of the starts (default 0)")
    fit.add_argument("--overwrite", action="store_true", help="replace the output of an earlier run")

    views = verbs.add_parser("views", help="make masks from a bag", description="Make masks from a bag.")
    views.add_argument("bag", type=Path, help="bag with colour, camera_info, joint states, aligned depth if possible")
    _add_output(views)
    _add_guess(views, marker=False)
    views.add_argument("--views", type=_count, default=16, help="most views to take (default 16)")
    views.add_argument("--margin", type=_count, default=60, metavar="PX", help="the guess is so wrong (default 60 px)")
    views.add_argument("--method", choices=("depth", "grabcut"), default="depth", help="grabcut: colour decides")
    views.add_argument("--empty-scene", type=Path, metavar="BAG", help="bag with depth of the scene without the robot")

    bench = verbs.add_parser("bench", help="judge it on synthetic views", description="Judge it on synthetic views.")
    _add_output(bench)
    bench.add_argument("--runs", type=_count, default=50, help="default 50")
    bench.add_argument("--seed", type=int, default=0, help="run k has seed + k (default 0)")
    bench.add_argument("--views", type=_count, default=12, help="default 12")
    bench.add_argument("--noise", type=float, default=1.0, metavar="PX", help="mask noise (default 1)")
    bench.add_argument("--correlation", type=_positive, default=4.0, metavar="PX", help="its smoothing (default 4)")
    bench.add_argument("--dilation", type=_number, default=0.0, metavar="PX", help="masks too large (default 0)")
    bench.add_argument("--start-position", type=float, default=0.05, metavar="M", help="error of the guess (0.05)")
    bench.add_argument("--start-angle", type=float, default=5.0, metavar="DEG", help="error of the guess (5)")
    bench.add_argument("--focal-error", type=float, default=0.0, help="share by which the focal length is too large")
    return result


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")


def _add_guess(verb: argparse.ArgumentParser, *, marker: bool = True) -> None:
    group = verb.add_argument_group("first guess (one of these)")
    group.add_argument("--position", nargs=3, type=_number, metavar=("X", "Y", "Z"), help="the camera's place [m]")
    group.add_argument("--target", nargs=3, type=_number, metavar=("X", "Y", "Z"), help="what it looks at [m]")
    group.add_argument("--guess", type=Path, metavar="FILE", help="a camera_tf.yaml")
    if marker:
        group.add_argument("--marker", type=int, metavar="ID", help="an ArUco marker that the pictures show")
        group.add_argument("--marker-size", type=_positive, default=0.05, metavar="M", help="its side (0.05)")
        group.add_argument("--marker-frame", default="base", help="link that carries it, or base (default)")
        group.add_argument(
            "--marker-pose", nargs=7, type=_number, default=[0.0] * 6 + [1.0],
            metavar=("X", "Y", "Z", "QX", "QY", "QZ", "QW"), help="its centre in that frame; z points out of it",
        )  # fmt: skip
        group.add_argument("--marker-dictionary", default="DICT_4X4_50", help="OpenCV's name (DICT_4X4_50)")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = parser().parse_args(argv)
    return {"fit": _fit, "views": _views, "bench": _bench}[arguments.verb](arguments)


def _fit(arguments: argparse.Namespace) -> int:
    from realdiff_core.config import camera_profile
    from realdiff_core.output import StagedFolder

    # Everything that can be wrong with the arguments is looked at before the robot's meshes are loaded.
    StagedFolder(arguments.output, overwrite=arguments.overwrite, suffixes=(".yaml", ".png", ".html")).check()
    profile = camera_profile(arguments.profile)
    _check_guess(arguments)
    from realdiff_sim_bridge.calibration.align import Aligner, Search
    from realdiff_sim_bridge.calibration.report import write_results
    from realdiff_sim_bridge.calibration.views import load_views

    camera = _read_camera_info(arguments.camera_info) if arguments.camera_info else None
    views = load_views(arguments.views, camera).without(arguments.without)
    aligner = Aligner(views.camera)
    try:
        guess = _guess(arguments, views, aligner.renderer)
        search = Search(arguments.search_position, arguments.search_angle, arguments.starts, arguments.seed)
        with progress("aligning", search.starts + 1, unit="starts") as bar:
            result = aligner.align(views, guess, search, bar.advance)
        written = write_results(arguments.output, views, result, aligner, profile, overwrite=arguments.overwrite)
    finally:
        aligner.close()
    residual, spread = result.evidence.residual, result.evidence.uncertainty
    figures = (
        f"contours {residual.mean_px:.2f} px apart ({residual.mean_m * 1e3:.1f} mm), pose within "
        f"{spread.position_m * 1e3:.1f} mm and {spread.angle_deg:.2f}° (95 %)"
    )
    if written is None:
        raise RealdiffError(
            "the alignment is refused",
            where=arguments.output / "report.html",
            got="\n             ".join(result.reasons),
            next_step="look at the report's pictures, correct what it names, and run again with --overwrite",
        )
    print(f"accepted: {figures}\n{arguments.output / 'camera_tf.yaml'}")
    if written.link is not None:
        print(written.link.publisher_command())
    return 0


def _views(arguments: argparse.Namespace) -> int:
    from realdiff_core.output import StagedFolder

    StagedFolder(arguments.output).check()
    _check_guess(arguments)
    guess = _guess(arguments)
    from realdiff_sim_bridge.calibration.from_bag import read_empty_depth, read_shots
    from realdiff_sim_bridge.calibration.segmentation import make_masks, write_views

    camera, shots = read_shots(arguments.bag, arguments.views)
    empty = read_empty_depth(arguments.empty_scene) if arguments.empty_scene else None
    masks = make_masks(shots, camera, guess, margin_px=arguments.margin, method=arguments.method, empty_depth_m=empty)
    write_views(arguments.output, shots, masks, camera)
    print(f"{len(shots)} views in {arguments.output}; check the masks in contact_sheet.png before you fit")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    import csv

    if arguments.output.exists():
        raise OutputError("output exists already", where=arguments.output, next_step="choose another folder")
    from realdiff_sim_bridge.calibration.bench import Condition, Run, runs, summary

    condition = Condition(
        views=arguments.views,
        jitter_px=arguments.noise,
        correlation_px=arguments.correlation,
        dilation_px=arguments.dilation,
        start_m=arguments.start_position,
        start_deg=arguments.start_angle,
        focal_error=arguments.focal_error,
    )
    results: list[Run] = []
    arguments.output.mkdir(parents=True)
    with (
        progress("aligning", arguments.runs, unit="runs") as bar,
        (arguments.output / "runs.csv").open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = None
        for run in runs(condition, arguments.runs, arguments.seed):
            row = run.row()
            if writer is None:
                writer = csv.DictWriter(stream, list(row))
                writer.writeheader()
            writer.writerow(row)
            stream.flush()
            results.append(run)
            bar.advance(1)
    text = summary(condition, results)
    (arguments.output / "summary.md").write_text(text, encoding="utf-8")
    print(text, file=sys.stdout, flush=True)
    return 1 if any(run.silently_wrong for run in results) else 0


def _check_guess(arguments: argparse.Namespace) -> None:
    """Refuses a first guess that is missing or given twice."""
    given = [
        name
        for name, is_given in (
            ("--position and --target", arguments.position is not None or arguments.target is not None),
            ("--guess", arguments.guess is not None),
            ("--marker", getattr(arguments, "marker", None) is not None),
        )
        if is_given
    ]
    if len(given) != 1 or (arguments.position is None) != (arguments.target is None):
        raise ConfigError(
            "the first guess isn't clear" if given else "the first guess is missing",
            expected="one of: --position with --target, --guess, --marker",
            got=", ".join(given) or "none of them",
            next_step="measure the camera's place in the frame base: --position 1.1 0.4 0.7 --target 0.3 0 0.3",
        )


def _guess(arguments: argparse.Namespace, views: ViewSet | None = None, renderer: RobotRenderer | None = None) -> Pose:
    """Returns the first guess from whichever arguments were given."""
    from realdiff_sim_bridge.calibration.guess import Marker, guess_from_look_at, guess_from_marker
    from realdiff_sim_bridge.calibration.transform import load_transform

    if arguments.guess is not None:
        return load_transform(arguments.guess).optical.pose
    if arguments.position is not None:
        return guess_from_look_at(arguments.position, arguments.target)
    assert views is not None and renderer is not None  # only `fit` offers markers
    marker = Marker(
        number=arguments.marker,
        size_m=arguments.marker_size,
        frame=arguments.marker_frame,
        pose=_marker_pose(arguments.marker_pose),
        dictionary=arguments.marker_dictionary,
    )
    pose, count = guess_from_marker(views, renderer, marker)
    print(f"marker {arguments.marker} seen in {count} of {len(views.views)} views", file=sys.stderr)
    return pose


def _marker_pose(values: list[float]) -> Pose:
    import numpy as np

    from realdiff_sim_bridge.geometry import Pose

    quaternion = np.array(values[3:])
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1.0) > 1e-2:
        raise ConfigError("--marker-pose holds no rotation", expected="a unit quaternion", got=f"length {norm:.3f}")
    return Pose(np.array(values[:3]), quaternion / norm)


def _read_camera_info(path: Path) -> CameraModel:
    """Reads intrinsics from a file that also tells the image size."""
    from realdiff_core.frames import read_intrinsics
    from realdiff_core.topics import COLOR_FRAME

    intrinsics = read_intrinsics(path)
    if intrinsics.width is None or intrinsics.height is None:
        raise ConfigError(
            "intrinsics without image size", where=path, expected="width and height", next_step="add them to the file"
        )
    return intrinsics.camera(intrinsics.width, intrinsics.height, COLOR_FRAME, None, path)


def entry() -> NoReturn:
    """Entry point of `ros2 run`."""
    run_command(main)


if __name__ == "__main__":
    entry()
