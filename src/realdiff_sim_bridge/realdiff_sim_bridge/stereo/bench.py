"""``python -m realdiff_sim_bridge.stereo.bench``: frames per second of the stereo sensor, without scene rendering.

Needs NumPy, SciPy, pydantic and the back end (torch, or OpenCV and numba): the scene is ray cast in NumPy.
"""

from __future__ import annotations

import argparse
import platform
import time
from typing import Any, Literal

import numpy as np
from realdiff_core.camera import CameraModel

from realdiff_sim_bridge.stereo.infrared import stack_views
from realdiff_sim_bridge.stereo.sensor import StereoSensor
from realdiff_sim_bridge.stereo.settings import StereoSettings
from realdiff_sim_bridge.stereo.synthetic import desk_views

_EXAMPLES = """\
examples:
  python -m realdiff_sim_bridge.stereo.bench --frames 30
  python -m realdiff_sim_bridge.stereo.bench --backend torch --device cuda --frames 200 --batch 8
"""

CAMERA = CameraModel(width=848, height=480, fx=424.0, fy=424.0, cx=423.5, cy=239.5)


def run(argv: list[str] | None = None) -> int:
    """Measure and print frames per second.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(
        description="Time the stereo sensor at 848×480 (light, imagers, matching; no scene rendering).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backend", choices=("numpy", "torch"), help="default: torch if a device is named, else numpy")
    parser.add_argument("--device", help="torch device, for example cuda")
    parser.add_argument("--frames", type=int, default=30, help="frames to measure (default 30)")
    parser.add_argument("--batch", type=int, help="frames at once (default 8 with torch, 1 with numpy)")
    options = parser.parse_args(argv)
    backend: Literal["numpy", "torch"] = options.backend or ("torch" if options.device else "numpy")
    batch = options.batch or (8 if backend == "torch" else 1)
    sensor = StereoSensor(CAMERA, StereoSettings(), 0, backend=backend, device=options.device)
    views = [
        desk_views(CAMERA, sensor.settings.baseline_m, sensor.settings.projector_offset_m, seed)
        for seed in range(batch)
    ]
    left, right, shadows = [view[0] for view in views], [view[1] for view in views], [view[2] for view in views]
    rounds = max(1, options.frames // batch)

    surfaces = stack_views(sensor.arrays, left), stack_views(sensor.arrays, right)
    uploaded = sensor.arrays.upload_images(shadows)

    def resident(number: int) -> None:
        sensor.measure_surfaces(*surfaces, [number * batch + i for i in range(batch)], uploaded)

    def complete(number: int) -> None:
        sensor.measure_batch(left, right, [number * batch + i for i in range(batch)], shadows)

    print(f"{backend} on {_device_name(sensor.arrays)}, {CAMERA.width}x{CAMERA.height}, batches of {batch}")
    frames = sensor.measure_batch(left, right, list(range(batch)), shadows)
    holes = float(np.mean([np.isnan(frame.depth) for frame in frames]))
    print(f"holes {100 * holes:.1f} %")
    for name, work in (("views and depth stay on the device", resident), ("with upload and download", complete)):
        if backend == "numpy" and work is complete:
            continue
        for number in range(2):
            work(number)
        _wait(sensor.arrays)
        start = time.perf_counter()
        for number in range(rounds):
            work(number)
        _wait(sensor.arrays)
        seconds = (time.perf_counter() - start) / (rounds * batch)
        print(f"{1 / seconds:.1f} frames/s ({1000 * seconds:.2f} ms a frame): {name}")
    return 0


def _device_name(arrays: Any) -> str:
    if arrays.name == "torch" and arrays.device.type == "cuda":
        import torch

        return str(torch.cuda.get_device_name(arrays.device))
    return f"{platform.machine()} CPU"


def _wait(arrays: Any) -> None:
    if arrays.name == "torch" and arrays.device.type == "cuda":
        import torch

        torch.cuda.synchronize(arrays.device)


if __name__ == "__main__":
    raise SystemExit(run())
