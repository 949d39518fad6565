"""The analytic models: statistics that they promise, range rules, independence of batches."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile, camera_profile, find_config
from realdiff_core.errors import ConfigError
from realdiff_core.seeds import frame_seed
from realdiff_enhancer.models import DepthFrames, DepthModel, create_model, model_descriptions, model_names

PROFILE = camera_profile("d435")
# The middle of a D435's image at 640×480.
CAMERA = CameraModel(320, 240, 615, 615, 159.5, 119.5, baseline_m=PROFILE.baseline_m)
ANALYTIC = ("none", "gaussian", "perlin", "disparity", "active_dr")


def seeds(n: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(frame_seed(seed, "/depth", 33_000_000 * i) for i in range(n))


def wall(z: float, frames: int = 1) -> np.ndarray:
    return np.full((frames, 240, 320), z, np.float32)


def enhance(
    model: DepthModel, depth: np.ndarray, *, start: int = 0, every: tuple[int, ...] | None = None, stream: int = 0
) -> np.ndarray:
    every = every or seeds(start + len(depth))
    previous = every[max(0, start - model.history) : start]
    own = every[start : start + len(depth)]
    return model.enhance(DepthFrames(depth, None, CAMERA, own, previous, stream)).depth


def disparity_error(noisy: np.ndarray, z: float) -> np.ndarray:
    return CAMERA.disparity_factor / noisy - CAMERA.disparity_factor / z


@pytest.mark.parametrize("name", ANALYTIC)
@given(splits=st.lists(st.integers(1, 8), min_size=1, max_size=6), seed=st.integers(0, 2**63))
@settings(max_examples=8, deadline=None)
def test_frames_do_not_depend_on_batches(name: str, splits: list[int], seed: int) -> None:
    camera = CameraModel(40, 30, 38, 38, 19.5, 14.5, baseline_m=PROFILE.baseline_m)
    rng = np.random.default_rng(5)
    depth = rng.uniform(0.2, 4.5, (20, 30, 40)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.1] = np.nan
    every = seeds(20, seed)
    whole = create_model(name, profile=PROFILE).enhance(DepthFrames(depth, None, camera, every, (), 9)).depth
    model = create_model(name, profile=PROFILE)
    at, parts = 0, []
    for size in [*splits, 20]:
        end = min(20, at + size)
        if end > at:
            previous = every[max(0, at - model.history) : at]
            parts.append(model.enhance(DepthFrames(depth[at:end], None, camera, every[at:end], previous, 9)).depth)
        at = end
    assert np.array_equal(whole, np.concatenate(parts), equal_nan=True)


@pytest.mark.parametrize("name", ANALYTIC)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_any_depth_gives_sane_depth(name: str, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 37)), data.draw(st.integers(1, 41))
    values = st.floats(0.0009765625, 70, width=32) | st.just(float("nan"))
    flat = data.draw(st.lists(values, min_size=4, max_size=12))
    depth = np.resize(np.array(flat, np.float32), (1, height, width))
    camera = CameraModel(width, height, 30, 30, width / 2, height / 2, baseline_m=PROFILE.baseline_m)
    before = depth.copy()
    noisy = create_model(name, profile=PROFILE).enhance(DepthFrames(depth, None, camera, (1,), (), 2)).depth
    assert noisy.dtype == np.float32 and noisy.shape == depth.shape
    assert np.array_equal(depth, before, equal_nan=True)
    finite = noisy[np.isfinite(noisy)]
    assert (finite > 0).all() and not np.isinf(noisy).any()
    far_or_invalid = ~(depth <= PROFILE.far_m)
    assert np.array_equal(noisy[far_or_invalid], depth[far_or_invalid], equal_nan=True)
    if name != "none":
        assert np.isnan(noisy[depth < PROFILE.near_m]).all()


@pytest.mark.parametrize("name", ["gaussian", "perlin"])
def test_sigma_grows_with_the_square_of_depth(name: str) -> None:
    model = create_model(name, profile=PROFILE)
    for z in (0.6, 1.2, 2.4):
        noisy = enhance(model, wall(z, 6))
        sigma = model.parameters.sigma_px * CAMERA.fx / model.parameters.reference_fx_px
        assert np.std(noisy - z) == pytest.approx(sigma * z**2 / CAMERA.disparity_factor, rel=0.12)
        assert abs(np.mean(disparity_error(noisy, z))) < 0.3 * sigma


def test_gaussian_noise_is_independent_in_space_and_time() -> None:
    error = disparity_error(enhance(create_model("gaussian", profile=PROFILE), wall(1.0, 3)), 1.0)
    assert abs(np.corrcoef(error[0, :, 1:].ravel(), error[0, :, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(error[0].ravel(), error[1].ravel())[0, 1]) < 0.02


def test_disparity_noise_has_the_promised_size_and_structure() -> None:
    model = create_model("disparity", profile=PROFILE)
    z, parameters = 1.0, model.parameters
    frames = np.concatenate([enhance(model, wall(z), every=seeds(1, k), stream=k) for k in range(12)])
    error = disparity_error(frames, z)
    expected = parameters.sigma_px + parameters.sigma_relative * CAMERA.disparity_factor / z
    assert np.nanstd(error) == pytest.approx(expected, rel=0.1)
    for lag, low, high in ((1, 0.95, 1.0), (4, 0.85, 0.98), (16, 0.35, 0.7), (64, -0.15, 0.2)):
        a, b = error[..., lag:].ravel(), error[..., :-lag].ravel()
        both = np.isfinite(a) & np.isfinite(b)
        assert low < np.corrcoef(a[both], b[both])[0, 1] < high, lag


def test_disparity_noise_sticks_from_frame_to_frame() -> None:
    model = create_model("disparity", profile=PROFILE)
    frames = enhance(model, wall(1.0, 60))[30:]
    error = disparity_error(frames, 1.0)
    correlations, persistence = [], []
    for a, b in pairwise(error):
        both = np.isfinite(a) & np.isfinite(b)
        correlations.append(np.corrcoef(a[both], b[both])[0, 1])
        persistence.append(np.isnan(b[np.isnan(a)]).mean() if np.isnan(a).any() else np.nan)
    share, coefficient = model.parameters.static_share, model.parameters.temporal_coefficient
    assert np.mean(correlations) == pytest.approx(share + (1 - share) * coefficient, abs=0.04)
    far_apart = np.isfinite(error[0]) & np.isfinite(error[-1])
    assert np.corrcoef(error[0][far_apart], error[-1][far_apart])[0, 1] == pytest.approx(share, abs=0.1)
    # Independent holes at a rate of a percent would persist with a probability of a percent.
    assert np.nanmean(persistence) > 0.6


def test_disparity_is_quantised_to_the_steps_of_the_profile() -> None:
    noisy = enhance(create_model("disparity", profile=PROFILE), wall(1.0))
    steps = CAMERA.disparity_factor / noisy[np.isfinite(noisy)].astype(float) / PROFILE.disparity_step_px
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert len(np.unique(np.rint(steps))) > 5


@pytest.mark.parametrize("name", ["gaussian", "perlin", "disparity"])
def test_noise_in_metres_does_not_depend_on_the_resolution(name: str) -> None:
    model = create_model(name, profile=PROFILE)
    sigmas, rates = [], []
    for width, height in ((640, 480), (320, 240)):
        camera = CameraModel.from_fov(width, height, 55, baseline_m=PROFILE.baseline_m)
        y, x = np.mgrid[:height, :width] / height
        depth = np.where((x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.04, 0.7, 1.2).astype(np.float32)[None]
        noisy = np.concatenate(
            [model.enhance(DepthFrames(depth, None, camera, seeds(1, k), (), k)).depth for k in range(10)]
        )
        flat = noisy[:, int(0.85 * height) :]
        sigmas.append(np.nanstd(flat))
        rates.append(np.isnan(noisy).mean())
    assert sigmas[0] == pytest.approx(sigmas[1], rel=0.15)
    assert rates[0] == pytest.approx(rates[1], rel=0.2, abs=0.002)


def box(z: float = 0.6) -> np.ndarray:
    depth = wall(1.2)
    depth[:, 80:160, 120:200] = z
    return depth


def test_holes_gather_at_edges_and_in_the_shadow_on_the_left() -> None:
    model = create_model("disparity", profile=PROFILE)
    holes = np.mean([np.isnan(enhance(model, box(), every=seeds(1, k), stream=k)[0]) for k in range(16)], axis=0)
    shadow = int(CAMERA.disparity_factor / 0.6 - CAMERA.disparity_factor / 1.2)
    assert shadow >= 8
    left, right = holes[95:145, 120 - shadow + 2 : 118], holes[95:145, 206 : 206 + shadow - 4]
    assert left.mean() > 0.8 > 0.5 > right.mean()
    edge, flat = holes[78:82, 130:190], holes[200:230, 20:300]
    assert edge.mean() > 10 * flat.mean()
    assert flat.mean() < 0.03


def test_the_shadow_can_be_on_the_other_side() -> None:
    other = PROFILE.model_copy(update={"noise": {"disparity": {"shadow_side": "right"}}})
    model = create_model("disparity", profile=other)
    holes = np.mean([np.isnan(enhance(model, box(), every=seeds(1, k), stream=k)[0]) for k in range(16)], axis=0)
    assert holes[95:145, 203:209].mean() > 0.8 > 0.5 > holes[95:145, 108:114].mean()


def test_grazing_surfaces_lose_pixels() -> None:
    model = create_model("disparity", profile=PROFILE)
    ray_y = (np.arange(240) - CAMERA.cy) / CAMERA.fy

    def floor(incidence_cos: float) -> np.ndarray:
        """A plane through (0, 0, 1) m whose normal makes that angle with the optical axis."""
        slope = np.sqrt(1 / incidence_cos**2 - 1)
        depth = 1 / np.maximum(1 - slope * ray_y, 0.28)
        return np.repeat(depth[:, None], 320, axis=1).astype(np.float32)[None]

    centre = np.s_[:, 110:130, 60:260]
    rates = [np.isnan(enhance(model, floor(c))[centre]).mean() for c in (0.15, 0.95)]
    assert rates[0] > 0.3 and rates[1] < 0.05


def test_two_streams_that_take_turns_cost_one_field_a_frame_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from realdiff_enhancer.models import noise

    drawn: list[int] = []
    original = noise.normal_field

    def counted(seed: int, *rest: object) -> np.ndarray:
        drawn.append(seed)
        return original(seed, *rest)

    monkeypatch.setattr(noise, "normal_field", counted)
    model = create_model("disparity", profile=PROFILE)
    streams = [seeds(40, 1), seeds(40, 2)]
    for at in range(0, 40, 8):
        for stream, every in enumerate(streams):
            previous = every[max(0, at - model.history) : at]
            model.enhance(DepthFrames(wall(1.0, 8), None, CAMERA, every[at : at + 8], previous, stream))
    # fine, coarse, shift and holes in every frame; the first three have a fixed part, of one surface, too
    assert len(drawn) == 2 * (40 * 4 + 3)


def test_foreground_grows_and_flies_at_its_edges() -> None:
    model = create_model("disparity", profile=PROFILE)
    noisy = np.stack([enhance(model, box(), every=seeds(1, k), stream=k)[0] for k in range(16)])
    clean = box()[0]
    near = noisy[:, clean > 1.0] < 0.9
    assert near.any(), "no pixel of the background became foreground"
    between = noisy[(noisy > 0.66) & (noisy < 1.05)]
    assert between.size > 0, "no flying pixels"
    far_from_edges = noisy[:, 100:140, 140:180]
    assert np.nanmax(np.abs(far_from_edges - 0.6)) < 0.05


def test_discrepancy_is_a_probability() -> None:
    frames = DepthFrames(box(), None, CAMERA, seeds(1), (), 0)
    result = create_model("disparity", profile=PROFILE).enhance(frames)
    assert result.discrepancy is not None
    assert result.discrepancy.min() >= 0 and 0.8 < result.discrepancy.max() <= 1


def test_profile_replaces_parameters_and_bad_ones_are_named(tmp_path) -> None:
    louder = PROFILE.model_copy(update={"noise": {"gaussian": {"sigma_px": 0.5}}})
    assert create_model("gaussian", profile=louder).parameters.sigma_px == 0.5
    wrong = PROFILE.model_copy(update={"noise": {"disparity": {"warp_px": "much"}}})
    with pytest.raises(ConfigError, match=r"noise\.disparity\.warp_px"):
        create_model("disparity", profile=wrong)
    uneven = PROFILE.model_copy(update={"noise": {"disparity": {"hole_edge_rate": [0.5]}}})
    with pytest.raises(ConfigError, match="one rate per entry"):
        create_model("disparity", profile=uneven)


def test_domain_randomisation_spreads_over_its_ranges() -> None:
    model = create_model("active_dr", profile=PROFILE)
    noisy = enhance(model, wall(0.8, 40))
    sigma = [float(np.nanstd(disparity_error(frame, 0.8))) for frame in noisy]
    lost = np.isnan(noisy).mean((1, 2))
    # log-uniform in [0.02, 0.6] px: the logarithms' mean and spread
    assert np.mean(np.log(sigma)) == pytest.approx(np.log([0.02, 0.6]).mean(), abs=0.5)
    assert min(sigma) < 0.05 and max(sigma) > 0.3
    assert lost.min() < 0.05 and lost.max() > 0.15


def test_domain_randomisation_refuses_ranges_that_run_backwards() -> None:
    wrong = PROFILE.model_copy(update={"noise": {"active_dr": {"sigma_px": [0.5, 0.1]}}})
    with pytest.raises(ConfigError, match="sigma_px must be an increasing range"):
        create_model("active_dr", profile=wrong)


def test_registry_knows_its_models() -> None:
    assert set(ANALYTIC) < set(model_names()) == set(model_descriptions())
    assert model_names()[0] == "two_stage"
    for name in ANALYTIC:
        model = create_model(name, profile=PROFILE)
        assert isinstance(model, DepthModel) and model.name == name
    with pytest.raises(ConfigError, match="two_stage, disparity"):
        create_model("magic", profile=PROFILE)


@pytest.mark.parametrize("name", ["e2e", "without_fgs", "without_dgo", "high_pass", "controlnet", "pix2pix", "gan"])
def test_a_trained_model_without_weights_names_the_configuration_to_train(name: str) -> None:
    with pytest.raises(ConfigError, match="has no shipped weights") as caught:
        create_model(name, profile=PROFILE)
    configuration = re.search(r"config/enhancer/\S+\.yaml", str(caught.value))
    assert configuration is not None and Path(configuration[0]).stem == name
    assert find_config(configuration[0].removeprefix("config/")).is_file()


def test_frames_are_checked() -> None:
    with pytest.raises(ValueError, match="float32"):
        DepthFrames(wall(1).astype(float), None, CAMERA, (1,))
    with pytest.raises(ValueError, match="expected 1 seeds"):
        DepthFrames(wall(1), None, CAMERA, ())
    with pytest.raises(ValueError, match="colour"):
        DepthFrames(wall(1), np.zeros((1, 2, 2, 3), np.uint8), CAMERA, (1,))


def test_profiles_that_ship_fit_every_model() -> None:
    for name in ("d435", "d415"):
        profile: CameraProfile = camera_profile(name)
        for model in ANALYTIC:
            assert create_model(model, profile=profile).name == model
