"""What the tests of the training's formulas share: tiny settings, crops as numpy cuts them, a stand-in for networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny_training
import torch
from accelerate import Accelerator
from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.two_stage.training import PairStore, TrainConfig
from realdiff_enhancer.two_stage.training.loop import Session
from realdiff_enhancer.two_stage.training.objectives import CoarseObjective, FineObjective
from realdiff_enhancer.two_stage.training.store import Batch
from torch import Tensor, nn

HEIGHT, WIDTH = tiny_training.SIZE
BLOCK, COARSE, FINE = 16, 8, 4  # px a cell: of the region map, of stage I, of stage II
CELLS = 4  # residual channels of stage II: cells of 2 px on its grid of 4 px
CPU = torch.device("cpu")


def changed(pack: Path, name: str, noise: Any, shift_01mm: np.ndarray | int = 0) -> Path:
    """The pack with other measured depth [mm]: `noise(clean [0.1 mm], noisy [mm])`; then the clean depth is shifted."""
    path = pack.with_name(f"{name}.npz")
    loaded = PairPack.load(pack)
    fields = {field: getattr(loaded, field) for field in loaded.__dataclass_fields__}
    fields["noisy_mm"] = np.asarray(noise(loaded.clean_01mm, loaded.noisy_mm)).astype(np.uint16)
    fields["clean_01mm"] = (loaded.clean_01mm + shift_01mm).astype(np.uint16)
    PairPack(**fields).save(path)
    return path


def configured(pack: Path, guidance: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    """Tiny settings without scaling of depth; the loss has no weights but those of the method."""
    settings = {"depth_scale": [1.0, 1.0], "draws": 1, **changes}
    return TrainConfig.model_validate(
        tiny_training.settings(pack, **settings, model={"guidance": {"edge_weight": 0.0, **(guidance or {})}})
    )


def loaded(config: TrainConfig) -> PairStore:
    store = PairStore.load(config, CPU)
    assert store is not None
    return store


def cut(field: np.ndarray, batch: Batch, cell: int) -> np.ndarray:
    """The crops of a batch from fields of whole frames [F,H/cell,W/cell], one after the other."""
    crops, found = batch.crops, []
    for frame, top, left, flip in zip(crops.frames, crops.top, crops.left, crops.flip, strict=True):
        rows = slice(int(top) // cell, (int(top) + crops.height) // cell)
        columns = slice(int(left) // cell, (int(left) + crops.width) // cell)
        window = field[int(frame), rows, columns]
        found.append(window[::-1] if flip else window)
    return np.stack(found)


class Probe(nn.Module):
    """Stands for a network: its output is a multiple of the noised sample; remembers what it was given."""

    def __init__(self, diffused: int, outputs: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.diffused, self.outputs = diffused, outputs

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.seen, self.timestep = sample.detach(), timestep
        mean = sample[:, : self.diffused].mean(1, keepdim=True)
        return (torch.cat([self.gain * sample[:, : self.diffused], *[mean] * (self.outputs - self.diffused)], 1),)


def session(config: TrainConfig, run: Path, values: list[dict[str, float]]) -> Session:
    return Session(
        config,
        Accelerator(cpu=True),
        run,
        report=lambda line: None,
        log=lambda stage, step, numbers: values.append(numbers),
    )


def amplitudes(objective: CoarseObjective | FineObjective, timestep: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise at timesteps, as float64 [N,1,1,1]."""
    table = objective.amplitudes.double().numpy()[timestep.numpy()]
    return table[:, 0].reshape(-1, 1, 1, 1), table[:, 1].reshape(-1, 1, 1, 1)


def reference_code(store: PairStore) -> tuple[np.ndarray, np.ndarray]:
    """Residual code asinh(n / 0.15 px) [F,H,W], 0 where unknown, and where it is known."""
    clean, noisy = store.clean.double().numpy(), store.noisy.double().numpy()
    both = np.isfinite(clean) & np.isfinite(noisy)
    factor = store.factor.double().numpy()[:, None, None]
    return np.where(both, np.arcsinh((factor / noisy - factor / clean) / 0.15), 0.0), both.astype(float)
