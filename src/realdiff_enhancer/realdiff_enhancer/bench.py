"""How fast is enhancement? ``ros2 run realdiff_enhancer bench`` prints what ``./run bench`` collects.

Models frame by frame in one thread; the two-stage model in batches, frame by frame and, on a GPU, beside the paper's
configuration; the bag enhancer from bag to bag; and the node between a camera process and a subscriber over DDS.
640×480, 16UC1.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdiff_core.cli import parser, progress, run_command
from realdiff_core.errors import ConfigError

from realdiff_enhancer.memory import keep_freed_memory

if TYPE_CHECKING:
    from realdiff_core.bag import Storage
    from realdiff_core.config import CameraProfile

    from realdiff_enhancer.models.base import DepthFrames, DepthModel, EnhancedFrames

COMMAND = "ros2 run realdiff_enhancer bench"
EXAMPLES = """\
  ros2 run realdiff_enhancer bench
  ros2 run realdiff_enhancer bench --only models bags --json
  ros2 run realdiff_enhancer bench --only two_stage
"""
PARTS = ("models", "two_stage", "bags", "node")
MODELS = ("none", "gaussian", "perlin", "disparity")
SIZE = (480, 640)
# What the project asks for on two cores: bag to bag without a model, frames/s; a live camera's rate, nothing lost.
BAG_TARGET_FPS = 150.0
LIVE_RATE_HZ = 30.0
# Bag to bag may take so many times as long as the model alone.
OVERHEAD_TARGET_RATIO = 1.1
# A recording of 20 s; a network takes seconds a frame on a CPU, where few frames, once, are enough.
OVERHEAD_FRAMES, OVERHEAD_CPU_FRAMES = 600, 4
FRAME_TARGET_MS = 20.0
# The two-stage model from NumPy to NumPy, frames/s, on an H100 and on two cores; and how many times the paper's
# configuration on the same GPU.
GPU_TARGET_FPS, CPU_TARGET_FPS = 250.0, 1.0
PAPER_TARGET_RATIO = 100.0
# Of the paper's configuration, in one batch, which fills a GPU: seconds on a GPU and minutes on a CPU.
PAPER_FRAMES = 16
GPU_SINGLES, CPU_SINGLES = 100, 3

Figure = dict[str, Any]


def bench(parts: tuple[str, ...] = PARTS, frames: int = 200) -> list[Figure]:
    """Measures.

    Args:
        parts: Some of `PARTS`. The node needs rclpy and realdiff_msgs.
        frames: Frames of each measurement.

    Returns:
        One ``{name, value, unit, baseline, ratio, command}`` a figure. The baseline is the project's target, None where
        there is none.
    """
    keep_freed_memory()
    steps: dict[str, Callable[[int], Iterator[Figure]]] = {
        "models": _models,
        "two_stage": _two_stage,
        "bags": _bags,
        "node": _node,
    }
    results: list[Figure] = []
    with progress("enhancer", len(parts), "parts") as bar:
        for part in parts:
            results += steps[part](frames)
            bar.advance()
    return results


def _figure(name: str, value: float, unit: str, baseline: float | None = None) -> Figure:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "baseline": baseline,
        "ratio": None if baseline is None else round(value / baseline, 3),
        "command": COMMAND,
    }


def _models(frames: int) -> Iterator[Figure]:
    """CPU time of one frame: wall time would measure whoever else is on the machine."""
    import cv2
    import numpy as np
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import camera_profile
    from realdiff_core.depth import depth_to_metres
    from realdiff_core.seeds import frame_seed, stream_seed

    from realdiff_enhancer.models import DepthFrames, create_model
    from realdiff_enhancer.synthetic_camera import depth_scene

    profile = camera_profile("d435")
    camera = CameraModel.from_fov(SIZE[1], SIZE[0], 55, baseline_m=profile.baseline_m)
    depth = depth_to_metres(depth_scene(0, *SIZE), "16UC1")[None]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for name in MODELS[1:]:
            model = create_model(name, profile=profile)
            seeds = [frame_seed(0, "bench", index) for index in range(frames)]
            times = []
            for index, seed in enumerate(seeds):
                begin = time.thread_time()
                previous = tuple(seeds[max(0, index - model.history) : index])
                model.enhance(DepthFrames(depth, None, camera, (seed,), previous, stream_seed(0, "bench")))
                times.append(1e3 * (time.thread_time() - begin))
            target = FRAME_TARGET_MS if name == "disparity" else None
            yield _figure(f"model {name}, CPU time a frame, one thread", float(np.median(times)), "ms", target)
    finally:
        cv2.setNumThreads(threads)


def _two_stage(frames: int) -> Iterator[Figure]:
    """Rate, latency and, on a GPU, the ratio to the paper's configuration that was timed just before.

    A GPU's latency is measured with compiled networks too (a minute of compilation), as for live frames. A CPU gets two
    frames a core; where OpenVINO is installed it is measured beside torch.
    """
    from importlib.util import find_spec

    from realdiff_enhancer.models.device import pick_device
    from realdiff_enhancer.two_stage.bench import BenchOptions, measure
    from realdiff_enhancer.two_stage.pipeline import GPU_BATCH

    if pick_device("auto")[0].type == "cpu":
        count = min(frames, 2 * (os.cpu_count() or 1))
        for device in ("cpu", *(("openvino",) if find_spec("openvino") else ())):
            for row in measure(BenchOptions(device=device, frames=count, singles=CPU_SINGLES)):
                label = f"two_stage, {row['steps']} steps a stage, {row['device']}"
                yield _figure(f"{label}, one frame a core", row["frames_per_s"], "frames/s", CPU_TARGET_FPS)
                # Unlike the rate it doesn't measure whoever else is on the machine.
                yield _figure(f"{label}, CPU time a frame", row["cpu_s_per_frame"], "s")
                yield from _latencies(label, row)
        return
    whole = math.ceil(frames / GPU_BATCH) * GPU_BATCH  # a batch is computed in full, however few frames it holds
    options = BenchOptions(batch=(GPU_BATCH, 1), frames=whole, singles=GPU_SINGLES, paper_frames=PAPER_FRAMES)
    paper, *ours = measure(options)
    yield _figure(f"{paper['what']}: the baseline", paper["frames_per_s"], "frames/s")
    for row in ours:
        label = f"two_stage, {row['steps']} steps a stage, {row['device']}"
        if row["batch"] == 1:
            yield from _latencies(label, row, FRAME_TARGET_MS)
            continue
        label += f", batches of {row['batch']}"
        yield _figure(label, row["frames_per_s"], "frames/s", GPU_TARGET_FPS)
        yield _figure(f"{label}, against that baseline", row["ratio_to_paper"], "times", PAPER_TARGET_RATIO)
    try:
        (row,) = measure(BenchOptions(device="cuda-compiled", batch=(1,), frames=GPU_SINGLES, singles=GPU_SINGLES))
    except ConfigError as error:  # no compiler: the rest is worth having
        print(f"bench: without cuda-compiled: {error}", file=sys.stderr)
        return
    yield from _latencies(f"two_stage, {row['steps']} steps a stage, {row['device']}", row, FRAME_TARGET_MS)


def _latencies(label: str, row: dict[str, Any], target: float | None = None) -> Iterator[Figure]:
    for share in (50, 99):
        yield _figure(f"{label}, one frame alone, p{share}", row[f"p{share}_ms"], "ms", target if share == 50 else None)


def _bags(frames: int) -> Iterator[Figure]:
    from realdiff_core.config import camera_profile

    from realdiff_enhancer.bag_enhancer import enhance_bag
    from realdiff_enhancer.job import EnhanceOptions
    from realdiff_enhancer.models import create_model

    profile = camera_profile("d435")
    storages: tuple[Storage, ...] = ("mcap", "sqlite3")
    with tempfile.TemporaryDirectory(prefix="realdiff-bench-") as name:
        folder = Path(name)
        for storage in storages:
            _record(folder / storage, storage, frames)
            for model_name in ("none", "gaussian", "disparity"):
                options = EnhanceOptions(model=model_name, overwrite=True)
                model = create_model(model_name, profile=profile)
                results = [enhance_bag(folder / storage, [folder / "out"], model, profile, options) for _ in range(3)]
                best = max(result.frames / result.seconds for result in results)
                target = BAG_TARGET_FPS if model_name == "none" else None
                yield _figure(f"bag enhancer, {storage}, model {model_name}", best, "frames/s", target)
        yield _overhead(folder, profile, frames)


def _record(path: Path, storage: Storage, frames: int) -> None:
    """Writes a bag of simulated depth and its camera_info."""
    from realdiff_core.bag import BagWriter
    from realdiff_core.camera import CameraModel
    from realdiff_core.image import numpy_to_image_fields
    from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
    from realdiff_core.provenance import BagProvenance, DepthKind

    from realdiff_core import topics
    from realdiff_enhancer.synthetic_camera import depth_scene

    camera = CameraModel.from_fov(SIZE[1], SIZE[0], 55, topics.DEPTH_FRAME)
    with BagWriter(path, storage) as writer:
        writer.add_topic(topics.DEPTH_INFO, CAMERA_INFO)
        writer.add_topic(topics.DEPTH_IMAGE, IMAGE)
        writer.set_provenance(BagProvenance(depth={topics.DEPTH_IMAGE: DepthKind.CLEAN_SIM}, source="simulation"))
        for index in range(frames):
            stamp = 1 + index * 33_333_333
            header = make_header(stamp, topics.DEPTH_FRAME)
            info = make(CAMERA_INFO, header=header, **camera.to_camera_info_fields())
            fields = numpy_to_image_fields(depth_scene(index % 30, *SIZE), "16UC1")
            writer.write_message(topics.DEPTH_INFO, stamp, info)
            writer.write_message(topics.DEPTH_IMAGE, stamp, make(IMAGE, header=header, **fields))


class _Noted:
    """A model that keeps what it is given."""

    begin = None  # so that it is given to `enhance`

    def __init__(self, model: DepthModel) -> None:
        self._model = model
        self.given: list[DepthFrames] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """As the model's own."""
        self.given.append(frames)
        return self._model.enhance(frames)


def _overhead(folder: Path, profile: CameraProfile, frames: int) -> Figure:
    """Bag to bag against the shipped network alone on the same batches, when its graphs are recorded."""
    from realdiff_enhancer.bag_enhancer import enhance_bag
    from realdiff_enhancer.job import EnhanceOptions
    from realdiff_enhancer.models import create_model
    from realdiff_enhancer.models.device import pick_device

    model, device = create_model("two_stage", profile=profile), pick_device("auto")[0].type
    on_cpu = device == "cpu"
    frames = min(frames, OVERHEAD_CPU_FRAMES) if on_cpu else max(frames, OVERHEAD_FRAMES)
    _record(folder / "recording", "mcap", frames)

    def bag_to_bag(through: DepthModel) -> float:
        output = folder / "enhanced"
        seconds = enhance_bag(
            folder / "recording", [output], through, profile, EnhanceOptions(model="two_stage")
        ).seconds
        shutil.rmtree(output)  # the next run finds its memory and its disk as this one did
        return seconds

    noted = _Noted(model)
    bag_to_bag(noted)
    alone, whole = [], []
    for _ in range(1 if on_cpu else 3):
        begin = time.perf_counter()
        for batch in noted.given:
            model.enhance(batch)
        alone.append(time.perf_counter() - begin)
        whole.append(bag_to_bag(model))
    label = f"time from bag to bag against the model alone, two_stage on {device}, {frames} frames"
    return _figure(label, min(whole) / min(alone), "times", OVERHEAD_TARGET_RATIO)


def _node(frames: int) -> Iterator[Figure]:
    """A camera process at 30 Hz, the node, and a subscriber in this process."""
    import struct

    import numpy as np
    from sensor_msgs.msg import Image

    from realdiff_enhancer.live import LiveEnhancer

    latencies: list[float] = []

    def received(raw: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
        latencies.append(1e3 * (time.time() - seconds - 1e-9 * nanoseconds))

    from realdiff_msgs.msg import EnhancerStatus

    statuses: list[EnhancerStatus] = []
    with LiveEnhancer(model="disparity") as live:
        live.listen(Image, live.output_topic, received, raw=True)
        live.listen(EnhancerStatus, "/depth_enhancer/status", statuses.append)
        if not (live.change("configure") and live.change("activate")):
            raise RuntimeError("the node could not be activated")
        camera = live.camera("--frames", frames, "--rate", LIVE_RATE_HZ)
        live.until(lambda: len(latencies) >= frames or camera.poll() is not None, frames / LIVE_RATE_HZ + 60)
        live.until(lambda: False, 1.5)
    label = "node, disparity, 640×480 at 30 Hz over DDS"
    rates = [status.rate_hz for status in statuses if status.rate_hz > 0]
    steady = rates[1:-1] or rates or [0.0]
    yield _figure(f"{label}: frames that arrived", len(latencies), "frames", float(frames))
    yield _figure(f"{label}: output rate", float(np.median(steady)), "Hz", LIVE_RATE_HZ)
    for share in (50, 99):
        value = float(np.percentile(latencies, share)) if latencies else float("nan")
        yield _figure(f"{label}: latency camera to subscriber, p{share}", value, "ms")


def main() -> int:
    """Run the command line."""
    arguments = parser("Measure models, bag enhancer and node.", EXAMPLES, "bench")
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default: all)")
    arguments.add_argument("--frames", type=int, default=200, help="frames of each measurement (default: 200)")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = arguments.parse_args()
    if options.frames < 10:
        arguments.error("--frames must be at least 10")
    results = bench(tuple(options.only), options.frames)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return 0
    for result in results:
        target = "" if result["baseline"] is None else f"  (target {result['baseline']:g}, ratio {result['ratio']:g})"
        print(f"{result['name']:<72} {result['value']:>8.1f} {result['unit']}{target}")
    return 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_enhancer bench``."""
    run_command(main)


if __name__ == "__main__":
    cli()
