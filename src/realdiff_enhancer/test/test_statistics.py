"""The statistics page: divergences against closed forms, bounds, and the command on a small scene and clip."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_core.errors import ConfigError
from realdiff_enhancer.commands.statistics import build_parser, statistics
from realdiff_enhancer.evaluation.assumptions import hill_estimate
from realdiff_enhancer.metrics.divergence import (
    OUTCOMES,
    RESIDUAL_EDGES_PX,
    divergence,
    residual_histogram,
)
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from test_evaluate import write_pairs

CAMERA = CameraModel(400, 300, 180.0, 180.0, 200, 150, baseline_m=0.05)


def _measurement(sigma_px: float, seed: int, holes: float = 0.0) -> Measurement:
    rng = np.random.default_rng(seed)
    clean = np.full((300, 400), 0.9, np.float32)
    depth = CAMERA.disparity_factor / (CAMERA.disparity_factor / 0.9 + sigma_px * rng.standard_normal(clean.shape))
    depth[rng.random(clean.shape) < holes] = np.nan
    return Measurement(CleanContext(clean, CAMERA), depth.astype(np.float32))


def test_histogram_counts_every_known_pixel_once() -> None:
    counts = residual_histogram(_measurement(0.2, 0, holes=0.25))
    assert counts.shape[1] == OUTCOMES and counts.sum() == 300 * 400
    assert counts[:, -1].sum() == pytest.approx(0.25 * 120_000, rel=0.03)
    assert np.flatnonzero(counts.sum(1)).tolist() == [3], "0.8-1 m"


def test_divergence_of_gaussians_is_the_closed_form() -> None:
    wide, narrow = (residual_histogram(_measurement(s, i)) for i, s in enumerate((0.4, 0.2)))
    found = divergence(narrow, wide)
    kl = np.log(0.4 / 0.2) + 0.2**2 / (2 * 0.4**2) - 0.5
    assert found.expected_kl == pytest.approx(kl, rel=0.03)
    # Densities cross at ±c: TV = 2 (Φ(c/0.2) − Φ(c/0.4)).
    from scipy.stats import norm

    c = np.sqrt(2 * np.log(2.0) / (1 / 0.2**2 - 1 / 0.4**2))
    assert found.expected_tv == pytest.approx(2 * (norm.cdf(c / 0.2) - norm.cdf(c / 0.4)), rel=0.03)
    assert found.expected_tv <= found.pinsker_bound
    again = divergence(narrow, residual_histogram(_measurement(0.2, 9)))
    assert again.expected_tv < 0.02 and again.expected_kl < 0.002


def test_divergence_sees_holes_and_bins_are_symmetric() -> None:
    found = divergence(residual_histogram(_measurement(0.2, 0, 0.3)), residual_histogram(_measurement(0.2, 1, 0.0)))
    assert found.expected_tv == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(RESIDUAL_EDGES_PX, -RESIDUAL_EDGES_PX[::-1])


def test_hill_estimate_finds_the_tail_index() -> None:
    pareto = np.random.default_rng(0).pareto(3.0, 400_000) + 1
    assert hill_estimate(pareto) == pytest.approx(3.0, rel=0.15)
    assert np.isnan(hill_estimate(np.ones(10)))


def _run(*arguments: object) -> int:
    return statistics(build_parser().parse_args([str(a) for a in arguments]), "statistics …")


def _clip(folder: Path) -> Path:
    """A wall at 0.9 m with blurred AR(1) noise, σ 0.3 px, ρ 0.8; half its variance never changes."""
    (folder / "depth").mkdir(parents=True)
    np.savetxt(folder / "K.txt", [[180.0, 0, 99.5], [0, 180.0, 67.5], [0, 0, 1]])
    rng = np.random.default_rng(0)

    def noise() -> np.ndarray:
        field = cv2.GaussianBlur(rng.standard_normal((136, 200)), (0, 0), 2.0)
        return field / field.std()

    state = noise()
    for index in range(24):
        state = 0.8 * state + 0.6 * noise()
        depth = 9.0 / (10.0 + 0.3 * state)
        cv2.imwrite(str(folder / "depth" / f"{index:04d}.png"), np.round(1e3 * depth).astype(np.uint16))
    return folder


def test_command_writes_the_page(tmp_path: Path) -> None:
    pairs, clip = write_pairs(tmp_path / "box"), _clip(tmp_path / "rest")
    out = tmp_path / "out"
    arguments = ("--pairs", f"box={pairs}:d435", "--clip", f"rest={clip}:d435", "--models", "none", "gaussian")
    assert _run(*arguments, "--sigma-px", "0.3", "--resamples", "20", "-o", out) == 0
    text = (out / "statistics.md").read_text()
    for part in ("A1: conditional moments", "A2: how near", "A3: bounded support", "Noise over time", "gaussian"):
        assert part in text
    assert "**no**" not in text, "the bounds must hold"
    with (out / "statistics.csv").open() as stream:
        rows = {(r["scene"], r["source"], r["metric"], r["bin"]): r["value"] for r in csv.DictReader(stream)}
    assert float(rows["rest", "real", "ar1", ""]) == pytest.approx(0.8, abs=0.08)
    assert float(rows["rest", "gaussian", "ar1", ""]) < 0.1, "independent noise"
    assert float(rows["rest", "none", "change_px", "1"]) == 0.0
    assert float(rows["box", "none", "a2_mean_tv", ""]) > float(rows["box", "gaussian", "a2_mean_tv", ""])
    assert float(rows["box", "real", "a3_in_range", ""]) == 1.0
    picture = cv2.imread(str(out / "figures" / "box_assumptions.png"))
    assert picture is not None and picture.std() > 10


def test_command_refuses_nonsense(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        _run("-o", tmp_path / "out")
    with pytest.raises(ConfigError, match="sigma-px"):
        _run("--clip", tmp_path, "--sigma-px", "-1", "-o", tmp_path / "out")
