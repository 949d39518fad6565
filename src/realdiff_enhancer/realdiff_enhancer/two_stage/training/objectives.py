"""What each stage minimises. An objective takes the network and a batch and returns losses as (sum, weight) pairs.

Sums and weights are kept apart so that several processes can divide by the weight of the whole batch: the gradient is
then that of one process with the whole batch, whatever weight falls to whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning import SceneFeatures, scene_features
from ..config import TwoStageConfig
from ..geometry import NEAR_8_PX
from ..networks import fine_channels
from ..sampling import CoarseSample, coarse_condition, fine_condition, no_coarse
from ..solver import Denoiser, alpha_sigma, ddim_step, trailing_timesteps
from ..targets import discrepancy_target, fine_target
from .config import TrainConfig
from .store import Batch, PairStore, crop_draws, draw_batch


@dataclass(frozen=True)
class Term:
    """One part of a loss: `factor` · `total` / `weight`."""

    name: str
    factor: float
    total: Tensor
    weight: Tensor


class Objective(Protocol):
    """What a stage minimises."""

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step; everything random in it follows from the step's number."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An objective with something of its own to keep in checkpoints."""

    def state_dict(self) -> dict[str, Any]:
        """What to keep."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`."""
        ...


def weighted(name: str, factor: float, error: Tensor, weight: Tensor) -> Term:
    """A weighted mean as a term; `error` and `weight` [N,C,h,w]."""
    weight = weight.expand_as(error)
    return Term(name, factor, (error * weight).sum(), weight.sum())


class _Stage:
    """What the objectives of one stage share: batches, noise amplitudes by timestep."""

    def __init__(self, name: str, store: PairStore, config: TrainConfig, process: int, processes: int) -> None:
        self.name, self.store, self.config = name, store, config
        self.process, self.processes = process, processes
        schedule = config.model.schedule
        table = [alpha_sigma(schedule, t) for t in range(schedule.train_steps)]
        self.amplitudes = torch.tensor(table, device=store.clean.device, dtype=torch.float32)

    @property
    def model(self) -> TwoStageConfig:
        return self.config.model

    def batch(self, step: int) -> Batch:
        return draw_batch(self.store, self.config, self.name, step, self.process, self.processes)

    def amplitude(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.amplitudes[timesteps].unbind(-1)
        return alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)


class CoarseObjective(_Stage):
    """Stage I: v-prediction of n_L, and the discrepancy that its estimate leaves."""

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step."""
        batch = self.batch(step)
        target, support = _structure(batch)
        fixed = coarse_condition(scene_features(batch.scene, self.model), self.model)
        timesteps = batch.randint(len(self.amplitudes))
        alpha, sigma = self.amplitude(timesteps)
        noise = batch.randn(target.shape)
        noisy = alpha * target + sigma * noise
        output = network(torch.cat([noisy, fixed], dim=1), timesteps, batch.scene.label).float()
        v = output[:, :1]
        terms = [weighted("v", 1.0, (v - (alpha * noise - sigma * target)) ** 2, support.clamp_min(0.05))]
        return [*terms, discrepancy_term(output, alpha * noisy - sigma * v.detach(), batch, self.model)]


def _structure(batch: Batch) -> tuple[Tensor, Tensor]:
    assert batch.targets.low is not None
    assert batch.targets.low_weight is not None
    return batch.targets.low, batch.targets.low_weight


def discrepancy_term(output: Tensor, estimate: Tensor, batch: Batch, model: TwoStageConfig) -> Term:
    """Loss of the discrepancy head against what an estimate of n_L leaves."""
    error, known = discrepancy_target(estimate, batch.targets, model)
    return weighted("discrepancy", 0.1, (F.softplus(output[:, 1:2]) - error) ** 2, known)


@dataclass(frozen=True)
class FineBatch:
    """A batch of stage II: condition, target, weights."""

    batch: Batch
    fixed: Tensor
    target: Tensor
    weight: Tensor
    unsatisfactory: Tensor

    def terms(self, error: Tensor, model: TwoStageConfig) -> list[Term]:
        """Discrepancy-guided loss: residual and holes count alike, however many channels each takes."""
        guidance = model.guidance
        cells, _ = fine_channels(model)
        worse, better = guidance.weight_unsatisfactory, guidance.weight_satisfactory
        terms = []
        for name, part in (("residual", slice(0, cells)), ("holes", slice(cells, None))):
            floor = self.weight[:, part].clamp_min(0.02)
            if not guidance.discrepancy:
                terms.append(weighted(name, worse + better, error[:, part], floor))
                continue
            terms.append(weighted(f"{name}_unsatisfactory", worse, error[:, part], floor * self.unsatisfactory))
            terms.append(weighted(f"{name}_satisfactory", better, error[:, part], floor * (1 - self.unsatisfactory)))
        return terms


class FineObjective(_Stage):
    """Stage II: v-prediction of what the sampled coarse stage leaves, and of the holes."""

    def __init__(
        self,
        name: str,
        store: PairStore,
        config: TrainConfig,
        process: int,
        processes: int,
        draws: CoarseSample | None,
    ) -> None:
        super().__init__(name, store, config, process, processes)
        self.draws = draws

    def prepare(self, step: int) -> FineBatch:
        """The batch of a step."""
        model = self.model
        batch = self.batch(step)
        features = scene_features(batch.scene, model)
        coarse = no_coarse(features, model) if self.draws is None else crop_draws(self.draws, batch, self.config)
        target, weight = fine_target(coarse.code, batch.targets, model)
        weight = weight * _edge_weight(features, target, model)
        fixed = fine_condition(features, coarse, model)
        unsatisfactory = (fixed[:, -1:] > model.guidance.threshold).to(fixed.dtype)
        return FineBatch(batch, fixed, target, weight, unsatisfactory)

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step."""
        fine = self.prepare(step)
        timesteps = fine.batch.randint(len(self.amplitudes))
        alpha, sigma = self.amplitude(timesteps)
        noise = fine.batch.randn(fine.target.shape)
        noisy = alpha * fine.target + sigma * noise
        output = network(torch.cat([noisy, fine.fixed], dim=1), timesteps, fine.batch.scene.label).float()
        return fine.terms((output - (alpha * noise - sigma * fine.target)) ** 2, self.model)


def _edge_weight(features: SceneFeatures, target: Tensor, model: TwoStageConfig) -> Tensor | float:
    """1 + edge_weight within 8 px of a depth edge, on the fine grid [N,1,h,w]."""
    if model.guidance.edge_weight == 0:
        return 1.0
    near = (features.proximity >= NEAR_8_PX).to(target.dtype)
    return 1.0 + model.guidance.edge_weight * F.max_pool2d(near, model.fine.stride // 2)


class Distillation:
    """Progressive distillation (Salimans and Ho 2022) of all few-step samplers at once.

    One network serves 4, 2 and 1 steps, told apart by its label, as shortcut models are told their step size (Frans et
    al. 2024). For the largest number the target of a step is what `substeps` DDIM steps of the teacher reach from the
    same noised sample; for each half of it, what two steps of the network itself (under the label of twice the steps,
    without gradient) reach. Targets are turned into the v that takes DDIM there in one step; in v, the error has the
    weight SNR + 1 of the paper.

    Args:
        teacher: the base network.
        config: settings of the run.
        sources: labels of the base network.
    """

    def __init__(self, teacher: Denoiser, config: TrainConfig, sources: int) -> None:
        self.teacher, self.config, self.sources = teacher, config, sources
        schedule = config.model.schedule
        self.times = {n: [*trailing_timesteps(schedule.train_steps, n), -1] for n in config.distil_to}

    def pick(self, step: int) -> tuple[int, int]:
        """(index into `distil_to`, segment of that grid) of a training step: all segments in turn."""
        segments = [(k, i) for k, n in enumerate(self.config.distil_to) for i in range(n)]
        # one step can start anywhere: give each number of steps the same share of the batches
        index = step % len(self.config.distil_to)
        own = [s for s in segments if s[0] == index]
        return own[(step // len(self.config.distil_to)) % len(own)]

    @torch.no_grad()
    def target(
        self, student: Denoiser, noisy: Tensor, fixed: Tensor, labels: Tensor, index: int, segment: int
    ) -> Tensor:
        """The v at a segment's start that leads to where the teacher leads.

        Args:
            student: the network in training.
            noisy: samples noised to the segment's start.
            fixed: condition.
            labels: source labels.
            index: which number of steps.
            segment: which step of it.
        """
        steps = self.config.distil_to[index]
        start, end = self.times[steps][segment], self.times[steps][segment + 1]
        schedule = self.config.model.schedule
        if index == 0:
            inner = [
                round(start + (end - start) * i / self.config.distil_substeps)
                for i in range(self.config.distil_substeps)
            ]
            network, offset = self.teacher, 0
        else:
            finer = self.times[self.config.distil_to[index - 1]]
            inner = [finer[2 * segment], finer[2 * segment + 1]]
            network, offset = student, self.sources * index
        sample, channels = noisy, noisy.shape[1]
        for time, after in zip(inner, [*inner[1:], end], strict=True):
            step = ddim_step(schedule, time, after)
            times = torch.full((len(sample),), time, device=sample.device, dtype=torch.int64)
            output = network(torch.cat([sample, fixed], dim=1), times, labels + offset).float()[:, :channels]
            sample = step.keep * sample + step.new * (step.alpha * sample - step.sigma * output)
        whole = ddim_step(schedule, start, end)
        clean = (sample - whole.keep * noisy) / whole.new
        return (whole.alpha * noisy - clean) / whole.sigma

    def start(self, index: int, segment: int) -> tuple[int, float, float]:
        """Timestep, alpha and sigma of a segment's start."""
        step = ddim_step(self.config.model.schedule, *self.times[self.config.distil_to[index]][segment : segment + 2])
        return step.timestep, step.alpha, step.sigma


class DistilCoarse(CoarseObjective):
    """Distillation of stage I, the discrepancy head included."""

    def __init__(
        self, name: str, store: PairStore, config: TrainConfig, process: int, processes: int, distillation: Distillation
    ) -> None:
        super().__init__(name, store, config, process, processes)
        self.distillation = distillation

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step."""
        batch = self.batch(step)
        target, support = _structure(batch)
        fixed = coarse_condition(scene_features(batch.scene, self.model), self.model)
        output, wanted, noisy, (alpha, sigma) = _distil(self.distillation, network, batch, target, fixed, step)
        v = output[:, :1]
        terms = [weighted("v", 1.0, (v - wanted) ** 2, support.clamp_min(0.05))]
        return [*terms, discrepancy_term(output, alpha * noisy - sigma * v.detach(), batch, self.model)]


class DistilFine(FineObjective):
    """Distillation of stage II, under the same weights as its training."""

    def __init__(
        self,
        name: str,
        store: PairStore,
        config: TrainConfig,
        process: int,
        processes: int,
        draws: CoarseSample | None,
        distillation: Distillation,
    ) -> None:
        super().__init__(name, store, config, process, processes, draws)
        self.distillation = distillation

    def __call__(self, network: Denoiser, step: int) -> list[Term]:
        """The terms of a step."""
        fine = self.prepare(step)
        output, wanted, _, _ = _distil(self.distillation, network, fine.batch, fine.target, fine.fixed, step)
        return fine.terms((output - wanted) ** 2, self.model)


def _distil(
    distillation: Distillation, network: Denoiser, batch: Batch, target: Tensor, fixed: Tensor, step: int
) -> tuple[Tensor, Tensor, Tensor, tuple[float, float]]:
    """Output of the student, wanted v, noised samples and their amplitudes."""
    index, segment = distillation.pick(step)
    time, alpha, sigma = distillation.start(index, segment)
    noisy = alpha * target + sigma * batch.randn(target.shape)
    labels = batch.scene.label
    wanted = distillation.target(network, noisy, fixed, labels, index, segment)
    times = torch.full((len(noisy),), time, device=noisy.device, dtype=torch.int64)
    output = network(torch.cat([noisy, fixed], dim=1), times, labels + distillation.sources * (1 + index)).float()
    return output, wanted, noisy, (alpha, sigma)
