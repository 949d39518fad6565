"""The two-stage model's parts against independent references, and the whole on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from realdiff_core.camera import CameraModel  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.models.base import DepthFrames  # noqa: E402
from realdiff_enhancer.two_stage import codec, fgs, targets  # noqa: E402
from realdiff_enhancer.two_stage.config import (  # noqa: E402
    CodecConfig,
    GuidanceConfig,
    HoleConfig,
    NetworkConfig,
    TwoStageConfig,
)
from realdiff_enhancer.two_stage.decoding import apply_residual, decode_fields, native_size  # noqa: E402
from realdiff_enhancer.two_stage.model_folder import save_model  # noqa: E402
from realdiff_enhancer.two_stage.networks import fine_channels, make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from realdiff_enhancer.two_stage.sampling import region_map  # noqa: E402
from realdiff_enhancer.two_stage.schedule import make_noise_scheduler  # noqa: E402
from scipy.ndimage import gaussian_filter, uniform_filter  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TINY = TwoStageConfig(
    coarse=NetworkConfig(stride=8, channels=(16, 16, 16), norm_groups=8),
    fine=NetworkConfig(stride=4, channels=(16, 16, 16), norm_groups=8),
)
CAMERA = CameraModel(width=96, height=64, fx=384.0, fy=384.0, cx=48.0, cy=32.0, baseline_m=0.05)


def tiny_model(steps: int = 2) -> TwoStageModel:
    torch.manual_seed(3)
    return TwoStageModel(TINY, make_coarse(TINY), make_fine(TINY), steps=steps, device="cpu")


def frames(count: int, previous: tuple[int, ...] = ()) -> DepthFrames:
    depth = np.full((count, 64, 96), 0.8, np.float32)
    depth[:, 20:40, 30:60] = 0.6
    depth[:, :4] = np.nan
    depth[:, -4:] = 5.0
    depth[:, 4:8] = 0.2
    seeds = tuple(100 + len(previous) + i for i in range(count))
    return DepthFrames(depth=depth, colour=None, camera=CAMERA, seeds=seeds, previous_seeds=previous)


def test_residual_code_is_exactly_invertible_and_linear_at_zero() -> None:
    config = CodecConfig()
    residual = torch.tensor([-32.0, -1.0, -0.01, 0.0, 0.01, 0.3, 5.0, 32.0], dtype=torch.float64)
    code = codec.encode_residual(residual, config)
    torch.testing.assert_close(codec.decode_residual(code, config), residual, rtol=1e-9, atol=1e-12)
    assert float(code[4]) == pytest.approx(0.01 / config.scale_px, rel=1e-2)


def test_masked_pool_ignores_holes() -> None:
    values = torch.tensor([[[[1.0, 100.0], [3.0, 100.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    mean, weight = codec.masked_pool(values, mask, 2)
    assert float(mean) == pytest.approx(2.0)
    assert float(weight) == pytest.approx(0.5)


def test_fill_invalid_keeps_known_values_and_stays_in_their_range() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((2, 1, 37, 53), generator=generator)
    weight = (torch.rand((2, 1, 37, 53), generator=generator) > 0.7).float()
    filled = codec.fill_invalid(values * weight, weight)
    assert torch.equal(filled[weight > 0], values[weight > 0])
    assert float(filled.min()) >= float(values[weight > 0].min()) - 1e-6
    assert float(filled.max()) <= float(values[weight > 0].max()) + 1e-6


def test_structural_noise_matches_a_spatial_gaussian() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((80, 100)).astype(np.float32)
    mask = (rng.random((80, 100)) > 0.2).astype(np.float32)
    config = GuidanceConfig(sigma_px=4.0)
    low, _ = fgs.structural_noise(torch.from_numpy(noise)[None, None], torch.from_numpy(mask)[None, None], config)
    expected = gaussian_filter(noise * mask, 4.0, mode="constant") / gaussian_filter(mask, 4.0, mode="constant")
    np.testing.assert_allclose(low[0, 0].numpy()[10:-10, 10:-10], expected[10:-10, 10:-10], atol=5e-3)


def test_structural_noise_does_not_leak_from_holes() -> None:
    code = torch.ones((1, 1, 64, 64))
    mask = torch.ones_like(code)
    mask[..., 20:30, 20:30] = 0
    code[..., 20:30, 20:30] = 1e3
    low, _ = fgs.structural_noise(code, mask, GuidanceConfig())
    torch.testing.assert_close(low, torch.ones_like(low), atol=1e-3, rtol=0)


def test_high_pass_is_the_complement_of_the_low_pass() -> None:
    code = torch.randn((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(code)
    low, _ = fgs.structural_noise(code, mask, GuidanceConfig())
    high, _ = fgs.structural_noise(code, mask, GuidanceConfig(filter="high_pass"))
    torch.testing.assert_close(low + high, code)


def test_region_map_is_the_block_mean_over_the_saved_scale() -> None:
    guidance = GuidanceConfig(discrepancy_scale=2.0, block_px=16)
    predicted = torch.rand((1, 1, 8, 12), generator=torch.Generator().manual_seed(2))
    region = region_map(predicted, 8, guidance)
    assert region.shape == (1, 1, 4, 6)
    assert float(region[0, 0, 1, 2]) == pytest.approx(float(predicted[0, 0, 2:4, 4:6].mean()) / 2.0)


def test_schedule_has_zero_terminal_snr() -> None:
    scheduler = make_noise_scheduler(TINY.schedule)
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-8)
    assert float(scheduler.alphas_cumprod[0]) > 0.99


def test_targets_rebuild_the_real_depth() -> None:
    rng = np.random.default_rng(4)
    clean = np.full((1, 64, 96), 0.9, np.float32)
    smooth = gaussian_filter(rng.standard_normal((64, 96)), 6.0)
    noisy = clean + (0.004 * smooth / smooth.std())[None].astype(np.float32)
    noisy[:, 10:20, 10:30] = np.nan
    factor = torch.tensor([TINY.codec.disparity_factor])
    config = TINY.model_copy(update={"codec": CodecConfig(disparity_step_px=0.0)})
    pair = targets.pair_targets(torch.from_numpy(clean), torch.from_numpy(noisy), factor, config)
    coarse, _ = targets.coarse_target(pair, config)
    fine, _ = targets.fine_target(coarse, pair, config)
    fields = decode_fields(coarse, fine, config)
    _, rebuilt = apply_residual(torch.from_numpy(clean), factor, fields, config)
    result = rebuilt[0].numpy()
    assert np.array_equal(np.isnan(result), np.isnan(noisy[0]))
    valid = ~np.isnan(noisy[0])
    assert np.abs(result - noisy[0])[valid].mean() < 0.25e-3


def test_a_smoothed_hole_field_keeps_wide_holes_and_loses_single_pixels() -> None:
    holes = HoleConfig(target="distance", smooth_px=2)
    config = TINY.model_copy(update={"holes": holes})
    cells, bits = fine_channels(config)
    field = -torch.ones((1, 1, 64, 96))
    field[..., 20, 30] = 1.0
    field[..., 40:52, 50:70] = 1.0
    stride = config.fine.stride
    sample = torch.cat([torch.zeros((1, cells, 64 // stride, 96 // stride)), F.pixel_unshuffle(field, stride)], dim=1)
    assert sample.shape[1] == cells + bits
    coarse = torch.zeros((1, 1, 64 // config.coarse.stride, 96 // config.coarse.stride))
    hole = decode_fields(coarse, sample, config)[2] > 0
    expected = torch.from_numpy(uniform_filter(field.numpy(), (0, 0, 5, 5), mode="nearest") > 0)
    assert torch.equal(hole, expected)
    assert not hole[..., 15:26, 25:36].any() and hole[..., 42:50, 52:68].all()


def test_untouched_pixels_keep_their_value_and_near_ones_become_holes() -> None:
    batch = frames(1)
    result = tiny_model().enhance(batch)
    assert np.isnan(result.depth[0, :4]).all()
    assert np.isnan(result.depth[0, 4:8]).all()
    assert np.array_equal(result.depth[0, -4:], batch.depth[0, -4:])
    assert result.depth.dtype == np.float32
    assert result.discrepancy is not None
    assert float(np.nanmax(result.discrepancy)) <= 1.0


def test_result_does_not_depend_on_the_batch() -> None:
    model = tiny_model()
    together = model.enhance(frames(3)).depth
    alone = tiny_model().enhance(frames(1, previous=(100, 101))).depth
    np.testing.assert_array_equal(together[2], alone[0])


def test_noise_arises_on_the_native_grid() -> None:
    # Twice the focal length of the sensor's own stream: the field is generated at half the size and is as smooth.
    assert native_size(64, 96, 768.0, 384.0) == (32, 48)
    assert native_size(64, 96, 385.0, 384.0) == (64, 96)
    camera = CameraModel(width=96, height=64, fx=768.0, fy=768.0, cx=48.0, cy=32.0, baseline_m=0.05)
    batch = frames(1)
    result = tiny_model().enhance(DepthFrames(depth=batch.depth, colour=None, camera=camera, seeds=batch.seeds))
    assert result.depth.shape == (1, 64, 96)
    assert np.array_equal(result.depth[0, -4:], batch.depth[0, -4:])


def test_seed_changes_the_noise() -> None:
    model = tiny_model()
    batch = frames(1)
    other = DepthFrames(depth=batch.depth, colour=None, camera=CAMERA, seeds=(7,))
    assert not np.array_equal(model.enhance(batch).depth, model.enhance(other).depth, equal_nan=True)


def test_model_folder_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_model(tmp_path / "m", TINY, make_coarse(TINY), make_fine(TINY))
    first = TwoStageModel.from_pretrained(tmp_path / "m", steps=2, device="cpu")
    second = TwoStageModel.from_pretrained(tmp_path / "m", steps=2, device="cpu")
    assert first.weights_sha256 == second.weights_sha256
    np.testing.assert_array_equal(first.enhance(frames(1)).depth, second.enhance(frames(1)).depth)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_model(folder, TINY, make_coarse(TINY), make_fine(TINY))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="is damaged"):
        TwoStageModel.from_pretrained(folder, device="cpu")
    weights.unlink()
    with pytest.raises(ConfigError, match="incomplete"):
        TwoStageModel.from_pretrained(folder, device="cpu")


def test_steps_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps"):
        tiny_model(steps=0)
