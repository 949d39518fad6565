"""Speed of the two-stage model beside the paper's configuration: python -m realdiff_enhancer.two_stage.bench.

Both from NumPy to NumPy at 640x480. The paper's configuration has Stable Diffusion v2.1's shapes with random weights:
the VAE codes the clean depth, two stages of 50 DDIM steps denoise latents, the VAE decodes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realdiff_core.cli import parser, run_command

_EXAMPLES = """  python -m realdiff_enhancer.two_stage.bench --device cuda --steps 1 2 4 8 50
  python -m realdiff_enhancer.two_stage.bench --device cuda --steps 4 --batch 8 32 --paper-frames 8
  python -m realdiff_enhancer.two_stage.bench --device openvino --steps 1 2 4 --frames 4"""
SIZE = (480, 640)
LATENT = (SIZE[0] // 8, SIZE[1] // 8)

Row = dict[str, Any]


@dataclass(frozen=True)
class BenchOptions:
    """What is timed.

    Attributes:
        device: a name that `pick_device` knows.
        weights: model folder; None takes the shipped one.
        steps: numbers of sampling steps a stage; None is the model's own.
        batch: numbers of frames that a GPU sees together; a CPU takes one a thread.
        frames: frames of a rate measurement.
        singles: frames that are timed alone.
        paper_frames: frames of the paper's configuration; 0 leaves it out.
        paper_steps: its DDIM steps a stage.
        graphs: with CUDA graphs.
    """

    device: str = "auto"
    weights: Path | None = None
    steps: Sequence[int | None] = (None,)
    batch: Sequence[int] = (8,)
    frames: int = 64
    singles: int = 50
    paper_frames: int = 0
    paper_steps: int = 50
    graphs: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = vars(_parser().parse_args(argv))
    as_json = arguments.pop("json")
    rows = []
    for row in measure(BenchOptions(**arguments)):
        rows.append(row)
        if not as_json:
            print(_line(row), flush=True)
    if as_json:
        print(json.dumps(rows, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    arguments = parser("Time the two-stage model and the paper's configuration, NumPy to NumPy.", _EXAMPLES)
    default, add = BenchOptions(), arguments.add_argument
    add(
        "--device",
        default=default.device,
        help="cuda, cuda-compiled, cpu, openvino (on the CPU) or auto (default)",
    )
    add("--weights", type=Path, help="model folder (default: the shipped one)")
    add("--steps", type=int, nargs="+", default=default.steps, help="sampling steps a stage (default: the model's own)")
    add("--batch", type=int, nargs="+", default=default.batch, help="frames a GPU sees together (default: 8)")
    add("--frames", type=int, default=default.frames, help="frames of a rate measurement (default: %(default)s)")
    add("--singles", type=int, default=default.singles, help="single frames timed (default: %(default)s)")
    add(
        "--paper-frames",
        type=int,
        default=default.paper_frames,
        help="frames of the paper's configuration (default: %(default)s, leaves it out)",
    )
    add("--paper-steps", type=int, default=default.paper_steps, help="its DDIM steps a stage (default: %(default)s)")
    add("--no-graphs", dest="graphs", action="store_false", help="without CUDA graphs, for comparison")
    add("--json", action="store_true", help="print JSON")
    return arguments


def measure(options: BenchOptions) -> Iterator[Row]:
    """One row a configuration: rate [frames/s], single-frame p50 and p99 [ms], ratio to the paper's configuration.

    The paper's configuration comes first, where it is asked for. A row's `batch` is 1 on a CPU.

    Raises:
        ConfigError: the device is absent, or the weights don't fit.
    """
    from ..models.device import pick_device

    device, backend = pick_device(options.device)
    paper = None
    if options.paper_frames:
        paper = _paper(str(device), options.paper_frames, options.paper_steps)
        yield paper
    name = {"openvino": "openvino", "compiled": "cuda-compiled"}.get(backend, str(device))
    for steps in options.steps:
        for batch in options.batch if device.type == "cuda" else [1]:
            row = _ours(options, name, steps, batch)
            if paper is not None:
                row["ratio_to_paper"] = row["frames_per_s"] / paper["frames_per_s"]
            yield row


def _ours(options: BenchOptions, device: str, steps: int | None, batch: int) -> Row:
    import numpy as np
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import camera_profile
    from realdiff_core.depth import depth_to_metres

    from ..models.base import DepthFrames
    from ..synthetic_camera import depth_scene
    from .model_folder import load_model, shipped_weights
    from .pipeline import TwoStageModel

    profile = camera_profile("d435")
    loaded = load_model(options.weights or shipped_weights(profile.name), steps)
    model = TwoStageModel(
        loaded.config,
        loaded.coarse,
        loaded.fine,
        steps=steps,
        device=device,
        batch=batch,
        graphs=options.graphs,
    )
    height, width = SIZE
    fx = loaded.config.codec.native_fx_px
    camera = CameraModel(
        width=width, height=height, fx=fx, fy=fx, cx=width / 2, cy=height / 2, baseline_m=profile.baseline_m
    )
    scene = depth_to_metres(depth_scene(0, height, width), "16UC1")

    def frames(count: int, first: int) -> DepthFrames:
        before = tuple(range(max(0, first - model.history), first))
        seeds = tuple(range(first, first + count))
        return DepthFrames(np.repeat(scene[None], count, axis=0), None, camera, seeds, before, stream_seed=0)

    model.enhance(frames(batch, 0))
    model.enhance(frames(options.frames, 10_000))  # the frames before those that are timed, as in a bag
    timed = frames(options.frames, 10_000 + options.frames)
    begin, busy = time.perf_counter(), time.process_time()
    model.enhance(timed)
    rate = options.frames / (time.perf_counter() - begin)
    cpu_s = (time.process_time() - busy) / options.frames
    times = []
    for index in range(options.singles):
        one = frames(1, 20_000 + index)
        begin = time.perf_counter()
        model.enhance(one)
        times.append(1e3 * (time.perf_counter() - begin))
    return {
        "what": f"two_stage, {model.steps} steps a stage, {device}, batch {batch}",
        "device": device,
        "steps": model.steps,
        "batch": batch,
        "parameters": sum(p.numel() for n in (loaded.coarse, loaded.fine) if n is not None for p in n.parameters()),
        "frames_per_s": rate,
        "cpu_s_per_frame": cpu_s,
        "p50_ms": float(np.percentile(times, 50)) if times else None,
        "p99_ms": float(np.percentile(times, 99)) if times else None,
    }


def _paper(device: str, frames: int, steps: int) -> Row:
    """Two stages of DDIM with Stable Diffusion v2.1's shapes, all frames in one batch."""
    import numpy as np
    import torch

    kind = torch.float16 if device.startswith("cuda") else torch.float32
    unets, vae = _paper_networks(device, kind)
    depth = np.random.default_rng(0).uniform(-1, 1, (frames, *SIZE)).astype(np.float32)

    def run() -> np.ndarray:
        return _paper_pipeline(depth, unets, vae, steps, device, kind)

    with torch.inference_mode():
        if device.startswith("cuda"):
            run()  # libraries choose and load their kernels
        begin = time.perf_counter()
        run()
        seconds = time.perf_counter() - begin
    return {
        "what": f"paper: SD v2.1 shapes, 2 x {steps} DDIM steps, VAE, {device}, batch {frames}",
        "device": device,
        "steps": steps,
        "batch": frames,
        "parameters": sum(p.numel() for n in (*unets, vae) for p in n.parameters()),
        "frames_per_s": frames / seconds,
        "p50_ms": None,
        "p99_ms": None,
    }


def _paper_networks(device: str, kind: Any) -> tuple[list[Any], Any]:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device(device):
        # stage I sees noise and clean depth, stage II the coarse depth and the region map as well
        unets = [
            UNet2DConditionModel(
                sample_size=96,
                in_channels=channels,
                attention_head_dim=[5, 10, 20, 20],
                cross_attention_dim=1024,
                use_linear_projection=True,
            )
            .to(dtype=kind, memory_format=torch.channels_last)
            .eval()
            for channels in (8, 13)
        ]
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
            sample_size=768,
        )
    return unets, vae.to(dtype=kind, memory_format=torch.channels_last).eval()


def _paper_pipeline(depth: Any, unets: list[Any], vae: Any, steps: int, device: str, kind: Any) -> Any:
    import torch
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    scheduler.set_timesteps(steps, device=device)
    count = len(depth)
    prompt = torch.zeros((count, 77, 1024), device=device, dtype=kind)

    def encode(image: Any) -> Any:
        return vae.encode(image.unsqueeze(1).expand(-1, 3, -1, -1)).latent_dist.mode() * vae.config.scaling_factor

    def decode(latents: Any) -> Any:
        return vae.decode(latents / vae.config.scaling_factor).sample.mean(1)

    def denoise(unet: Any, fixed: Any) -> Any:
        sample = torch.randn((count, 4, *LATENT), device=device, dtype=kind)
        for timestep in scheduler.timesteps:
            output = unet(torch.cat([sample, fixed], 1), timestep, encoder_hidden_states=prompt, return_dict=False)[0]
            sample = scheduler.step(output, timestep, sample).prev_sample
        return sample

    clean = encode(torch.from_numpy(depth).to(device, kind))
    coarse = decode(denoise(unets[0], clean))
    region = torch.zeros((count, 1, *LATENT), device=device, dtype=kind)
    fine = denoise(unets[1], torch.cat([clean, encode(coarse), region], 1))
    return decode(fine).float().cpu().numpy()


def _line(row: Row) -> str:
    text = f"{row['what']}: {row['frames_per_s']:.3g} frames/s ({row['parameters'] / 1e6:.1f} M parameters)"
    if row["p50_ms"] is not None:
        text += f"; one frame p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms"
    if "cpu_s_per_frame" in row:
        text += f"; {row['cpu_s_per_frame']:.3g} s of CPU time a frame"
    if "ratio_to_paper" in row:
        text += f"; {row['ratio_to_paper']:.0f} x the paper's configuration"
    return text


def cli(command: Callable[[], int] = main) -> None:
    """Entry point."""
    run_command(command)


if __name__ == "__main__":
    cli()
