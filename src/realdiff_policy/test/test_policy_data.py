"""Episode bags to arrays to training samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from policy_bags import (
    ENCODINGS,
    RATE_HZ,
    SIZE,
    STORAGES,
    colour_of,
    depth_mm,
    joints_at,
    write_episode,
    write_episodes,
)
from realdiff_core.errors import BagError, ConfigError
from realdiff_core.provenance import DepthKind
from realdiff_policy.actions import action_rows, rotation_from_6d, rotation_to_6d
from realdiff_policy.contract import ActionContract
from realdiff_policy.data.augment import Augmentation, augment
from realdiff_policy.data.episode_arrays import read_episode
from realdiff_policy.data.store import StoreSettings, build_store
from realdiff_policy.data.windows import MappedSamples, ResidentSamples, WindowDataset, Windows
from realdiff_policy.normalizer import RangeNormalizer
from scipy.spatial.transform import Rotation

from realdiff_core import topics

SETTINGS = StoreSettings(width=SIZE[1], height=SIZE[0], rate_hz=RATE_HZ)
ACTION = ActionContract(rate_hz=RATE_HZ, observation_steps=2, horizon=8, execute=4)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_episode_is_read_exactly(tmp_path: Path, storage: str, encoding: str) -> None:
    path = write_episode(tmp_path / "bag", storage=storage, encoding=encoding)
    arrays = read_episode(path, width=SIZE[1], height=SIZE[0], rate_hz=RATE_HZ)
    assert len(arrays.stamps_ns) == 9
    np.testing.assert_array_equal(arrays.colour, np.stack([colour_of(f) for f in range(9)]))
    np.testing.assert_array_equal(arrays.depth, np.stack([depth_mm(f) for f in range(9)]) * 4)
    times = (arrays.stamps_ns - arrays.stamps_ns[0]) / 1e9
    np.testing.assert_allclose(arrays.state[:, :7], [joints_at(t) for t in times])
    # What is to be reached one period after the frame; nothing is commanded after the last frame.
    np.testing.assert_allclose(arrays.action[:-1, :7], [joints_at(t + 0.1) for t in times[:-1]])
    np.testing.assert_allclose(arrays.action[-1, :7], joints_at(times[-1] + 0.02))
    np.testing.assert_allclose(arrays.state[:, 7], np.where(times < 0.4, 0.08, 0.03))
    np.testing.assert_allclose(arrays.action[:-1, 7], np.where(times[:-1] + 0.08 < 0.4 - 1e-9, 0.08, 0.03))
    assert arrays.depth_kind is DepthKind.CLEAN_SIM and arrays.task == "can_to_plate"


def test_images_are_brought_to_size_and_rate(tmp_path: Path) -> None:
    path = write_episode(tmp_path / "bag", size=(96, 128))
    arrays = read_episode(path, width=64, height=48, rate_hz=5.0)
    assert len(arrays.stamps_ns) == 5 and np.all(np.diff(arrays.stamps_ns) == 200_000_000)
    large = depth_mm(2, (96, 128))
    np.testing.assert_array_equal(arrays.depth[1], large[1::2, 1::2] * 4)
    blocks = colour_of(2, (96, 128)).reshape(48, 2, 64, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(arrays.colour[1] - blocks).max() <= 0.5
    assert arrays.camera.fx == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"without": (topics.COMMANDED_ACTION,)}, topics.COMMANDED_ACTION),
        ({"without": (topics.ALIGNED_DEPTH_IMAGE,)}, topics.ALIGNED_DEPTH_IMAGE),
        ({"without": (topics.COLOR_INFO,)}, topics.COLOR_INFO),
        ({"poison": float("nan")}, "NaN"),
        ({"kind": None}, "where its depth comes from"),
    ],
)
def test_unusable_bags_are_refused(tmp_path: Path, options: dict, words: str) -> None:
    path = write_episode(tmp_path / "bag", **options)
    with pytest.raises(BagError) as error:
        read_episode(path, width=64, height=48, rate_hz=RATE_HZ)
    assert words in str(error.value) and str(path) in str(error.value)


def test_too_few_frames_a_second_are_refused(tmp_path: Path) -> None:
    path = write_episode(tmp_path / "bag")
    with pytest.raises(BagError, match="frames are missing"):
        read_episode(path, width=64, height=48, rate_hz=30.0)


def test_the_store_is_made_once_and_notices_changes(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags")
    first = build_store(bags, settings=SETTINGS)
    assert [episode.record.bag for episode in first.episodes] == [f"episode_{i:06d}" for i in range(3)]
    assert isinstance(first.episodes[0].colour, np.memmap)
    file = bags / ".store" / "episodes" / "episode_000001" / "colour.npy"
    stamp = file.stat().st_mtime_ns
    assert build_store(bags, settings=SETTINGS).frames == 27
    assert file.stat().st_mtime_ns == stamp
    storage = next((bags / "episode_000001").glob("*.mcap"))
    storage.touch()  # another time, the same content
    build_store(bags, settings=SETTINGS)
    with storage.open("r+b") as stream:
        stream.seek(1000)
        byte = stream.read(1)
        stream.seek(1000)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ConfigError, match="has changed since"):
        build_store(bags, settings=SETTINGS)


def test_several_processes_make_the_same_store(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags")
    one = build_store(bags, tmp_path / "one", SETTINGS, workers=1)
    two = build_store(bags, tmp_path / "two", SETTINGS, workers=2)
    assert [episode.record for episode in two.episodes] == [episode.record for episode in one.episodes]
    np.testing.assert_array_equal(two.episodes[2].depth, one.episodes[2].depth)


def test_an_interrupted_store_goes_on(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags")
    build_store(bags, settings=SETTINGS)
    done = bags / ".store" / "episodes"
    (done / "episode_000002").rename(done / ".episode_000002.partial-1")
    (done / "episode_000000" / "episode.json").unlink()
    again = build_store(bags, settings=SETTINGS)
    assert again.frames == 27
    np.testing.assert_array_equal(again.episodes[0].depth[3], depth_mm(3) * 4)


def test_other_settings_need_another_store(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags", count=1)
    build_store(bags, settings=SETTINGS)
    with pytest.raises(ConfigError, match="other settings"):
        build_store(bags, settings=SETTINGS.model_copy(update={"width": 32}))


def test_failed_episodes_are_left_out(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags", count=2)
    write_episode(bags / "episode_000009", success=False)
    assert len(build_store(bags, settings=SETTINGS).episodes) == 2
    assert len(build_store(bags, settings=SETTINGS, only_successes=False).episodes) == 3


@pytest.mark.parametrize(("options", "words"), [({"focal_px": 70.0}, "fx"), ({"task": "stack_cube"}, "stack_cube")])
def test_mixed_data_are_refused(tmp_path: Path, options: dict, words: str) -> None:
    bags = write_episodes(tmp_path / "bags", count=2)
    write_episode(bags / "episode_000009", **options)
    with pytest.raises(ConfigError, match=words):
        build_store(bags, settings=SETTINGS)


def test_windows_repeat_the_nearest_frame_at_both_ends(tmp_path: Path) -> None:
    store = build_store(write_episodes(tmp_path / "bags"), settings=SETTINGS)
    windows = Windows.make([(store, 1.0)], ACTION)
    observed, acted = windows.frames(np.array([9, 10, 17]))  # frames 0, 1 and 8 of the second episode
    np.testing.assert_array_equal(observed, [[0, 0], [0, 1], [7, 8]])
    np.testing.assert_array_equal(acted[0], [0, 0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(acted[2], [7, 8, 8, 8, 8, 8, 8, 8])


def test_both_sources_give_the_same_batches(tmp_path: Path) -> None:
    store = build_store(write_episodes(tmp_path / "bags"), settings=SETTINGS)
    windows = Windows.make([(store, 1.0)], ACTION)
    samples = np.array([0, 9, 17, 26])
    mapped = MappedSamples(windows).gather(samples)
    resident = ResidentSamples(windows, torch.device("cpu")).gather(samples)
    for name, values in mapped.items():
        torch.testing.assert_close(resident[name], values, rtol=0, atol=0)
    np.testing.assert_array_equal(mapped["depth"][2, 1].numpy(), depth_mm(8).astype(np.int32) * 4)
    np.testing.assert_allclose(mapped["action"][0, 1, :7].numpy(), joints_at(0.1, 0.0), atol=1e-6)


def test_shares_of_sources_hold_and_draws_depend_on_the_step_alone(tmp_path: Path) -> None:
    clean = build_store(write_episodes(tmp_path / "clean", count=1), settings=SETTINGS)
    enhanced = build_store(write_episodes(tmp_path / "enhanced", count=4, kind=DepthKind.ENHANCED), settings=SETTINGS)
    windows = Windows.make([(clean, 1.0), (enhanced, 3.0)], ACTION)
    assert windows.depth_shares == {DepthKind.CLEAN_SIM: 0.25, DepthKind.ENHANCED: 0.75}
    dataset = WindowDataset(MappedSamples(windows), windows.probability, batch=4000, seed=5, steps=9)
    draw = dataset.draw(3)
    assert np.mean(draw < 9) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(draw, dataset.draw(3))
    assert not np.array_equal(draw, dataset.draw(4))


def test_six_numbers_are_a_rotation() -> None:
    rotations = Rotation.random(50, random_state=1)
    numbers = rotation_to_6d(rotations)
    np.testing.assert_allclose(numbers[:, :3], rotations.apply([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(numbers[:, 3:], rotations.apply([0.0, 1.0, 0.0]))
    bent = numbers * 1.3 + 0.01
    assert (rotation_from_6d(bent) * rotations.inv()).magnitude().max() < 0.05
    np.testing.assert_allclose(rotation_from_6d(numbers).as_matrix(), rotations.as_matrix(), atol=1e-12)
    with pytest.raises(ValueError, match="parallel"):
        rotation_from_6d(np.array([[1.0, 0, 0, 2.0, 0, 0]]))
    rows = action_rows("end_effector", np.full((50, 8), 0.04), np.hstack([np.ones((50, 3)), rotations.as_quat()]))
    assert rows.shape == (50, 10)
    np.testing.assert_allclose(rows[:, 9], 0.04)


def test_ranges_are_scaled_and_restored() -> None:
    data = np.array([[0.0, 5.0, 0.2], [2.0, 5.0, -0.4]])
    normalizer = RangeNormalizer.fit([data], unscaled=slice(2, 3))
    values = torch.tensor([[0.0, 5.0, 0.2], [2.0, 5.0, -0.4], [1.0, 5.0005, 0.0]], dtype=torch.float64)
    scaled = normalizer.normalize(values)
    torch.testing.assert_close(scaled[:, 0], torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(scaled[:, 1], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(scaled[:, 2], values[:, 2])
    torch.testing.assert_close(normalizer.restore(scaled), values)


def _images(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    depth = (1.0 + 0.01 * y + 0.001 * x).expand(count, 2, 48, 64).clone()
    depth[:, :, ::7] = 0.0
    colour = torch.stack([y / 48, x / 64, torch.full_like(x, 0.5)]).expand(count, 2, 3, 48, 64).clone()
    return colour, depth


def test_windows_of_colour_and_depth_stay_registered() -> None:
    colour, depth = _images()
    depth = colour[:, :, 0] * 2 + colour[:, :, 1]  # depth follows colour, so that a shift between them shows
    settings = Augmentation(brightness=0, contrast=0, saturation=0)
    seen, metres = augment(colour, depth, (40, 56), settings, torch.Generator().manual_seed(3))
    assert seen.shape == (3, 2, 3, 40, 56) and metres.shape == (3, 2, 40, 56)
    assert (seen[:, :, 0] * 2 + seen[:, :, 1] - metres).abs().max() < 2 / 48 + 1 / 64  # one pixel
    torch.testing.assert_close(seen[:, 0], seen[:, 1])  # one window for all steps of a sample
    assert not torch.allclose(seen[0], seen[1])  # another for every sample


def test_depth_is_never_mixed_of_two_pixels() -> None:
    colour, depth = _images()
    _, metres = augment(colour, depth, (40, 56), Augmentation(camera_rotation_deg=5), torch.Generator().manual_seed(1))
    assert torch.isin(metres, torch.cat([depth.flatten(), torch.zeros(1)])).all()


def test_without_variation_the_middle_is_cut() -> None:
    colour, depth = _images()
    still = Augmentation(
        crop=False, brightness=0, contrast=0, saturation=0, camera_shift=0, camera_rotation_deg=0, camera_scale=0
    )
    seen, metres = augment(colour, depth, (40, 56), still, torch.Generator())
    torch.testing.assert_close(seen, colour[..., 4:44, 4:60])
    torch.testing.assert_close(metres, depth[..., 4:44, 4:60])


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    bags = write_episodes(tmp_path / "bags", count=1)
    build_store(bags, settings=SETTINGS)
    record = bags / ".store" / "episodes" / "episode_000000" / "episode.json"
    content = json.loads(record.read_text())
    del content["sha256"]
    record.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="damaged"):
        build_store(bags, settings=SETTINGS)
