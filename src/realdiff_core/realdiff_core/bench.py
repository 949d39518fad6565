"""How fast and how frugal are bags? ``ros2 run realdiff_core bench`` prints what ``./run bench`` collects."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from realdiff_core.cli import parser, progress, run_command

EXAMPLES = """\
  ros2 run realdiff_core bench
  ros2 run realdiff_core bench --frames 600 --json
"""
COMMAND = "ros2 run realdiff_core bench"
# What the project asks for: depth frames of 640×480 a second, bag in to bag out, on two cores, uncompressed.
TARGET_FPS = 150.0
TARGET_MIB = 500.0
HEIGHT, WIDTH = 480, 640
PERIOD_NS = 33_333_333
_ROUNDS = 3


def bench(frames: int = 300) -> list[dict[str, Any]]:
    """Measure bag in → bag out with every depth image decoded, converted to metres, encoded and serialised again.

    Args:
        frames: Depth images of 640×480 in each bag.

    Returns:
        One ``{name, value, unit, baseline, ratio, command}`` a figure; the best of three runs. The baseline is the
        project's target, None where there is none (compressed bags).
    """
    results = []
    cases = list(product(("mcap", "sqlite3"), ("16UC1", "32FC1"), ("none", "zstd")))
    with progress("bags", len(cases), "cases") as bar, tempfile.TemporaryDirectory(prefix="realdiff-bench-") as folder:
        for storage, encoding, compression in cases:
            count = frames if compression == "none" else max(frames // 4, 1)
            fps = _copy_rate(Path(folder), storage, encoding, compression, count)
            target = TARGET_FPS if compression == "none" else None
            name = f"bag in → bag out, {storage}, {encoding}, compression {compression}"
            results.append(_figure(name, fps, "frames/s", target))
            bar.advance()
    # The peak of the whole process: interpreter, libraries and all the bags above.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.append(_figure("bag in → bag out, peak memory", peak, "MiB", TARGET_MIB))
    return results


def _figure(name: str, value: float, unit: str, baseline: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "baseline": baseline,
        "ratio": None if baseline is None else round(value / baseline, 2),
        "command": COMMAND,
    }


def _copy_rate(folder: Path, storage: Any, encoding: str, compression: Any, frames: int) -> float:
    from realdiff_core.bag import BagWriter
    from realdiff_core.image import numpy_to_image_fields
    from realdiff_core.messages import IMAGE, make, make_header
    from realdiff_core.topics import DEPTH_FRAME, DEPTH_IMAGE

    source, target = folder / "in", folder / "out"
    with BagWriter(source, storage, compression, overwrite=True) as writer:
        writer.add_topic(DEPTH_IMAGE, IMAGE)
        for index, depth in zip(range(frames), _depth_images(encoding), strict=False):
            stamp = 1 + index * PERIOD_NS
            fields = numpy_to_image_fields(depth, encoding)
            writer.write_message(DEPTH_IMAGE, stamp, make(IMAGE, header=make_header(stamp, DEPTH_FRAME), **fields))
    best = 0.0
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        _copy(source, target, storage, compression)
        best = max(best, frames / (time.perf_counter() - begin))
    return best


def _copy(source: Path, target: Path, storage: Any, compression: Any) -> None:
    from realdiff_core.bag import BagReader, BagWriter
    from realdiff_core.depth import depth_to_metres, encode_like
    from realdiff_core.episode import decode_image
    from realdiff_core.image import numpy_to_image_fields
    from realdiff_core.messages import IMAGE, make

    with BagReader(source) as reader, BagWriter(target, storage, compression, overwrite=True) as writer:
        for info in reader.topics.values():
            writer.copy_topic(info)
        for raw in reader.messages():
            message, pixels = decode_image(reader, raw)
            clean = depth_to_metres(pixels, message.encoding)
            fields = numpy_to_image_fields(encode_like(pixels, message.encoding, clean, clean), message.encoding)
            writer.write_message(raw.topic, raw.stamp_ns, make(IMAGE, header=message.header, **fields))


def _depth_images(encoding: str) -> Iterator[Any]:
    """Yield a tilted plane with noise and holes, moving, for ever: it compresses about as real depth does."""
    import numpy as np

    from realdiff_core.depth import metres_to_depth

    rng = np.random.default_rng(0)
    plane = np.linspace(0.5, 2.5, HEIGHT)[:, None] + np.linspace(0, 0.4, WIDTH)
    depth = (plane + rng.normal(0, 0.002, plane.shape)).astype(np.float32)
    depth[rng.random(plane.shape) < 0.05] = np.nan
    while True:
        yield metres_to_depth(depth, encoding)
        depth = np.roll(depth, 3, axis=1)


def main() -> int:
    """Run the command line."""
    arguments = parser("Measure rate and memory of reading and writing bags.", EXAMPLES)
    arguments.add_argument("--frames", type=int, default=300, help="depth images in each bag (default: 300)")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = arguments.parse_args()
    if args.frames < 1:
        arguments.error("--frames must be positive")
    results = bench(args.frames)
    if args.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return 0
    for result in results:
        target = "" if result["baseline"] is None else f"  (target {result['baseline']:g}, ratio {result['ratio']:g})"
        print(f"{result['name']:<52} {result['value']:>8.1f} {result['unit']}{target}")
    return 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_core bench``."""
    run_command(main)
