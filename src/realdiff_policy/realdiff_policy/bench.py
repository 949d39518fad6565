"""``ros2 run realdiff_policy bench``: inference time of a bundle, training speed beside LeRobot's Diffusion Policy."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from realdiff_core.cli import parser, run_command

from realdiff_policy.bundle_path import BUNDLE_HELP, find_bundle

Figure = dict[str, Any]

COMMAND = "ros2 run realdiff_policy bench"
CPU_TARGET_MS, GPU_TARGET_MS = 100.0, 15.0
"""What the project asks of one chunk: on two CPU cores, on an H100."""

_EXAMPLES = """\
  ros2 run realdiff_policy bench --bundle can_to_plate
  ros2 run realdiff_policy bench --data clean --policy diffusion_policy --device cuda
  ros2 run realdiff_policy bench --data clean --policy diffusion_policy --device cuda --lerobot

--lerobot needs LeRobot (pip install lerobot); it trains LeRobot's own Diffusion Policy on the colour images of the same
batches, with the same image size, horizon and precision.
"""
_WARM_UP = 10


def inference(bundle: Path, device: str, chunks: int = 100) -> Iterator[Figure]:
    """Times whole chunks of a bundle: observation in, action rows out.

    Args:
        bundle: The bundle.
        device: "cpu" or "cuda".
        chunks: How many are timed.
    """
    import numpy as np

    from realdiff_policy.bundle import load_bundle
    from realdiff_policy.parity import random_observation
    from realdiff_policy.policies.diffusion_policy.checkpoint import read_record

    policy = load_bundle(bundle, device)
    observations = [random_observation(read_record(bundle), seed) for seed in range(8)]
    times = []
    for number in range(_WARM_UP + chunks):
        began = time.perf_counter()
        policy.predict(observations[number % len(observations)], number)
        times.append(1e3 * (time.perf_counter() - began))
    target = CPU_TARGET_MS if device == "cpu" else GPU_TARGET_MS
    for name, share in (("p50", 50), ("p99", 99)):
        value = float(np.percentile(times[_WARM_UP:], share))
        yield _figure(f"policy: one chunk on {device}, {name}", value, "ms", target)


def training(arguments: argparse.Namespace, steps: int = 60) -> Iterator[Figure]:
    """Times training steps with the data on the device: samples a second, also of LeRobot's policy."""
    from realdiff_policy.commands.train import settings
    from realdiff_policy.training.samples import open_samples
    from realdiff_policy.training.trainer import Trainer

    config = settings(arguments)
    samples = open_samples(config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, samples, Path(folder))
        batches = [batch for _, batch in zip(range(4), trainer.batches(0), strict=False)]
        ours = _rate(trainer, config.batch, lambda number: trainer.step(number, batches[number % 4][1]), steps)
        yield _figure(f"{arguments.policy}: RGB-D, training", ours, "samples/s")
        if not arguments.lerobot:
            return
        colour_only = config.policy.model_copy(update={"depth": None})
        alike = Trainer(config.model_copy(update={"policy": colour_only}), samples, Path(folder))
        rgb = _rate(alike, config.batch, lambda number: alike.step(number, batches[number % 4][1]), steps)
        lerobot = _rate(trainer, config.batch, _lerobot_step(trainer, [batch for _, batch in batches]), steps)
        yield _figure("LeRobot's Diffusion Policy: RGB, training", lerobot, "samples/s")
        yield _figure(f"{arguments.policy}: RGB, training", rgb, "samples/s", lerobot)
        yield _figure(f"{arguments.policy}: RGB-D, training, beside LeRobot's RGB", ours, "samples/s", lerobot)


def _rate(trainer: Any, batch: int, step: Callable[[int], object], steps: int) -> float:
    import torch

    def wait() -> None:
        if trainer.accelerator.device.type == "cuda":
            torch.cuda.synchronize()

    for number in range(min(_WARM_UP, steps)):
        step(number)
    wait()
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    wait()
    return batch * steps / (time.perf_counter() - began)


def _lerobot_step(trainer: Any, batches: list[Any]) -> Callable[[int], object]:
    """LeRobot's policy with its own defaults, on the same colour images, states and actions."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

    policy, device = trainer.config.policy, trainer.accelerator.device
    settings = DiffusionConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
            "observation.image": PolicyFeature(FeatureType.VISUAL, (3, *policy.image)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (policy.action.size,))},
        n_obs_steps=policy.action.observation_steps,
        horizon=policy.action.horizon,
        n_action_steps=policy.action.execute,
        crop_shape=policy.crop,
        down_dims=policy.denoiser.channels,
        device=device.type,
        push_to_hub=False,
    )
    network = DiffusionPolicy(settings).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    statistics = trainer.processor.statistics

    def step(number: int) -> object:
        batch = batches[number % len(batches)]
        given = {
            "observation.image": batch["colour"].permute(0, 1, 4, 2, 3).float() / 255.0,
            "observation.state": statistics.state.normalize(batch["state"]),
            "action": statistics.action.normalize(batch["action"]),
            "action_is_pad": torch.zeros(batch["action"].shape[:2], dtype=torch.bool, device=device),
        }
        with trainer.accelerator.autocast():
            loss, _ = network.forward(given)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return step


def _figure(name: str, value: float, unit: str, baseline: float | None = None) -> Figure:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 2),
        "ratio": None if baseline is None else round(value / baseline, 3),
        "command": COMMAND,
    }


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser("Time a policy: one chunk of a bundle, training steps.", _EXAMPLES, "bench")
    add = arguments.add_argument
    add("--bundle", help=f"time one chunk of a bundle: {BUNDLE_HELP}")
    add("--data", metavar="DIR", action="append", default=[], help="time training steps on these episode bags")
    add("--policy", default="diffusion_policy", help="settings from config/policies (default: %(default)s)")
    add("--config", type=Path, help="settings from a YAML file of your own instead")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="for the bundle (default: %(default)s)")
    add("--lerobot", action="store_true", help="train LeRobot's Diffusion Policy (RGB) as well")
    add("--repeat", type=int, default=60, help="chunks or steps that are timed (default: %(default)s)")
    add("--json", action="store_true", help="print JSON instead of a table")
    arguments.set_defaults(seed=None, steps=None)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints."""
    figures: list[Figure] = []
    if arguments.bundle:
        figures += inference(find_bundle(arguments.bundle), arguments.device, arguments.repeat)
    if arguments.data:
        figures += training(arguments, arguments.repeat)
    if arguments.json:
        print(json.dumps(figures, indent=1))
        return 0
    for figure in figures:
        beside = f"  ({figure['ratio']:.2f} × {figure['baseline']:g})" if figure["baseline"] else ""
        print(f"{figure['name']:<58} {figure['value']:>10.1f} {figure['unit']}{beside}")
    return 0


def cli() -> None:
    """Entry point of `ros2 run realdiff_policy bench`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))


if __name__ == "__main__":
    cli()
