"""Recorded depth without its rounding, against depth that was known before it was rounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_training
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError
from realdiff_enhancer.data.pairs import NOISY_UNIT_M, PairPack
from realdiff_enhancer.two_stage.training import TrainConfig, trainer
from realdiff_enhancer.two_stage.training.dequantise import dequantised
from realdiff_enhancer.two_stage.training.store import PairStore
from scipy.ndimage import gaussian_filter

STEP_PX = 1 / 32


def recorded(disparity: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Depth as a camera records it: disparity in 1/32 px, depth in whole mm."""
    return np.round(factor / (np.round(disparity / STEP_PX) * STEP_PX) * 1e3) / 1e3


def run(depth: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    found = dequantised(torch.from_numpy(depth)[None], factor, STEP_PX, NOISY_UNIT_M)
    return found[0].numpy().astype(np.float64)


def slope_with_noise(factor: float, depth_m: float) -> NDArray[np.float64]:
    """Disparity of a slanted plane under noise of 0.05 px that is smooth over some pixels, as stereo noise is."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((96, 128)), 4)
    return factor / depth_m + np.linspace(0, 3, 128) + 0.05 * noise / noise.std()


@pytest.mark.parametrize(
    ("fx", "depth_m"), [(889, 0.4), (384, 0.6), (384, 2.0)], ids=["mm decides", "both alike", "1/32 px decides"]
)
def test_most_of_the_rounding_is_gone_where_the_noise_is_smooth(fx: float, depth_m: float) -> None:
    factor = 0.05 * fx
    disparity = slope_with_noise(factor, depth_m)
    rounded = recorded(disparity, factor)
    before, after = (factor / depth - disparity for depth in (rounded, run(rounded, factor)))
    assert np.std(after) < 0.85 * np.std(before)
    assert np.std(np.diff(after)) < 0.5 * np.std(np.diff(before))  # white noise, which stereo hasn't


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), fx=st.floats(300, 1000), far=st.floats(0.5, 6.0))
def test_it_stays_within_half_a_step_and_keeps_holes_whatever_the_scene(seed: int, fx: float, far: float) -> None:
    rng = np.random.default_rng(seed)
    factor = 0.05 * fx
    depth = np.round(rng.uniform(0.3, far, (24, 32)) * 1e3) / 1e3
    depth[rng.random(depth.shape) < 0.2] = np.nan
    found = run(depth, factor)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(depth))
    valid = ~np.isnan(depth)
    half = np.maximum(STEP_PX / 2 / factor, 0.5e-3 / depth[valid] ** 2)
    assert np.all(np.abs(1 / found[valid] - 1 / depth[valid]) <= half * (1 + 1e-9))


def test_an_outline_stays_where_it_is() -> None:
    depth = np.full((32, 32), 1.5)
    depth[:, 16:] = 0.6
    np.testing.assert_array_equal(run(depth, 19.2), depth)


def test_a_run_from_before_the_setting_goes_on_without_it(tmp_path: Path) -> None:
    without, with_it = (
        TrainConfig.model_validate(tiny_training.settings(tmp_path / "pack.npz", dequantise=chosen))
        for chosen in (False, True)
    )
    trainer._claim(tmp_path / "run", without)
    file = tmp_path / "run" / trainer.CONFIG_NAME
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "dequantise"}))
    trainer._claim(tmp_path / "run", without)
    with pytest.raises(ConfigError, match=r"key dequantise[\s\S]*false[\s\S]*true"):
        trainer._claim(tmp_path / "run", with_it)


def test_training_learns_from_it_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    tiny_training.make_pack(path)
    pack = PairPack.load(path)
    frames = pack.training_indices()
    raw = torch.from_numpy(pack.noisy_mm[frames].astype(np.float32)) * NOISY_UNIT_M
    raw[raw == 0] = torch.nan
    for chosen in (True, False):
        config = TrainConfig.model_validate(tiny_training.settings(path, dequantise=chosen))
        store = PairStore.load(config, torch.device("cpu"))
        assert store is not None
        codec = config.model.codec
        wanted = dequantised(raw, codec.disparity_factor, codec.disparity_step_px, NOISY_UNIT_M) if chosen else raw
        torch.testing.assert_close(store.noisy, wanted, rtol=0, atol=0, equal_nan=True)
