"""All training pairs in the device's memory, and the random crops of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from realdiff_core.errors import ConfigError
from torch import Tensor

from ...data.pairs import CLEAN_UNIT_M, NOISY_UNIT_M, PairPack, refuse_other_baseline
from ...data.splits import refuse_held_out
from ..codec import round_trip_error_mm
from ..conditioning import SIDE_MULTIPLE, Scene, known_mask, pad_to_multiple
from ..config import CodecConfig
from ..decoding import native_size
from ..sampling import CoarseSample
from ..targets import PairTargets, frame_styles, pair_targets, with_structure
from .config import TrainConfig
from .dequantise import dequantised

DEPTH_BINS_M = (0.28, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 4.0)
_CHUNK = 16  # frames whose targets are computed together

#: An error of the codec under a quarter of the recorded step (1 mm) is none.
_NEGLIGIBLE_MM = 0.25


@dataclass
class PairStore:
    """All training pairs on the device, on the pixel grid of the sensor's own depth stream, as in use.

    Attributes:
        clean, noisy: depth [F,H,W] m, NaN unknown or hole; sides padded to multiples of `SIDE_MULTIPLE`.
        factor: f·B [F] of the sensor's own depth stream.
        label: source label [F].
        probability: share of each frame in the batches [F], on the host.
        targets: of whole frames, computed once: they don't depend on crop or scale.
        style: [F,3].
        grey: luminance uint8 [F,H/2,W/2]; None where no pack has one.
        has_grey: bool [F].
    """

    clean: Tensor
    noisy: Tensor
    factor: Tensor
    label: Tensor
    probability: Tensor
    targets: PairTargets
    style: Tensor
    grey: Tensor | None
    has_grey: Tensor

    @classmethod
    def load(
        cls,
        config: TrainConfig,
        device: torch.device,
        *,
        validation: bool = False,
        packs: Sequence[PairPack] | None = None,
    ) -> PairStore | None:
        """Takes the packs' training (or validation) frames to the device.

        Frames of another focal length than the sensor's own are resampled to its grid, as `TwoStageModel` does in use;
        on it, all must have one size.

        Args:
            config: settings of the run.
            device: where the pairs will live.
            validation: the pairs that are kept out of training instead.
            packs: those of `config.packs`, if they have been read already.

        Returns:
            The pairs; None if validation pairs are asked for and there are none.

        Raises:
            ConfigError: image sizes or baselines differ, there is nothing to train on, or a pack holds frames of
                held-out scenes.
        """
        codec = config.model.codec
        parts: list[tuple[Tensor, ...]] = []
        for pack_config, pack in zip(config.packs, packs or read_packs(config), strict=True):
            refuse_held_out(pack, where=pack_config.path)
            frames = pack.validation_indices() if validation else pack.training_indices()
            if not len(frames):
                continue
            refuse_other_baseline(
                pack.baseline_m,
                codec.baseline_m,
                whose="the model (model.codec.baseline_m)",
                where=pack_config.path,
                next_step=f"train a model of its own for this camera, with model.codec.baseline_m: {pack.baseline_m:g}",
            )
            height, width = pack.clean_01mm.shape[1:]
            size = native_size(height, width, float(pack.K[0, 0]), codec.native_fx_px)
            parts.append(
                (
                    _depth(pack.clean_01mm[frames], CLEAN_UNIT_M, size, device),
                    _depth(pack.noisy_mm[frames], NOISY_UNIT_M, size, device, codec if config.dequantise else None),
                    torch.full((len(frames),), codec.disparity_factor, device=device),
                    torch.full((len(frames),), config.model.sources.index(pack_config.source), device=device),
                    torch.full((len(frames),), pack_config.share / len(frames)),
                    _grey(pack.grey, frames, size, device),
                    torch.full((len(frames),), pack.grey is not None, device=device),
                )
            )
        if not parts:
            if validation:
                return None
            raise ConfigError("there is nothing to train on", expected="training frames in a pack", got="none")
        sizes = {tuple(p[0].shape[-2:]) for p in parts}
        if len(sizes) != 1:
            raise ConfigError(
                "training packs differ in image size on the sensor's own pixel grid",
                expected="one size",
                got=str(sorted(sizes)),
                next_step="train on packs of one size, or make pairs of recordings of one resolution",
            )
        clean, noisy, factor, label, probability, grey, has_grey = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        targets, styles = [], []
        for some in torch.arange(len(clean), device=device).split(_CHUNK):
            found = with_structure(pair_targets(clean[some], noisy[some], factor[some], config.model), config.model)
            styles.append(frame_styles(found, clean[some], factor[some], codec))
            targets.append(found)
        used = grey if config.model.condition.colour and bool(has_grey.any()) else None
        return cls(clean, noisy, factor, label, probability, _joined(targets), torch.cat(styles), used, has_grey)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.clean)

    def frames(self, index: Tensor) -> tuple[Scene, PairTargets]:
        """Whole frames as scenes, with their targets."""
        grey = None
        if self.grey is not None:
            grey = self.grey[index].float() / 255.0
            grey = torch.where(self.has_grey[index].view(-1, 1, 1), grey, torch.full_like(grey, float("nan")))
        scene = Scene(self.clean[index], self.factor[index], self.label[index], grey, self.style[index])
        return scene, _map(self.targets, lambda v: v[index])


def read_packs(config: TrainConfig) -> list[PairPack]:
    """The packs of a run, in the order of its settings."""
    return [PairPack.load(pack.path) for pack in config.packs]


@dataclass(frozen=True)
class Batch:
    """Crops of a step, this process's part.

    Attributes:
        scene: condition depth (scaled), labels, colour, style.
        targets: of the crops.
        crops: where they were cut.
        generator: random numbers of this step for whole batches, the same in every process.
        part: this process's samples of the whole batch.
        total: samples of the whole batch.
    """

    scene: Scene
    targets: PairTargets
    crops: Crops
    generator: torch.Generator
    part: slice
    total: int

    def randn(self, shape: torch.Size) -> Tensor:
        """Standard normal numbers for this part of the batch: [len(part), *shape[1:]]."""
        device = self.scene.depth.device
        return torch.randn((self.total, *shape[1:]), generator=self.generator, device=device)[self.part]

    def randint(self, high: int) -> Tensor:
        """One integer of [0, high) for each sample of this part."""
        device = self.scene.depth.device
        return torch.randint(0, high, (self.total,), generator=self.generator, device=device)[self.part]


@dataclass(frozen=True)
class Crops:
    """Windows of frames; rows run backwards where a crop is flipped.

    Attributes:
        frames: [N].
        top, left: [N], multiples of the largest cell [px].
        flip: bool [N]. Vertical only: stereo shadows fall on one side.
        height, width: [px].
    """

    frames: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor
    height: int
    width: int

    def cut(self, images: Tensor, cell: int = 1, index: Tensor | None = None) -> Tensor:
        """The windows of images [F,C,H/cell,W/cell] or [F,H/cell,W/cell]; one gather for the whole batch.

        Args:
            images: fields of all frames.
            cell: their pixels per cell.
            index: entries of `images` to cut from; the frames if None.
        """
        height, width = self.height // cell, self.width // cell
        rows = torch.arange(height, device=images.device)
        rows = torch.where(self.flip[:, None], height - 1 - rows, rows) + (self.top // cell)[:, None]
        columns = torch.arange(width, device=images.device) + (self.left // cell)[:, None]
        which = (self.frames if index is None else index)[:, None, None]
        if images.ndim == 3:
            return images[which, rows[:, :, None], columns[:, None, :]]
        channels = [images[which, channel, rows[:, :, None], columns[:, None, :]] for channel in range(images.shape[1])]
        return torch.stack(channels, dim=1)


def step_seed(seed: int, stage: str, step: int) -> int:
    """Seed of everything random in one step of a stage, so that a resumed run draws what it would have drawn."""
    entropy = np.random.SeedSequence([seed, step, *stage.encode()])
    return int(entropy.generate_state(2, np.uint32).view(np.uint64)[0] >> 1)


def draw_batch(store: PairStore, config: TrainConfig, stage: str, step: int, process: int, processes: int) -> Batch:
    """The crops of a step: the same whole batch on any number of processes, of which each takes its part."""
    model = config.model
    host = torch.Generator().manual_seed(step_seed(config.seed, stage, step))
    device = store.clean.device
    height, width = (min(c, s) for c, s in zip(config.crop, store.clean.shape[-2:], strict=True))
    block = max(model.guidance.block_px, 32)
    count = config.batch
    frames = torch.multinomial(store.probability, count, replacement=True, generator=host)
    spaces = [(full - part) // block + 1 for full, part in zip(store.clean.shape[-2:], (height, width), strict=True)]
    top, left = (torch.randint(0, space, (count,), generator=host) * block for space in spaces)
    flip = torch.rand(count, generator=host) < 0.5
    low, high = config.depth_scale
    scale = low * (high / low) ** torch.rand(count, generator=host)
    gain = torch.exp(config.brightness * (2 * torch.rand(count, generator=host) - 1))
    hidden = torch.rand(count, generator=host) < config.colour_dropout
    share = count // processes
    part = slice(share * process, share * (process + 1))
    packed = torch.stack(
        [frames.double(), top.double(), left.double(), flip.double(), scale.double(), gain.double(), hidden.double()]
    )
    if device.type == "cuda":
        packed = packed.pin_memory()  # one copy that nothing waits for
    packed = packed[:, part].to(device, non_blocking=True)
    crops = Crops(packed[0].long(), packed[1].long(), packed[2].long(), packed[3] > 0, height, width)
    clean = crops.cut(store.clean) * packed[4].float().view(-1, 1, 1)
    cut = _cut_targets(store.targets, crops, config)
    known = known_mask(clean, model.codec).to(clean.dtype).unsqueeze(1)
    targets = replace(cut, both=cut.both * known, hole=cut.hole * known, known=cut.known * known)
    grey = None
    if store.grey is not None:
        grey = (crops.cut(store.grey, 2).float() / 255.0 * packed[5].float().view(-1, 1, 1)).clamp(0, 1)
        shown = (store.has_grey[crops.frames] & (packed[6] == 0)).view(-1, 1, 1)
        grey = torch.where(shown, grey, torch.full_like(grey, float("nan")))
    scene = Scene(clean, store.factor[crops.frames], store.label[crops.frames], grey, store.style[crops.frames])
    generator = torch.Generator(device=device).manual_seed(step_seed(config.seed, stage + " noise", step))
    return Batch(scene, targets, crops, generator, part, count)


def crop_draws(draws: CoarseSample, batch: Batch, config: TrainConfig) -> CoarseSample:
    """The coarse samples that belong to a batch's crops, one random draw each."""
    index = batch.crops.frames * config.draws + batch.randint(config.draws)
    model = config.model
    return CoarseSample(
        batch.crops.cut(draws.code, model.coarse.stride, index),
        batch.crops.cut(draws.discrepancy, model.guidance.block_px, index),
    )


def check_codec(store: PairStore, config: TrainConfig, report: Callable[[str], None]) -> None:
    """Prints the codec's round-trip error and refuses data that the code can't carry."""
    index = torch.linspace(0, len(store) - 1, min(16, len(store))).long().to(store.clean.device)
    rows = round_trip_error_mm(
        store.clean[index],
        store.noisy[index],
        store.factor[index],
        config.model.codec,
        config.model.residual_px,
        DEPTH_BINS_M,
    )
    for row in rows:
        report(
            f"codec {row['depth_from_m']:.2f}-{row['depth_to_m']:.2f} m: error {row['error_mm']:.2f} mm, "
            f"residual {row['residual_mm']:.2f} mm"
        )
        limit_mm = max(config.round_trip_limit * row["residual_mm"], _NEGLIGIBLE_MM)
        if row["pixels"] > 1000 and row["error_mm"] > limit_mm:
            raise ConfigError(
                "the codec loses too much of the residual",
                where=f"depth {row['depth_from_m']}-{row['depth_to_m']} m",
                expected=f"error under {config.round_trip_limit} of the residual",
                got=f"{row['error_mm']:.2f} mm of {row['residual_mm']:.2f} mm",
                next_step="the pairs' noise may be finer than the residual grid; check their registration",
            )


def _cut_targets(targets: PairTargets, crops: Crops, config: TrainConfig) -> PairTargets:
    assert targets.low is not None
    assert targets.low_weight is not None
    stride = config.model.coarse.stride
    return PairTargets(
        code=crops.cut(targets.code),
        both=crops.cut(targets.both),
        hole=crops.cut(targets.hole),
        known=crops.cut(targets.known),
        field=crops.cut(targets.field, config.model.holes.factor),
        low=crops.cut(targets.low, stride),
        low_weight=crops.cut(targets.low_weight, stride),
    )


def _depth(
    images: np.ndarray, unit_m: float, size: tuple[int, int], device: torch.device, rounded: CodecConfig | None = None
) -> Tensor:
    """Depth on the sensor's own grid: uint16 [F,H,W] in steps of `unit_m` to float [F,h,w] m, NaN for 0, padded.

    With the codec of the sensor that rounded it, without the rounding.
    """
    steps = torch.from_numpy(images.astype("float32")).to(device)
    depth = torch.where(steps > 0, steps * unit_m, torch.full_like(steps, math.nan))
    if rounded is not None:
        for chunk in depth.split(_CHUNK):  # views
            chunk.copy_(dequantised(chunk, rounded.disparity_factor, rounded.disparity_step_px, unit_m))
    if size != tuple(depth.shape[-2:]):
        depth = F.interpolate(depth.unsqueeze(1), size=size, mode="nearest-exact").squeeze(1)
    return pad_to_multiple(depth, math.nan)


def _grey(grey: np.ndarray | None, frames: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """Luminance at half the resolution of the sensor's own grid, uint8 [F,H/2,W/2] padded; zeros where there is none.

    Args:
        grey: of the whole pack, uint8 [N,h,w] of any resolution.
        frames: those wanted.
        size: of the sensor's own grid.
        device: where it will live.
    """
    padded = tuple(side + (-side % SIDE_MULTIPLE) for side in size)
    half = (padded[0] // 2, padded[1] // 2)
    if grey is None:
        return torch.zeros((len(frames), *half), dtype=torch.uint8, device=device)
    images = torch.from_numpy(grey[frames]).to(device)
    if images.shape[-2:] != (size[0] // 2, size[1] // 2):
        # as in use: to the grid, then the means of 2x2 pixels
        native = F.interpolate(images.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=False)
        native = F.pad(native, (0, padded[1] - size[1], 0, padded[0] - size[0]))
        return F.avg_pool2d(native, 2).squeeze(1).round().byte()
    return F.pad(images, (0, half[1] - images.shape[-1], 0, half[0] - images.shape[-2]))


def _map(targets: PairTargets, function: Callable[[Tensor], Tensor]) -> PairTargets:
    return PairTargets(**{name: function(getattr(targets, name)) for name in targets.__dataclass_fields__})


def _joined(parts: list[PairTargets]) -> PairTargets:
    names = PairTargets.__dataclass_fields__
    return PairTargets(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})
