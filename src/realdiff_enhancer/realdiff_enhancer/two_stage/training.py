"""Trainer of both stages: reads top to bottom as the method runs.

1. Coarse stage on the structural noise n_L, with its discrepancy head.
2. The trained coarse stage is *sampled* on the training frames. A sample starts from the frame's own n_L, noised to a
   random level, so that it has the model's artefacts but still belongs to the frame: a sample that is independent of
   the measured frame would only teach the fine stage to undo the coarse one.
3. Fine stage on what the samples leave, weighted by the predicted discrepancy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field
from realdiff_core.errors import ConfigError
from torch import Tensor, nn

from ..data.pairs import PairPack
from ..data.splits import refuse_held_out
from .codec import round_trip_error_mm
from .conditioning import condition, known_mask, pad_to_multiple
from .config import TwoStageConfig
from .networks import FINE_RESIDUAL_FACTOR, fine_channels, make_coarse, make_fine
from .pipeline import save_model
from .sampling import CoarseSample, fine_condition, sample_coarse
from .schedule import make_noise_scheduler, make_sampler
from .targets import PairTargets, coarse_target, discrepancy_target, fine_target, pair_targets

#: Training frames that are sampled together.
_DRAW_BATCH = 16

DEPTH_BINS_M = (0.28, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 4.0)


class PackConfig(BaseModel):
    """One pack of training pairs: file, which kind of noise it shows, and its share of the batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path
    source: str = "real"
    share: float = Field(1.0, gt=0)


class TrainConfig(BaseModel):
    """Settings of a training run.

    Attributes:
        packs: training pairs.
        model: the model's own settings.
        seed: seed of weights, batches and noise.
        coarse_steps, fine_steps: optimiser steps of each stage.
        batch: crops a step.
        crop: height and width of the crops [px], multiples of 32.
        learning_rate: peak of the cosine schedule.
        ema_decay: largest decay of the weights' moving average.
        depth_scale: range of the factor by which clean depth is scaled while the error keeps its disparity.
        draws: coarse samples kept for each training frame.
        draw_steps: sampler steps of those.
        round_trip_limit: largest allowed ratio of the codec's error to the residual, in any depth bin of a pack.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    packs: tuple[PackConfig, ...]
    model: TwoStageConfig = TwoStageConfig()
    seed: int = 0
    coarse_steps: int = Field(4000, ge=1)
    fine_steps: int = Field(6000, ge=1)
    batch: int = Field(32, ge=1)
    crop: tuple[int, int] = (352, 480)
    learning_rate: float = Field(4e-4, gt=0)
    ema_decay: float = Field(0.999, gt=0, lt=1)
    depth_scale: tuple[float, float] = (0.75, 1.33)
    draws: int = Field(6, ge=1)
    draw_steps: int = Field(12, ge=2)
    round_trip_limit: float = Field(0.35, gt=0)


@dataclass
class PairStore:
    """All training pairs in the device's memory: depth [F,H,W] m (NaN unknown), f·B [F], source label and share [F]."""

    clean: Tensor
    noisy: Tensor
    factor: Tensor
    label: Tensor
    probability: Tensor

    @classmethod
    def load(cls, config: TrainConfig, device: torch.device) -> PairStore:
        """Reads the packs' training frames; all must have one image size."""
        parts: list[tuple[Tensor, ...]] = []
        for pack_config in config.packs:
            pack = PairPack.load(pack_config.path)
            refuse_held_out(pack, where=pack_config.path)
            frames = pack.training_indices()
            clean = torch.from_numpy(pack.clean_01mm[frames].astype("float32")).to(device) * 1e-4
            noisy = torch.from_numpy(pack.noisy_mm[frames].astype("float32")).to(device) * 1e-3
            nan = torch.tensor(float("nan"), device=device)
            count = len(frames)
            parts.append(
                (
                    pad_to_multiple(torch.where(clean > 0, clean, nan), float("nan")),
                    pad_to_multiple(torch.where(noisy > 0, noisy, nan), float("nan")),
                    torch.full((count,), config.model.codec.disparity_factor, device=device),
                    torch.full((count,), config.model.sources.index(pack_config.source), device=device),
                    torch.full((count,), pack_config.share / count, device=device),
                )
            )
        sizes = {tuple(p[0].shape[-2:]) for p in parts}
        if len(sizes) != 1:
            raise ConfigError("training packs differ in image size", expected="one size", got=str(sorted(sizes)))
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.clean)


@dataclass
class Batch:
    """Crops: condition depth (scaled), its f·B, labels, targets, and where they were cut."""

    clean: Tensor
    factor: Tensor
    label: Tensor
    targets: PairTargets
    frames: Tensor
    corners: list[tuple[int, int]]
    flip: bool


def batches(store: PairStore, config: TrainConfig, generator: torch.Generator) -> Iterator[Batch]:
    """Endless random crops. Vertical flips only: stereo shadows fall on one side."""
    height, width = (min(c, s) for c, s in zip(config.crop, store.clean.shape[-2:], strict=True))
    block = max(config.model.guidance.block_px, 32)
    while True:
        frames = torch.multinomial(store.probability.cpu(), config.batch, replacement=True, generator=generator)
        spaces = [
            (full - part) // block + 1 for full, part in zip(store.clean.shape[-2:], (height, width), strict=True)
        ]
        picks = [torch.randint(0, space, (len(frames),), generator=generator) * block for space in spaces]
        corners = [(int(y), int(x)) for y, x in zip(*picks, strict=True)]
        frames = frames.to(store.clean.device)
        factor = store.factor[frames]
        crop = [slice_crop(t[frames], corners, height, width) for t in (store.clean, store.noisy)]
        flip = bool(torch.rand(1, generator=generator) < 0.5)
        if flip:
            crop = [c.flip(-2) for c in crop]
        targets = pair_targets(crop[0], crop[1], factor, config.model)
        low, high = config.depth_scale
        scale = low * (high / low) ** torch.rand(len(frames), generator=generator)
        clean = crop[0] * scale.to(crop[0].device).view(-1, 1, 1)
        known = known_mask(clean, config.model.codec).to(clean.dtype).unsqueeze(1)
        targets = PairTargets(targets.code, targets.both * known, targets.hole * known, targets.known * known)
        yield Batch(clean, factor, store.label[frames], targets, frames, corners, flip)


def slice_crop(images: Tensor, corners: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """Cuts one window from each image [N,…,H,W]."""
    return torch.stack(
        [image[..., y : y + height, x : x + width] for image, (y, x) in zip(images, corners, strict=True)]
    )


def check_codec(store: PairStore, config: TrainConfig, report: Callable[[str], None]) -> None:
    """Prints the codec's round-trip error and refuses data that the code can't carry."""
    index = torch.linspace(0, len(store) - 1, min(16, len(store))).long()
    index = index.to(store.clean.device)
    rows = round_trip_error_mm(
        store.clean[index],
        store.noisy[index],
        store.factor[index],
        config.model.codec,
        FINE_RESIDUAL_FACTOR,
        DEPTH_BINS_M,
    )
    for row in rows:
        report(
            f"codec {row['depth_from_m']:.2f}-{row['depth_to_m']:.2f} m: error {row['error_mm']:.2f} mm, "
            f"residual {row['residual_mm']:.2f} mm"
        )
        if row["pixels"] > 1000 and row["error_mm"] > config.round_trip_limit * row["residual_mm"]:
            raise ConfigError(
                "the codec loses too much of the residual",
                where=f"depth {row['depth_from_m']}-{row['depth_to_m']} m",
                expected=f"error under {config.round_trip_limit} of the residual",
                got=f"{row['error_mm']:.2f} mm of {row['residual_mm']:.2f} mm",
                next_step="the pairs' noise may be finer than the residual grid; check their registration",
            )


class StageTrainer:
    """Optimises one network with EMA weights; `finish` returns the averaged network."""

    def __init__(self, network: nn.Module, steps: int, config: TrainConfig, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        network.to(accelerator.device)
        fused = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-2, fused=fused)
        schedule = get_cosine_schedule_with_warmup(optimizer, min(300, max(1, steps // 10)), steps)
        self.network, self.optimizer, self.schedule = accelerator.prepare(network, optimizer, schedule)
        self.ema = EMAModel(network.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.ema.to(accelerator.device)

    def step(self, loss: Tensor) -> None:
        """One optimiser step on a loss."""
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.accelerator.unwrap_model(self.network).parameters())

    def finish(self) -> nn.Module:
        """The network with its averaged weights, ready for sampling."""
        network = self.accelerator.unwrap_model(self.network)
        self.ema.copy_to(network.parameters())
        return network.eval().requires_grad_(False)


def weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of `error` under `weight`, both [N,C,h,w]."""
    return (error * weight).sum() / weight.sum().clamp_min(1.0)


def train(
    config: TrainConfig, output: Path, report: Callable[[str], None] = print, log_every: int = 200
) -> TwoStageConfig:
    """Trains both stages and writes the model folder.

    Args:
        config: settings of the run.
        output: folder for config.json, model.safetensors and train.json.
        report: receives progress lines.
        log_every: steps between progress lines.

    Returns:
        The model's settings with the scales measured in training.

    Raises:
        ConfigError: packs that don't fit together or that the codec can't carry.
    """
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    set_seed(config.seed)
    device = accelerator.device
    torch.backends.cuda.matmul.allow_tf32 = True
    store = PairStore.load(config, device)
    report(f"{len(store)} training pairs of {store.clean.shape[-2]}x{store.clean.shape[-1]} px on {device}")
    check_codec(store, config, report)
    generator = torch.Generator().manual_seed(config.seed)
    history: list[dict[str, float]] = []
    started = time.monotonic()

    def log(stage: str, step: int, total: int, values: dict[str, Tensor]) -> None:
        if step % log_every == 0 or step == total:
            row = {k: float(v.detach()) for k, v in values.items()} | {
                "step": step,
                "seconds": time.monotonic() - started,
            }
            history.append(row | {"stage": {"coarse": 1.0, "fine": 2.0}[stage]})
            shown = ", ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("step", "seconds"))
            report(f"{stage} {step}/{total}: {shown} ({row['seconds']:.0f} s)")

    coarse = _train_coarse(store, config, accelerator, generator, log)
    draws, model_config = _draw_coarse(store, config, coarse, accelerator)
    report(
        f"discrepancy scale {model_config.guidance.discrepancy_scale:.3f}, tau {model_config.guidance.threshold:.3f} "
        f"({time.monotonic() - started:.0f} s)"
    )
    fine = _train_fine(store, draws, config.model_copy(update={"model": model_config}), accelerator, generator, log)
    save_model(output, model_config, coarse, fine)
    record = {"config": config.model_dump(mode="json"), "history": history, "seconds": time.monotonic() - started}
    (output / "train.json").write_text(json.dumps(record, indent=1) + "\n")
    return model_config


def _diffuse(scheduler: Any, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noised target, v target and timesteps for a batch."""
    noise = torch.randn(target.shape, device=target.device)
    steps = torch.randint(0, scheduler.config.num_train_timesteps, (len(target),), generator=generator)
    steps = steps.to(target.device)
    return scheduler.add_noise(target, noise, steps), scheduler.get_velocity(target, noise, steps), steps


def _train_coarse(
    store: PairStore,
    config: TrainConfig,
    accelerator: Accelerator,
    generator: torch.Generator,
    log: Callable[[str, int, int, dict[str, Tensor]], None],
) -> nn.Module:
    scheduler = make_noise_scheduler(config.model.schedule)
    alphas = scheduler.alphas_cumprod.to(accelerator.device)
    trainer = StageTrainer(make_coarse(config.model), config.coarse_steps, config, accelerator)
    source = batches(store, config, generator)
    for step in range(1, config.coarse_steps + 1):
        batch = next(source)
        target, support = coarse_target(batch.targets, config.model)
        fixed = condition(batch.clean, batch.factor, config.model.codec, config.model.coarse.stride, detailed=False)
        noisy, velocity, timesteps = _diffuse(scheduler, target, generator)
        with accelerator.autocast():
            output = trainer.network(torch.cat([noisy, fixed], dim=1), timesteps, class_labels=batch.label).sample
        output = output.float()
        loss_v = weighted_mean((output[:, :1] - velocity) ** 2, support.clamp_min(0.05))
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        estimate = alpha.sqrt() * noisy - (1 - alpha).sqrt() * output[:, :1].detach()
        error, known = discrepancy_target(estimate, batch.targets, config.model)
        loss_p = weighted_mean((F.softplus(output[:, 1:2]) - error) ** 2, known)
        trainer.step(loss_v + 0.1 * loss_p)
        log("coarse", step, config.coarse_steps, {"v": loss_v, "discrepancy": loss_p})
    return trainer.finish()


@torch.no_grad()
def _draw_coarse(
    store: PairStore, config: TrainConfig, coarse: nn.Module, accelerator: Accelerator
) -> tuple[CoarseSample, TwoStageConfig]:
    """Samples the coarse stage on every training frame; measures the discrepancy's scale and threshold.

    Returns:
        Samples stacked as [F·draws, …] (draw d of frame f at f·draws + d), and the settings with the measured values.
    """
    model = config.model
    scheduler = make_sampler(model.schedule)
    generator = torch.Generator(device=accelerator.device).manual_seed(config.seed + 1)
    unscaled = model.model_copy(update={"guidance": model.guidance.model_copy(update={"discrepancy_scale": 1e6})})
    codes, regions = [], []
    scheduler.set_timesteps(config.draw_steps, device=accelerator.device)
    for number, frames in enumerate(torch.arange(len(store), device=store.clean.device).split(_DRAW_BATCH)):
        clean, factor = store.clean[frames], store.factor[frames]
        target, _ = coarse_target(pair_targets(clean, store.noisy[frames], factor, model), model)
        target, clean, factor, label = (
            values.repeat_interleave(config.draws, dim=0) for values in (target, clean, factor, store.label[frames])
        )
        # from nearly pure noise to two thirds of the way: the model decides more or less of the sample
        first = 1 + number % max(1, config.draw_steps * 2 // 3)
        noise = torch.randn(target.shape, device=accelerator.device, generator=generator)
        start = scheduler.add_noise(target, noise, scheduler.timesteps[first].expand(len(target)))
        with accelerator.autocast():
            sample = sample_coarse(
                coarse, scheduler, clean, factor, label, noise, unscaled, config.draw_steps, (first, start)
            )
        codes.append(sample.code)
        regions.append(sample.discrepancy * 1e6)
    code, region = torch.cat(codes), torch.cat(regions)
    scale = float(torch.quantile(region.flatten()[:: max(1, region.numel() // 100_000)], 0.95))
    region = (region / scale).clamp(0, 1)
    threshold = float(torch.quantile(region.flatten()[:: max(1, region.numel() // 100_000)], 0.7))
    guidance = model.guidance.model_copy(update={"discrepancy_scale": scale, "threshold": threshold})
    return CoarseSample(code, region), model.model_copy(update={"guidance": guidance})


def _train_fine(
    store: PairStore,
    draws: CoarseSample,
    config: TrainConfig,
    accelerator: Accelerator,
    generator: torch.Generator,
    log: Callable[[str, int, int, dict[str, Tensor]], None],
) -> nn.Module:
    model = config.model
    guidance = model.guidance
    scheduler = make_noise_scheduler(model.schedule)
    trainer = StageTrainer(make_fine(model), config.fine_steps, config, accelerator)
    cells, _ = fine_channels(model)
    source = batches(store, config, generator)
    for step in range(1, config.fine_steps + 1):
        batch = next(source)
        coarse = _crop_draws(draws, batch, config, generator)
        target, weight = fine_target(coarse.code, batch.targets, model)
        fixed = fine_condition(batch.clean, batch.factor, coarse, model)
        noisy, velocity, timesteps = _diffuse(scheduler, target, generator)
        with accelerator.autocast():
            output = trainer.network(torch.cat([noisy, fixed], dim=1), timesteps, class_labels=batch.label).sample
        error = (output.float() - velocity) ** 2
        unsatisfactory = (fixed[:, -1:] > guidance.threshold).to(error.dtype)
        loss = torch.zeros((), device=error.device)
        values: dict[str, Tensor] = {}
        # the residual and the holes count alike, however many channels each takes
        for name, part in (("residual", slice(0, cells)), ("holes", slice(cells, None))):
            floor = weight[:, part].clamp_min(0.02)
            worse = weighted_mean(error[:, part], floor * unsatisfactory)
            better = weighted_mean(error[:, part], floor * (1 - unsatisfactory))
            loss = loss + guidance.weight_unsatisfactory * worse + guidance.weight_satisfactory * better
            values |= {f"{name}_unsatisfactory": worse, f"{name}_satisfactory": better}
        trainer.step(loss)
        log("fine", step, config.fine_steps, values)
    return trainer.finish()


def _crop_draws(draws: CoarseSample, batch: Batch, config: TrainConfig, generator: torch.Generator) -> CoarseSample:
    """The coarse samples that belong to a batch's crops, one random draw each."""
    pick = torch.randint(0, config.draws, (len(batch.frames),), generator=generator).to(batch.frames.device)
    index = batch.frames * config.draws + pick
    height, width = batch.clean.shape[-2:]
    cropped = []
    for field, cell in ((draws.code, config.model.coarse.stride), (draws.discrepancy, config.model.guidance.block_px)):
        corners = [(y // cell, x // cell) for y, x in batch.corners]
        part = slice_crop(field[index], corners, height // cell, width // cell)
        cropped.append(part.flip(-2) if batch.flip else part)
    return CoarseSample(cropped[0], cropped[1])


__all__ = ["PackConfig", "PairStore", "TrainConfig", "train"]
