"""What stage II minimises and sees, against the method's formulas: two regions, sampled coarse fields; averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_enhancer.two_stage.sampling import CoarseSample  # noqa: E402
from realdiff_enhancer.two_stage.solver import Denoiser  # noqa: E402
from realdiff_enhancer.two_stage.training import PairStore, TrainConfig, train_run, trainer  # noqa: E402
from realdiff_enhancer.two_stage.training.draws import draw_coarse  # noqa: E402
from realdiff_enhancer.two_stage.training.loop import StageTrainer  # noqa: E402
from realdiff_enhancer.two_stage.training.objectives import CoarseObjective, FineObjective, Term  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from training_parts import (  # noqa: E402
    BLOCK,
    CELLS,
    COARSE,
    FINE,
    HEIGHT,
    WIDTH,
    Probe,
    amplitudes,
    changed,
    configured,
    cut,
    loaded,
    reference_code,
    session,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.npz"
    tiny_training.make_pack(path)
    return path


@pytest.fixture(scope="module")
def whole(pack: Path) -> Path:
    """Pairs without any hole, so that every pixel weighs the same."""
    return changed(pack, "whole", lambda clean, noisy: np.where(noisy == 0, np.rint(clean / 10), noisy))


# Stage II: what the samples of stage I leave, by region


def region_draws(store: PairStore) -> CoarseSample:
    """Coarse samples with a region map that differs from block to block."""
    generator = torch.Generator().manual_seed(4)
    code = 0.4 * torch.randn((len(store), 1, HEIGHT // COARSE, WIDTH // COARSE), generator=generator)
    return CoarseSample(code, torch.rand((len(store), 1, HEIGHT // BLOCK, WIDTH // BLOCK), generator=generator))


@pytest.mark.parametrize(("tau", "worse", "better"), [(0.3, 2.0, 0.25), (0.8, 0.7, 1.9)])
@pytest.mark.parametrize("discrepancy", [True, False])
def test_the_fine_loss_weighs_the_means_of_both_regions(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tau: float,
    worse: float,
    better: float,
    discrepancy: bool,
) -> None:
    """lambda_u · mean over {D > tau} + lambda_s · mean over the rest, for the residual and for the holes."""
    weights = {"weight_unsatisfactory": worse, "weight_satisfactory": better}
    config = configured(whole, {"threshold": tau, "discrepancy": discrepancy, **weights}, warmup_steps=1)
    store = loaded(config)
    draws = region_draws(store)
    objective = FineObjective("fine", store, config, 0, 1, draws)
    network = Probe(20, 20)
    values: list[dict[str, float]] = []
    losses: list[float] = []
    stage = StageTrainer("fine", network, objective, 1, session(config, tmp_path, values), 1e-4)
    backward = stage.session.accelerator.backward

    def noted(loss: Tensor) -> None:
        losses.append(float(loss.detach()))
        backward(loss)

    monkeypatch.setattr(stage.session.accelerator, "backward", noted)
    fine = objective.prepare(0)
    stage.run()

    alpha, sigma = amplitudes(objective, network.timestep)
    noisy, target = (field.double().numpy() for field in (network.seen[:, :20], fine.target))
    noise = (noisy - alpha * target) / sigma
    error = (0.3 * noisy - (alpha * noise - sigma * target)) ** 2
    regions = np.kron(
        cut(draws.discrepancy[:, 0].numpy(), fine.batch, BLOCK), np.ones((1, BLOCK // FINE, BLOCK // FINE))
    )
    mask = np.broadcast_to((regions > tau)[:, None], error.shape)
    assert 0.05 < mask.mean() < 0.95
    expected = 0.0
    for part in (slice(0, CELLS), slice(CELLS, None)):
        errors, inside = error[:, part], mask[:, part]
        if discrepancy:
            expected += worse * errors[inside].mean() + better * errors[~inside].mean()
        else:
            expected += (worse + better) * errors.mean()
    assert losses == [pytest.approx(expected, rel=1e-4)]
    assert values[0]["loss"] == pytest.approx(expected, rel=1e-4)
    seen = network.seen[:, -1].numpy()
    np.testing.assert_allclose(seen, regions if discrepancy else np.zeros_like(regions), atol=1e-6)


def test_unknown_pixels_hardly_count_in_the_fine_loss(pack: Path) -> None:
    """Where the sensor has no depth, there is no residual to be learnt."""
    config = configured(pack)
    store = loaded(config)
    objective = FineObjective("fine", store, config, 0, 1, region_draws(store))
    fine = objective.prepare(0)
    both = cut(reference_code(store)[1], fine.batch, 1)
    empty = both.reshape(len(both), 64 // FINE, FINE, 64 // FINE, FINE).max((2, 4)) == 0
    assert empty.any()
    error = torch.from_numpy(np.where(empty, 1.0, 0.0)).float().unsqueeze(1).expand(-1, 20, -1, -1)
    terms = {term.name: float(term.total / term.weight) for term in fine.terms(error, config.model)}
    assert sum(v for k, v in terms.items() if k.startswith("residual")) < 0.02
    assert sum(v for k, v in terms.items() if k.startswith("holes")) > 0.02


def test_stage_two_sees_the_samples_of_stage_one_and_learns_what_they_leave(pack: Path) -> None:
    """Draw d of frame f is the constant 1 + f + d/8: the condition shows it, and the residual is less by it."""
    config = configured(pack, draws=3)
    store = loaded(config)
    count = len(store)
    number = torch.arange(count * 3)
    constant = (1 + number // 3 + (number % 3) / 8).view(-1, 1, 1, 1)
    code = constant.expand(-1, 1, HEIGHT // COARSE, WIDTH // COARSE)
    region = (constant / 10).expand(-1, 1, HEIGHT // BLOCK, WIDTH // BLOCK)
    sampled = FineObjective("fine", store, config, 0, 1, CoarseSample(code, region))
    nothing = FineObjective("fine", store, config, 0, 1, CoarseSample(0 * code, region))
    used = set()
    for step in range(4):
        fine, rest = sampled.prepare(step), nothing.prepare(step)
        shown = torch.round(8 * fine.fixed[:, -2].flatten(1)) / 8
        torch.testing.assert_close(fine.fixed[:, -2].flatten(1), shown[:, :1].expand_as(shown))
        frames = fine.batch.crops.frames
        assert torch.equal(shown[:, 0].floor().long() - 1, frames)
        torch.testing.assert_close(fine.fixed[:, -1].flatten(1), shown / 10)
        left = rest.target[:, :CELLS] - shown[:, 0].view(-1, 1, 1, 1)
        torch.testing.assert_close(fine.target[:, :CELLS], left, rtol=0, atol=1e-5)
        assert torch.equal(fine.target[:, CELLS:], rest.target[:, CELLS:])  # the holes are whole
        residual, both = (cut(values, fine.batch, 1) for values in reference_code(store))
        cells = (residual * both).reshape(4, 32, 2, 32, 2).sum((2, 4)) / np.maximum(
            both.reshape(4, 32, 2, 32, 2).sum((2, 4)), 1e-9
        )
        full = both.reshape(4, 32, 2, 32, 2).min((2, 4)) > 0
        got = torch.nn.functional.pixel_shuffle(fine.target[:, :CELLS], 2)[:, 0].numpy()
        expected = cells - shown[:, :1].numpy()[:, None]
        np.testing.assert_allclose(got[full], expected[full], atol=1e-4)
        used |= {float(value % 1) for value in shown[:, 0]}
    assert used == {0.0, 0.125, 0.25}


def test_draws_come_from_the_network_and_give_scale_and_tau(pack: Path) -> None:
    """A network that always means the residual 2 gives 2, whatever the frames' own n_L; D is that of its head."""
    config = configured(pack, draws=2)
    store = loaded(config)
    columns = torch.linspace(-2.0, 3.0, WIDTH // COARSE)
    table = CoarseObjective("coarse", store, config, 0, 1)

    class Always(nn.Module):
        def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
            alpha, sigma = (torch.from_numpy(a).float() for a in amplitudes(table, timestep))
            noisy = sample[:, :1]
            return (torch.cat([(alpha * noisy - 2.0) / sigma, columns.expand_as(noisy)], dim=1),)

    draws, model = draw_coarse(store, config, Always())
    assert draws.code.shape == (2 * len(store), 1, HEIGHT // COARSE, WIDTH // COARSE)
    torch.testing.assert_close(draws.code, torch.full_like(draws.code, 2.0), rtol=0, atol=1e-3)
    head = np.log1p(np.exp(columns.double().numpy()))
    blocks = np.tile(head.reshape(-1, BLOCK // COARSE).mean(1), len(draws.code) * HEIGHT // BLOCK)
    assert model.guidance.discrepancy_scale == pytest.approx(np.quantile(blocks, 0.95), rel=1e-4)
    scaled = np.clip(blocks / np.quantile(blocks, 0.95), 0, 1)
    assert model.guidance.threshold == pytest.approx(np.quantile(scaled, 0.7), rel=1e-4)
    np.testing.assert_allclose(draws.discrepancy.flatten().numpy(), scaled, rtol=1e-4)


def test_a_run_trains_stage_two_on_the_draws_it_made(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the distillation of stage II; and tau, measured on the draws, is the one that is used and saved."""
    config = configured(pack, calibration_frames=0, validation_frames=0, sample_every=0, distil_steps=2)
    seen: dict[str, list[tuple[float, float, float]]] = {}
    prepare = FineObjective.prepare

    def seven(store: PairStore, config: TrainConfig, coarse: nn.Module) -> tuple[CoarseSample, Any]:
        guidance = config.model.guidance.model_copy(update={"discrepancy_scale": 0.7, "threshold": 0.123})
        draws = region_draws(store)
        return CoarseSample(torch.full_like(draws.code, 7.0), draws.discrepancy), config.model.model_copy(
            update={"guidance": guidance}
        )

    def spied(self: FineObjective, step: int) -> Any:
        fine = prepare(self, step)
        values = (float(fine.fixed[:, -2].min()), float(fine.fixed[:, -2].max()), self.model.guidance.threshold)
        seen.setdefault(self.name, []).append(values)
        return fine

    monkeypatch.setattr(trainer, "draw_coarse", seven)
    monkeypatch.setattr(FineObjective, "prepare", spied)
    result = train_run(config, tmp_path / "run", report=lambda line: None)
    assert seen == {"fine": [(7.0, 7.0, 0.123)] * 4, "few_fine": [(7.0, 7.0, 0.123)] * 2}
    assert result.config is not None
    assert (result.config.guidance.threshold, result.config.guidance.discrepancy_scale) == (0.123, 0.7)


# Averaged weights


@pytest.mark.parametrize("decay", [0.999, 0.45])
def test_a_stage_returns_the_moving_average_of_its_weights(pack: Path, tmp_path: Path, decay: float) -> None:
    """Weights after every step are averaged with decay 1 − (1 + k)^−3/4, at most `ema_decay`."""
    config = configured(pack, ema_decay=decay, warmup_steps=1)
    weights: list[float] = []
    probe = Probe(1, 2)

    def objective(network: Denoiser, step: int) -> list[Term]:
        weights.append(float(probe.gain.detach()))
        output = network(torch.ones((1, 1, 1, 1)), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
        return [Term("error", 1.0, (output[:, :1] - 5.0).square().sum(), torch.tensor(1.0))]

    running = session(config, tmp_path, [])
    after: list[float] = []
    running.log = lambda stage, step, numbers: after.append(float(probe.gain.detach()))
    averaged = StageTrainer("coarse", probe, objective, 7, running, 0.1).run()
    assert weights[1:] == after[:-1] and weights[0] == pytest.approx(0.3)
    average = weights[0]
    for k, weight in enumerate(after):
        keep = min(decay, 1 - (1 + k) ** -0.75)
        average = keep * average + (1 - keep) * weight
    assert abs(after[-1] - average) > 0.01  # the last weights are others
    assert float(averaged.state_dict()["gain"]) == pytest.approx(average, rel=1e-5)
    assert not averaged.training and not probe.gain.requires_grad
