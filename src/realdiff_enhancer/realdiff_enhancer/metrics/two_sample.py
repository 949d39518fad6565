"""Classifier two-sample tests: can a classifier tell real from generated crops of frames it has not seen?

Two of them, because one number does not rank: a strong classifier may reach 100 % for every model.

- :func:`network_test`: a small convolutional network trained from scratch. The hard question; 0.5 is perfect.
- :func:`statistics_test`: logistic regression on the named crop statistics. A weak question that models pass by
  degrees, so that they can be ranked.

Limits: the clean depth comes from fusing real frames, so its own errors (registration, rounded corners, bias that all
views share) are in the real residual only, and a classifier may find those instead of a fault of the model. A result
near 0.5 on a few dozen frames says "not told apart with this much data". Training and test parts come from one
sequence: what stays in view throughout is in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import DepthError

from realdiff_enhancer.metrics.classification import TwoSampleResult, logistic_logits, score
from realdiff_enhancer.metrics.crop_statistics import crop_statistics
from realdiff_enhancer.metrics.crops import CROP, MIN_KNOWN, Fold, context_channels, grid_corners, signal_channels
from realdiff_enhancer.metrics.frames import CleanContext, Measurement

if TYPE_CHECKING:
    import torch

#: Optimisation steps of the network per fold; each sees :data:`BATCH` places, real and generated.
NETWORK_STEPS = 250
BATCH = 32
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 1e-2
_MAX_TRIES = 200


def statistics_test(
    real: Sequence[Measurement], generated: Sequence[Measurement], folds: Sequence[Fold], counts: NDArray[np.integer]
) -> TwoSampleResult:
    """Run the weak test: logistic regression on crop statistics, cross-validated by frames.

    Args:
        real: F real frames in temporal order.
        generated: the same frames from a model.
        folds: splits of the frames.
        counts: int [B, F], resamples of the frames for the intervals.

    Returns:
        Held-out scores over all folds.
    """
    tables = {True: [crop_statistics(m) for m in real], False: [crop_statistics(m) for m in generated]}
    logits, truth, frame = [], [], []
    for fold in folds:
        train = np.concatenate([tables[label][i] for label in (True, False) for i in fold.train])
        labels = np.concatenate([np.full(len(tables[label][i]), label) for label in (True, False) for i in fold.train])
        test = np.concatenate([tables[label][i] for label in (True, False) for i in fold.test])
        logits.append(logistic_logits(train, labels, test))
        truth += [np.full(len(tables[label][i]), label) for label in (True, False) for i in fold.test]
        frame += [np.full(len(tables[label][i]), i) for label in (True, False) for i in fold.test]
    return score(np.concatenate(logits), np.concatenate(truth), np.concatenate(frame), counts)


class CropBank:
    """Channels of the frames of a scene as tensors, from which crops are gathered.

    Args:
        contexts: F frames.
        device: torch device name.
    """

    def __init__(self, contexts: Sequence[CleanContext], device: str = "cpu") -> None:
        """Compute and upload the channels that real and generated share."""
        import torch

        self.device = torch.device(device)
        self.known = [context.known for context in contexts]
        self.corners = [grid_corners(known) for known in self.known]
        self._context = self._upload([context_channels(context) for context in contexts])

    def signal(self, measurements: Sequence[Measurement]) -> torch.Tensor:
        """Upload the channels of one source: float16 [F, 2, H, W]."""
        return self._upload([signal_channels(measurement) for measurement in measurements])

    def _upload(self, arrays: list[NDArray[np.float16]]) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.stack(arrays)).to(self.device)

    def gather(self, signal: torch.Tensor, frames: NDArray[np.int64], corners: NDArray[np.int64]) -> torch.Tensor:
        """Cut crops.

        Args:
            signal: float16 [F, 2, H, W] from :meth:`signal`.
            frames: int [N].
            corners: int [N, 2], (top, left).

        Returns:
            float32 [N, 5, CROP, CROP].
        """
        import torch

        f = torch.as_tensor(frames, device=self.device)[:, None, None]
        offset = torch.arange(CROP, device=self.device)
        top_left = torch.as_tensor(corners, device=self.device)
        rows = (top_left[:, :1] + offset)[:, :, None]
        columns = (top_left[:, 1:] + offset)[:, None, :]
        crops = torch.cat([source[f, :, rows, columns] for source in (signal, self._context)], dim=-1)
        crops = crops.permute(0, 3, 1, 2).float()
        known = crops[:, 3]
        mean = (crops[:, 2] * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        crops[:, 2] = ((crops[:, 2] - mean[:, None, None]) * known).clamp(-1, 1)
        return crops

    def random_places(
        self, frames: Sequence[int], number: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw crops anywhere in the given frames with enough known depth: frames [N] and corners [N, 2]."""
        chosen: list[int] = []
        corners: list[tuple[int, int]] = []
        for _ in range(_MAX_TRIES * number):
            frame = int(rng.choice(np.asarray(frames)))
            known = self.known[frame]
            top = int(rng.integers(0, known.shape[0] - CROP + 1))
            left = int(rng.integers(0, known.shape[1] - CROP + 1))
            if known[top : top + CROP, left : left + CROP].mean() >= MIN_KNOWN:
                chosen.append(frame)
                corners.append((top, left))
            if len(chosen) == number:
                break
        else:
            raise DepthError(
                "frames show too little known clean depth to cut crops from",
                expected=f"{CROP}×{CROP} px crops with ≥ {MIN_KNOWN:.0%} known depth",
                got=f"{len(chosen)} in {_MAX_TRIES * number} tries",
            )
        return np.array(chosen, dtype=np.int64), np.array(corners, dtype=np.int64)


def network_test(
    bank: CropBank,
    real: Sequence[Measurement],
    generated: Sequence[Measurement],
    folds: Sequence[Fold],
    counts: NDArray[np.integer],
    seed: int = 0,
    steps: int = NETWORK_STEPS,
    batch: int = BATCH,
) -> TwoSampleResult:
    """Run the strong test: train the network on each fold's training frames and score its test frames.

    Every step shows real and generated at the same random places; half of the steps are flipped upside down. No
    horizontal flips: stereo shadows fall to one side. Deterministic for a seed on one kind of hardware
    (the number of threads changes the last digits).

    Args:
        bank: context channels of the F frames (shared between models).
        real: F real frames in temporal order.
        generated: the same frames from a model.
        folds: splits of the frames.
        counts: int [B, F], resamples of the frames for the intervals.
        seed: seeds initial weights and crop places.
        steps: optimisation steps per fold.
        batch: places a step.

    Returns:
        Held-out scores over all folds, on crops of a fixed grid.
    """
    signals = {True: bank.signal(real), False: bank.signal(generated)}
    logits, truth, frame = [], [], []
    for number, fold in enumerate(folds):
        network = _train(bank, signals[True], signals[False], fold.train, seed + 1000 * number, steps, batch)
        places = [(i, corner) for i in fold.test for corner in bank.corners[i]]
        frames = np.array([i for i, _ in places], dtype=np.int64)
        corners = np.array([corner for _, corner in places], dtype=np.int64).reshape(-1, 2)
        for label, signal in signals.items():
            logits.append(_predict(bank, network, signal, frames, corners))
            truth.append(np.full(len(frames), label))
            frame.append(frames)
    return score(np.concatenate(logits), np.concatenate(truth), np.concatenate(frame), counts)


def _train(
    bank: CropBank, real: Any, generated: Any, frames: Sequence[int], seed: int, steps: int, batch: int
) -> torch.nn.Module:
    import torch

    from realdiff_enhancer.metrics.crop_network import build_network

    rng = np.random.default_rng(seed)
    # The caller's random state stays as it was; deterministic convolutions make a run on CUDA repeatable too.
    devices = [bank.device] if bank.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(enabled=True, deterministic=True):
        torch.manual_seed(seed)
        network = build_network().to(bank.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        target = torch.cat([torch.ones(batch, device=bank.device), torch.zeros(batch, device=bank.device)])
        network.train()
        for step in range(steps):
            places = bank.random_places(frames, batch, rng)
            crops = torch.cat([bank.gather(signal, *places) for signal in (real, generated)])
            if step % 2:
                crops = crops.flip(2)
            crops = crops.contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(crops).squeeze(1), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _predict(
    bank: CropBank, network: torch.nn.Module, signal: Any, frames: NDArray[np.int64], corners: NDArray[np.int64]
) -> NDArray[np.float64]:
    import torch

    parts = []
    with torch.inference_mode():
        for start in range(0, len(frames), 256):
            crops = bank.gather(signal, frames[start : start + 256], corners[start : start + 256])
            parts.append(network(crops.contiguous(memory_format=torch.channels_last)).squeeze(1).double().cpu().numpy())
    return np.concatenate(parts)
