"""What stage I learns, against scipy: n_L over known pixels only; and data that the code can't carry."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.two_stage.training import PairStore, train_run  # noqa: E402
from realdiff_enhancer.two_stage.training.objectives import CoarseObjective  # noqa: E402
from realdiff_enhancer.two_stage.training.store import check_codec  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from torch import Tensor  # noqa: E402
from training_parts import COARSE, HEIGHT, WIDTH, amplitudes, changed, configured, cut, loaded, reference_code  # noqa: E402


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.npz"
    tiny_training.make_pack(path)
    return path


def reference_structure(store: PairStore, sigma_px: float) -> np.ndarray:
    """n_L: the code, blurred over known pixels only."""
    code, both = reference_code(store)

    def blur(field: np.ndarray) -> np.ndarray:
        return gaussian_filter(field, (0, sigma_px, sigma_px), mode="constant", truncate=6.0)

    return np.asarray(blur(code) / np.maximum(blur(both), 1e-9))


def pooled(field: np.ndarray, cell: int) -> np.ndarray:
    """Means of cells: [F,H,W] to [F,H/cell,W/cell]."""
    return field.reshape(len(field), HEIGHT // cell, cell, WIDTH // cell, cell).mean((2, 4))


@pytest.mark.parametrize("sigma_px", [3.0, 6.0])
def test_stage_one_is_trained_on_the_masked_low_pass_of_whole_frames(pack: Path, sigma_px: float) -> None:
    config = configured(pack, {"sigma_px": sigma_px})
    store = loaded(config)
    code, both = reference_code(store)
    assert (both == 0).any() and np.abs(code).max() > 0.5
    expected = pooled(reference_structure(store, sigma_px), COARSE)
    assert store.targets.low is not None
    np.testing.assert_allclose(store.targets.low[:, 0].numpy(), expected, atol=5e-3)
    assert np.abs(pooled(code, COARSE) - expected).max() > 0.1  # the filter does something


def test_the_high_pass_ablation_is_trained_on_what_the_low_pass_leaves(pack: Path) -> None:
    store = loaded(configured(pack, {"filter": "high_pass"}))
    code, both = reference_code(store)
    rest = (code - reference_structure(store, 6.0)) * both
    count = pooled(both, COARSE)
    expected = pooled(rest, COARSE) / np.maximum(count, 1e-9)
    assert store.targets.low is not None
    known = count > 0
    np.testing.assert_allclose(store.targets.low[:, 0].numpy()[known], expected[known], atol=5e-3)


def test_without_fgs_stage_one_is_trained_on_the_whole_residual(pack: Path) -> None:
    store = loaded(configured(pack, {"filter": "none"}))
    code, both = reference_code(store)
    count = pooled(both, COARSE)
    assert store.targets.low is not None
    known = count > 0
    expected = (pooled(code, COARSE) / np.maximum(count, 1e-9))[known]
    np.testing.assert_allclose(store.targets.low[:, 0].numpy()[known], expected, atol=1e-4)


def test_who_knows_the_structural_noise_has_no_loss_in_stage_one(pack: Path) -> None:
    """The denoising objective's target is n_L: v of the reference leaves nothing, v of anything else does."""
    store = loaded(configured(pack))
    objective = CoarseObjective("coarse", store, configured(pack), 0, 1)
    losses = {}
    for name, field in (("n_L", reference_structure(store, 6.0)), ("code", reference_code(store)[0])):
        target = torch.from_numpy(cut(pooled(field, COARSE), objective.batch(5), COARSE)).unsqueeze(1)

        def oracle(sample: Tensor, timestep: Tensor, labels: Tensor, target: Tensor = target) -> Tensor:
            alpha, sigma = (torch.from_numpy(a) for a in amplitudes(objective, timestep))
            v = (alpha * sample[:, :1] - target) / sigma
            return torch.cat([v, torch.zeros_like(v)], dim=1)

        term = objective(oracle, 5)[0]
        assert term.name == "v"
        losses[name] = float(term.total / term.weight)
    assert losses["n_L"] < 1e-3 < 0.01 < losses["code"]


# Data that the code can't carry


def noise_px(clean_01mm: np.ndarray, amplitude_px: np.ndarray | float) -> np.ndarray:
    """Measured depth [mm] with a residual in disparity [px]."""
    clean = clean_01mm * 1e-4
    return np.rint(1e3 * 19.2 / (19.2 / clean + amplitude_px))


def test_noise_finer_than_the_residual_grid_is_refused_with_its_depth(pack: Path, tmp_path: Path) -> None:
    """A chequerboard behind 1 m has the mean 0 in every cell: the code carries nothing of it."""
    board = np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 2 - 1

    def fine_far_away(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        return noise_px(clean, np.where(clean > 10_000, 0.4 * board, 0.4))

    bad = changed(pack, "board", fine_far_away)
    config = configured(bad, round_trip_limit=0.9)
    lines: list[str] = []
    with pytest.raises(ConfigError, match=r"1\.0-1\.25 m") as caught:
        check_codec(loaded(config), config, lines.append)
    near, far = (re.findall(r"[\d.]+(?= mm)", line) for line in (lines[0], lines[-1]))
    residual_mm = 1e3 * (1.2 - 19.2 / (19.2 / 1.2 + 0.4))
    assert float(far[0]) == pytest.approx(float(far[1]), abs=1.1) == pytest.approx(residual_mm, abs=1.1)
    assert float(near[0]) < 0.2 * float(near[1])
    message = str(caught.value)
    assert "the codec loses too much" in message and "0.9 of the residual" in message and f"{far[0]} mm" in message
    with pytest.raises(ConfigError, match=r"1\.0-1\.25 m"):
        train_run(config, tmp_path / "run", report=lambda line: None)
    assert not (tmp_path / "run" / "coarse").exists()
    generous = configured(bad, round_trip_limit=1.2)
    check_codec(loaded(generous), generous, lambda line: None)


def test_data_whose_noise_the_code_carries_is_accepted_and_its_error_printed(pack: Path) -> None:
    config = configured(pack, round_trip_limit=0.35)
    lines: list[str] = []
    check_codec(loaded(config), config, lines.append)
    assert len(lines) >= 2 and all(
        re.match(r"codec [\d.]+-[\d.]+ m: error [\d.]+ mm, residual", line) for line in lines
    )
    assert "codec 1.00-1.25 m" in lines[-1]


def test_noise_below_the_recorded_step_is_not_refused(pack: Path) -> None:
    """Nearly clean depth has a residual of nothing but rounding, of which the code carries nothing: no loss."""
    board = np.indices((HEIGHT, WIDTH)).sum(0) % 2
    clean = changed(pack, "clean", lambda clean, noisy: np.rint(clean / 10), 2 * board - 1)
    config = configured(clean, round_trip_limit=0.01)
    lines: list[str] = []
    check_codec(loaded(config), config, lines.append)
    assert "error 0.10 mm, residual 0.10 mm" in lines[-1]
