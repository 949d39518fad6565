"""Samplers, geometry, hole fields, device noise and styles against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from concurrent.futures import ThreadPoolExecutor  # noqa: E402

from diffusers import DPMSolverMultistepScheduler  # noqa: E402
from realdiff_core.config import camera_profile  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.models.noise import FIXED_LAYERS, CorrelatedNoise  # noqa: E402
from realdiff_enhancer.two_stage import conditioning, geometry, targets  # noqa: E402
from realdiff_enhancer.two_stage.camera import for_profile, on_stream  # noqa: E402
from realdiff_enhancer.two_stage.codec import decode_residual  # noqa: E402
from realdiff_enhancer.two_stage.config import (  # noqa: E402
    ConditionConfig,
    HoleConfig,
    ScheduleConfig,
    StepCalibration,
    StyleConfig,
    TwoStageConfig,
)
from realdiff_enhancer.two_stage.decoding import apply_residual, decode_fields  # noqa: E402
from realdiff_enhancer.two_stage.device_noise import DeviceNoise  # noqa: E402
from realdiff_enhancer.two_stage.networks import fine_channels  # noqa: E402
from realdiff_enhancer.two_stage.sampling import plan_for  # noqa: E402
from realdiff_enhancer.two_stage.schedule import shifted_cosine_betas  # noqa: E402
from realdiff_enhancer.two_stage.solver import multistep_plan, solve  # noqa: E402
from scipy.ndimage import distance_transform_edt  # noqa: E402
from torch import Tensor  # noqa: E402


def toy(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
    """Some smooth function in place of a network."""
    return torch.tanh(sample[:, :1] * 0.7 + timestep.view(-1, 1, 1, 1) / 2000)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 20, 50])
def test_multistep_sampler_equals_that_of_diffusers(steps: int) -> None:
    config = ScheduleConfig()
    reference = DPMSolverMultistepScheduler(
        num_train_timesteps=config.train_steps,
        trained_betas=shifted_cosine_betas(config),
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        final_sigmas_type="zero",
    )
    reference.set_timesteps(steps)
    plan = multistep_plan(config, steps)
    assert [s.timestep for s in plan] == reference.timesteps.tolist()
    sample = noise = torch.randn((2, 1, 5, 5), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, dtype=torch.int64)
    for time in reference.timesteps:
        sample = reference.step(toy(sample, time.expand(2), labels), time, sample).prev_sample
    got, _ = solve(toy, plan, noise, noise[:, :0], labels)
    torch.testing.assert_close(got, sample, rtol=2e-4, atol=2e-4)


def test_distilled_numbers_of_steps_have_labels_of_their_own() -> None:
    config = TwoStageConfig(few_steps=(4, 2, 1))
    assert [plan_for(config, n)[1] for n in (50, 4, 2, 1)] == [0, 2, 4, 6]
    assert all(step.old == 0 for step in plan_for(config, 4)[0])
    with pytest.raises(ValueError, match="halve"):
        TwoStageConfig(few_steps=(4, 3))


def test_incidence_of_a_tilted_plane() -> None:
    # z = z0 + t·X along the columns: its normal makes the angle atan(t) with the axis at the image centre
    fx, tangent = 384.0, 0.6
    u = (np.arange(128) - 64.0) / fx
    depth = np.broadcast_to(1.0 / (1.0 - tangent * u), (96, 128)).astype(np.float32)
    disparity = torch.from_numpy(19.2 / depth)[None, None]
    half = torch.nn.functional.avg_pool2d(disparity, 2)
    features = geometry.geometry_features(half, fx)
    assert float(features[0, 2, 24, 32]) == pytest.approx(1 / math.sqrt(1 + tangent**2), abs=0.01)
    assert float(features[0, 0, 24, 32]) == pytest.approx(math.asinh(tangent) / 3, abs=0.01)
    assert float(features[0, 1, 24, 32]) == pytest.approx(0.0, abs=0.01)


def test_occlusion_shadow_lies_left_of_a_near_box_and_is_as_wide_as_the_jump() -> None:
    disparity = torch.full((1, 1, 40, 100), 20.0)
    disparity[..., 10:30, 60:80] = 40.0  # a jump of 20 px is 10 cells
    blocked = geometry.geometry_features(disparity, 384.0)[0, 6, 20]
    shadow = torch.nonzero(blocked > 0).flatten()
    assert shadow.min() == pytest.approx(50, abs=1)
    assert shadow.max() == 59


def test_edge_proximity_counts_octaves() -> None:
    disparity = torch.full((1, 1, 32, 160), 20.0)
    disparity[..., 80:] = 30.0
    level = geometry.edge_proximity(disparity)[0, 0, 16]
    # the edge is at the cells 79 and 80; a cell is two pixels
    assert [int(level[79 - k]) for k in (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32)] == [6, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0]


@pytest.mark.parametrize("reach", [3, 4, 6])
def test_hole_field_is_about_the_signed_distance_and_its_sign_is_the_hole(reach: int) -> None:
    rng = np.random.default_rng(0)
    hole = np.zeros((64, 80), bool)
    hole[20:40, 10:50] = True
    hole[5, 70] = True
    hole[45:60, 60:63] = rng.random((15, 3)) > 0.3
    config = HoleConfig(target="distance", reach_px=reach)
    field = targets.hole_field(torch.from_numpy(hole.astype(np.float32))[None, None], config)[0, 0].numpy()
    assert np.array_equal(field > 0, hole)
    exact = np.where(hole, distance_transform_edt(hole) - 0.5, 0.5 - distance_transform_edt(~hole))
    expected = np.clip(exact / (reach - 0.5), -1, 1)
    assert np.abs(field - expected).max() < 0.35
    assert np.abs(field - expected).mean() < 0.03


def test_features_of_a_crop_are_those_of_the_frame_away_from_its_border() -> None:
    config = TwoStageConfig(condition=ConditionConfig(geometry=True, colour=True, style=True))
    generator = torch.Generator().manual_seed(0)
    depth = torch.full((1, 192, 256), 1.0)
    depth[:, 60:120, 90:150] = 0.6
    grey = torch.rand((1, 96, 128), generator=generator)
    factor, label = torch.tensor([19.2]), torch.tensor([0])
    style = torch.tensor([[0.1, 0.2, 0.3]])
    whole = conditioning.scene_features(conditioning.Scene(depth, factor, label, grey, style), config)
    part = conditioning.scene_features(
        conditioning.Scene(depth[:, 32:, 32:], factor, label, grey[:, 16:, 16:], style), config
    )
    torch.testing.assert_close(part.full[..., 40:, 40:], whole.full[..., 72:, 72:])
    torch.testing.assert_close(part.half[..., 40:, 40:], whole.half[..., 56:, 56:])
    for stride, detailed in ((8, False), (4, True)):
        channels = conditioning.condition(whole, stride, detailed=detailed).shape[1]
        assert channels == conditioning.condition_channels(config, stride, detailed=detailed)


def test_style_is_measured_as_it_is_configured() -> None:
    config = TwoStageConfig()
    rng = np.random.default_rng(1)
    clean = np.full((1, 192, 256), 1.0, np.float32)
    clean[:, 60:120, 90:150] = 0.6
    noisy = 19.2 / (19.2 / clean + 0.12 * rng.standard_normal(clean.shape).astype(np.float32))
    noisy[rng.random(clean.shape) < 0.05] = np.nan
    factor = torch.tensor([19.2])
    pair = targets.pair_targets(torch.from_numpy(clean), torch.from_numpy(noisy), factor, config)
    found = targets.frame_styles(pair, torch.from_numpy(clean), factor, config.codec)
    expected = conditioning.style_tensor(
        StyleConfig(edge_holes=0.05, far_holes=0.05, sigma_px=0.12), config.codec, torch.device("cpu")
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0.12)


def test_a_profile_sets_style_and_grid_and_a_wrong_key_is_refused() -> None:
    profile = camera_profile("d435")
    config = TwoStageConfig()
    assert for_profile(config, profile) == config
    strict = profile.model_copy(update={"noise": {"two_stage": {"edge_holes": 0.6, "stream_fx_px": 640.0}}})
    found = for_profile(config, strict)
    ratio = 640 / config.codec.native_fx_px
    assert found.style.edge_holes == 0.6
    assert found.style.sigma_px == pytest.approx(config.style.sigma_px * ratio)
    assert found.codec.disparity_factor == pytest.approx(640 * config.codec.baseline_m)
    assert for_profile(found, strict) == found  # a model that was fitted on that stream
    own_sigma = strict.model_copy(update={"noise": {"two_stage": {"sigma_px": 0.2, "stream_fx_px": 640.0}}})
    assert for_profile(config, own_sigma).style.sigma_px == 0.2  # px of the stream that the profile names
    for changes, key in (({"edge_hole": 0.6}, "edge_hole"), ({"stream_fx_px": 10}, "stream_fx_px")):
        wrong = profile.model_copy(update={"noise": {"two_stage": changes}})
        with pytest.raises(ConfigError, match=rf"noise\.two_stage\.{key}"):
            for_profile(config, wrong)


@pytest.mark.parametrize(("fx_px", "baseline_m"), [(640.0, 0.05), (240.0, 0.05), (889.0, 0.055)])
def test_another_stream_has_errors_of_the_same_size_in_metres(fx_px: float, baseline_m: float) -> None:
    config = TwoStageConfig.model_validate({"codec": {"disparity_step_px": 0.0}})
    clean = torch.linspace(0.4, 2.0, 64).reshape(1, 8, 8)
    code = 2.0 * torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(3))
    found = []
    for chosen in (config, on_stream(config, fx_px, baseline_m)):
        factor = torch.tensor([chosen.codec.disparity_factor])
        found.append(apply_residual(clean, factor, (code, code, torch.full_like(code, -1.0)), chosen)[1])
    assert float((found[0] - clean).abs().max()) > 1e-3
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)
    assert on_stream(config) == config
    scaled = on_stream(config, fx_px, baseline_m)
    device = torch.device("cpu")  # the network is told the same style
    styles = [conditioning.style_tensor(c.style, c.codec, device) for c in (config, scaled)]
    torch.testing.assert_close(*styles, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.45, 1.0])
def test_noise_on_the_device_is_the_noise_of_the_host(share: float) -> None:
    source = CorrelatedNoise.ar1(0.9, 5, "fine", share)
    seeds, shape = tuple(range(100, 109)), (2, 6, 8)
    with ThreadPoolExecutor(2) as workers:
        device = DeviceNoise(source, torch.device("cpu"), workers)
        for previous, now in (((), seeds), (seeds[:4], seeds[4:]), (seeds[:7], seeds[7:8])):
            expected = source.fields(now, shape, previous, 7)
            device.draw_ahead(now, shape, previous)
            assert np.array_equal(device.fields(now, shape, previous, 7).numpy(), expected)
            surface = np.random.default_rng(1).integers(0, FIXED_LAYERS, (len(now), 6, 8))
            expected = source.fields(now, shape, previous, 7, surface)
            assert np.array_equal(device.fields(now, shape, previous, 7, torch.from_numpy(surface)).numpy(), expected)
        device.draw_ahead((500, 501), shape)  # not asked for next: nothing is mixed up
        assert np.array_equal(device.fields((501,), shape, (7,), 7).numpy(), source.fields((501,), shape, (7,), 7))
        assert share == 0 or not np.array_equal(device.fields(seeds, shape, (), 8), device.fields(seeds, shape, (), 7))


def test_the_gain_is_a_factor_of_the_residual_in_pixels() -> None:
    config = TwoStageConfig()
    cells, holes = fine_channels(config)
    coarse = torch.zeros((1, 1, 4, 4))
    flat = torch.tensor([0.1, 1.0, 4.0, -4.5]).view(4, 1, 1, 1)  # code units: 0.015 to -6.8 px
    sample = torch.cat([flat.expand(4, cells, 8, 8), torch.zeros((4, holes, 8, 8))], dim=1)
    proximity = torch.zeros((4, 1, 16, 16))
    plain, louder = (
        decode_fields(coarse.expand(4, -1, -1, -1), sample, config, StepCalibration(steps=4, gain=gain), proximity)[1]
        for gain in (1.0, 1.5)
    )
    before, after = (decode_residual(code, config.codec) for code in (plain, louder))
    torch.testing.assert_close(after, 1.5 * before, rtol=1e-4, atol=1e-6)


def test_calibration_is_chosen_by_the_number_of_steps() -> None:
    measured = tuple(StepCalibration(steps=n, gain=1 + n / 100) for n in (1, 4, 8, 50))
    config = TwoStageConfig(calibration=measured)
    assert config.calibrated(4).gain == pytest.approx(1.04)
    assert config.calibrated(50).gain == pytest.approx(1.5)
    assert config.calibrated(9).gain == pytest.approx(1.08)
    assert config.calibrated(20).gain == 1.0
