"""A fixed part in the noise: the same bytes for bag, live stream and any batch; keyed by seed, topic and draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from enhancer_bags import depth_images, read_all, write_episode
from realdiff_core.bag import BagReader
from realdiff_core.camera import CameraModel
from realdiff_core.config import camera_profile
from realdiff_core.episode import read_camera
from realdiff_core.seeds import stream_seed
from realdiff_enhancer.bag_enhancer import enhance
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.models import DepthFrames, DepthModel
from realdiff_enhancer.models.disparity import DisparityModel
from realdiff_enhancer.models.noise import FIXED_LAYERS
from realdiff_enhancer.stream import StreamEnhancer

from realdiff_core import topics

torch = pytest.importorskip("torch")

from realdiff_enhancer.two_stage.conditioning import surface_layers  # noqa: E402
from realdiff_enhancer.two_stage.config import NetworkConfig, TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.networks import make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402

PROFILE = camera_profile("d435")
CAMERA = CameraModel(96, 64, 384.0, 384.0, 48.0, 32.0, baseline_m=0.05)


def make_model(name: str, share: float, correlation: float = 0.4) -> DepthModel:
    if name == "disparity":
        return DisparityModel.from_config(PROFILE).with_temporal(share, correlation)
    torch.manual_seed(3)
    network = NetworkConfig(stride=8, channels=(16, 16), norm_groups=8)
    config = TwoStageConfig(coarse=network, fine=network.model_copy(update={"stride": 4}))
    model = TwoStageModel(config, make_coarse(config), make_fine(config), steps=1, device="cpu")
    return model.with_temporal(share, correlation)


def frames(count: int, first: int = 0, history: int = 0, stream: int | None = 5) -> DepthFrames:
    depth = np.tile(np.linspace(0.7, 0.9, 64, dtype=np.float32)[:, None], (count, 1, 96))
    seeds = tuple(range(100 + first, 100 + first + count))
    return DepthFrames(depth, None, CAMERA, seeds, tuple(range(100 + max(0, first - history), 100 + first)), stream)


@pytest.mark.parametrize("name", ["disparity", "two_stage"])
def test_frames_do_not_depend_on_batches_and_the_stream_counts(name: str) -> None:
    model = make_model(name, 0.5)
    whole = model.enhance(frames(6)).depth
    fresh = make_model(name, 0.5)
    for first, count in ((5, 1), (2, 3)):
        part = fresh.enhance(frames(count, first, model.history)).depth
        assert np.array_equal(part, whole[first : first + count], equal_nan=True)
    assert not np.array_equal(fresh.enhance(frames(6, stream=6)).depth, whole, equal_nan=True)
    with pytest.raises(ValueError, match="stream's seed"):
        fresh.enhance(frames(1, stream=None))


@pytest.mark.parametrize("name", ["disparity", "two_stage"])
def test_the_share_decides_how_alike_far_frames_are(name: str) -> None:
    def far_apart(share: float) -> float:
        depth = make_model(name, share, 0.0).enhance(frames(4)).depth
        residual = CAMERA.disparity_factor / depth - CAMERA.disparity_factor / frames(1).depth
        both = np.isfinite(residual[0]) & np.isfinite(residual[3])
        return float(np.corrcoef(residual[0][both], residual[3][both])[0, 1])

    without, half, whole = (far_apart(share) for share in (0.0, 0.5, 1.0))
    assert without < half - 0.15 and half < 0.9
    assert whole > 0.99 if name == "two_stage" else whole > half + 0.15, "holes and edges of `disparity` change anyway"


def test_without_a_fixed_part_nothing_changes() -> None:
    """The bytes of models made before there was one: stream seeds are ignored."""
    model = make_model("disparity", 0.0, 0.93)
    expected = model.enhance(frames(3, stream=None)).depth
    assert np.array_equal(model.enhance(frames(3)).depth, expected, equal_nan=True)


@pytest.mark.parametrize("name", ["disparity", "two_stage"])
def test_bag_and_live_stream_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    source = write_episode(tmp_path / "in", frames=7)
    for batch in (1, 3, 64):
        options = EnhanceOptions(model=name, seed=4, batch=batch)
        enhance(source, tmp_path / f"batch_{batch}", make_model(name, 0.5), PROFILE, options)
    written = {batch: read_all(tmp_path / f"batch_{batch}") for batch in (1, 3, 64)}
    assert [m.data for m in written[1]] == [m.data for m in written[3]] == [m.data for m in written[64]]
    for topic in (topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE):
        with BagReader(source) as reader:
            camera = read_camera(reader, topic, PROFILE.baseline_m)
            images = [raw.data for raw in reader.messages([topic])]
        live = StreamEnhancer(make_model(name, 0.5), topic, 4)
        assert [live.process(image, camera).data for image in images] == [
            m.data for m in written[3] if m.topic == topic
        ]


def test_fixed_part_is_keyed_by_seed_topic_and_draw(tmp_path: Path) -> None:
    """Both topics of the bag show the same pixels: with nothing but a fixed part, they differ by its seed alone."""
    source = write_episode(tmp_path / "in", frames=2, encoding="32FC1")
    model = make_model("two_stage", 1.0)
    enhance(source, tmp_path / "a", model, PROFILE, EnhanceOptions(model="two_stage", draws=2))
    enhance(source, tmp_path / "b", model, PROFILE, EnhanceOptions(model="two_stage", seed=1))
    results = [
        depth_images(tmp_path / folder, topic)
        for folder in ("a/draw_000", "a/draw_001", "b")
        for topic in (topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE)
    ]
    for index, one in enumerate(results):
        assert not any(np.array_equal(one, other, equal_nan=True) for other in results[:index])
    assert len({stream_seed(seed, topic, draw) for seed, draw in ((0, 0), (0, 1), (1, 0)) for topic in "ab"}) == 6


def test_what_moves_leaves_its_pattern_and_what_rests_keeps_it() -> None:
    """A box comes 0.1 m nearer: its error is another one, the wall's is not."""
    torch.manual_seed(3)
    model = make_model("two_stage", 1.0)
    depth = np.full((2, 64, 96), 0.9, np.float32)
    depth[0, 16:48, 32:64], depth[1, 16:48, 32:64] = 0.7, 0.6
    noisy = model.enhance(DepthFrames(depth, None, CAMERA, (1, 2), (), 5)).depth
    error = CAMERA.disparity_factor / noisy - CAMERA.disparity_factor / depth

    def correlation(region: tuple[slice, slice]) -> float:
        one, two = error[0][region], error[1][region]
        both = np.isfinite(one) & np.isfinite(two)
        return float(np.corrcoef(one[both], two[both])[0, 1])

    assert correlation(np.s_[:, 76:]) > 0.9
    assert correlation(np.s_[20:44, 36:60]) < 0.5


def test_surfaces_are_steps_of_the_sensors_own_disparity() -> None:
    config = TwoStageConfig()
    depth = torch.full((1, 64, 96), 0.8)
    depth[:, :, 48:] = float("nan")
    layers = surface_layers(depth, (64, 96), (8, 12), config)
    assert layers.shape == (1, 8, 12) and layers.dtype == torch.int64
    expected = int(config.codec.disparity_factor / 0.8 / config.temporal.surface_step_px) % FIXED_LAYERS
    assert (layers[..., :6] == expected).all() and (layers[..., 6:] == 0).all()
    # An image of twice the focal length shows the same surfaces; what pads it is unknown.
    wide = surface_layers(torch.full((1, 128, 192), 0.8), (60, 96), (8, 12), config)
    assert (wide[:, :7] == expected).all()
