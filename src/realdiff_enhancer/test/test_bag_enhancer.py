"""Bag in, bag out: what changes and what must not, determinism, draws, resuming, the guard."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from enhancer_bags import DEPTH_TOPICS, ENCODINGS, STORAGES, depth_images, provenance, read_all, scene, write_episode
from realdiff_core.bag import BagReader
from realdiff_core.config import camera_profile
from realdiff_core.episode import validate_episode
from realdiff_core.errors import OutputError, ProvenanceError
from realdiff_core.provenance import DepthKind
from realdiff_enhancer.bag_enhancer import enhance, enhance_bag
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.journal import Journal
from realdiff_enhancer.models import DepthFrames, EnhancedFrames, create_model
from realdiff_enhancer.models.none import NoneModel

from realdiff_core import topics

PROFILE = camera_profile("d435")


def run(source: Path, output: Path, model: str = "disparity", **options: object):
    chosen = EnhanceOptions(model=model, **options)
    return enhance(source, output, create_model(model, profile=PROFILE), PROFILE, chosen)


def folder_bytes(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("storage", STORAGES)
def test_only_depth_pixels_and_provenance_change(tmp_path: Path, storage: str, encoding: str) -> None:
    source = write_episode(tmp_path / "in", storage, encoding)
    result = run(source, tmp_path / "out")
    assert result.frames == 20 and result.outputs == [tmp_path / "out"]
    before, after = read_all(source), read_all(tmp_path / "out")
    assert [(m.topic, m.stamp_ns) for m in before] == [(m.topic, m.stamp_ns) for m in after]
    changed = {a.topic for a, b in zip(before, after, strict=True) if a.data != b.data}
    assert changed == {*DEPTH_TOPICS, topics.PROVENANCE}
    for a, b in zip(before, after, strict=True):
        if a.topic in DEPTH_TOPICS:
            # Header, size, encoding and step in front of the pixels stay as they are.
            assert len(a.data) == len(b.data)
            pixels = 48 * 64 * (2 if encoding == "16UC1" else 4)
            assert a.data[: len(a.data) - pixels] == b.data[: len(b.data) - pixels]
    with BagReader(source) as reader_in, BagReader(tmp_path / "out") as reader_out:
        assert reader_out.storage == storage
        assert reader_out.custom_data["operator"] == "nobody"
        for name, info in reader_in.topics.items():
            assert (info.msgtype, info.qos) == (reader_out.topics[name].msgtype, reader_out.topics[name].qos)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pixels_outside_the_range_follow_the_documented_rules(tmp_path: Path, encoding: str) -> None:
    source = write_episode(tmp_path / "in", encoding=encoding, frames=2)
    run(source, tmp_path / "out")
    clean, noisy = depth_images(source), depth_images(tmp_path / "out")
    metres = np.nan_to_num(clean.astype(float) / (1000 if encoding == "16UC1" else 1))
    hole = noisy == 0 if encoding == "16UC1" else np.isnan(noisy)
    assert hole[(metres > 0) & (metres < PROFILE.near_m)].all()
    far = metres > PROFILE.far_m
    assert far.any() and np.array_equal(noisy[far], clean[far])
    assert hole[metres == 0].all()
    middle = (metres >= PROFILE.near_m) & (metres <= PROFILE.far_m)
    assert (noisy != clean)[middle].mean() > 0.5
    assert 0.02 < hole[middle].mean() < 0.5


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("storage", STORAGES)
def test_model_none_is_bit_identical(tmp_path: Path, storage: str, encoding: str) -> None:
    def odd_values(topic: str, index: int, image) -> None:
        if encoding == "32FC1" and topic in DEPTH_TOPICS:
            values = image.data.view(np.uint32)
            values[:4] = (0x7F800000, 0xFF800000, 0x7FC12345, 0x80000000)  # ±Inf, NaN with a payload, −0

    source = write_episode(tmp_path / "in", storage, encoding, edit=odd_values)
    run(source, tmp_path / "out", "none")
    for a, b in zip(read_all(source), read_all(tmp_path / "out"), strict=True):
        assert a.data == b.data or a.topic == topics.PROVENANCE


def test_infinite_and_not_a_number_survive_a_model(tmp_path: Path) -> None:
    def odd_values(topic: str, index: int, image) -> None:
        if topic in DEPTH_TOPICS:
            image.data.view(np.uint32)[100:103] = (0x7F800000, 0xFF800000, 0x7FC12345)

    source = write_episode(tmp_path / "in", encoding="32FC1", edit=odd_values, frames=3)
    for model in ("gaussian", "perlin", "disparity"):
        run(source, tmp_path / model, model)
        bits = depth_images(tmp_path / model).view(np.uint32).reshape(3, -1)[:, 100:103]
        assert (bits == (0x7F800000, 0xFF800000, 0x7FC12345)).all()


@pytest.mark.parametrize("model", ["gaussian", "perlin", "disparity"])
def test_same_seed_same_bytes_whatever_the_batch_size(tmp_path: Path, model: str) -> None:
    source = write_episode(tmp_path / "in", frames=23)
    for batch in (1, 5, 64):
        run(source, tmp_path / f"batch_{batch}" / "out", model, batch=batch)
    run(source, tmp_path / "seed" / "out", model, seed=1)
    one = folder_bytes(tmp_path / "batch_1" / "out")
    assert one == folder_bytes(tmp_path / "batch_5" / "out") == folder_bytes(tmp_path / "batch_64" / "out")
    assert one != folder_bytes(tmp_path / "seed" / "out")


def test_draws_differ_and_the_first_is_the_single_one(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in")
    result = run(source, tmp_path / "out", draws=3)
    assert result.outputs == [tmp_path / "out" / f"draw_00{k}" for k in range(3)]
    images = [depth_images(path) for path in result.outputs]
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])
    run(source, tmp_path / "single")
    assert np.array_equal(images[0], depth_images(tmp_path / "single"))
    with BagReader(result.outputs[2]) as reader:
        assert reader.provenance().enhancement.draw == 2


def test_provenance_says_what_was_done(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in")
    run(source, tmp_path / "out", seed=9)
    with BagReader(tmp_path / "out") as reader:
        record = reader.provenance()
        raw = reader.first(topics.PROVENANCE)
        message = reader.deserialize(raw)
    assert set(record.depth.values()) == {DepthKind.ENHANCED}
    assert (record.enhancement.model, record.enhancement.seed, record.enhancement.profile) == ("disparity", 9, "d435")
    parameters = create_model("disparity", profile=PROFILE).parameters.model_dump(mode="json")
    settings = json.dumps({"parameters": parameters}, sort_keys=True)
    assert record.enhancement.settings_sha256 == hashlib.sha256(settings.encode()).hexdigest()
    assert record.task == "can_to_plate" and record.seed == 3 and record.notes["light"] == "dim"
    assert dict(zip(message.topics, message.kinds, strict=True)) == dict.fromkeys(DEPTH_TOPICS, 2)
    assert (message.model, message.seed, message.camera_profile) == ("disparity", 9, "d435")
    assert json.loads(message.details_json) == record.model_dump(mode="json")
    assert message.header.stamp.sec == 1
    assert validate_episode(tmp_path / "out").depth == dict.fromkeys(DEPTH_TOPICS, DepthKind.ENHANCED)


def test_chosen_topics_leave_the_others_clean(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in")
    run(source, tmp_path / "out", topics=(topics.DEPTH_IMAGE,))
    aligned = topics.ALIGNED_DEPTH_IMAGE
    assert np.array_equal(depth_images(source, aligned), depth_images(tmp_path / "out", aligned))
    assert not np.array_equal(depth_images(source), depth_images(tmp_path / "out"))
    with BagReader(tmp_path / "out") as reader:
        assert reader.provenance().depth == {topics.DEPTH_IMAGE: DepthKind.ENHANCED, aligned: DepthKind.CLEAN_SIM}


def test_folder_of_bags_is_mirrored(tmp_path: Path) -> None:
    for name in ("episode_0", "episode_1"):
        write_episode(tmp_path / "in" / name, frames=3)
    result = run(tmp_path / "in", tmp_path / "out", draws=2)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in result.outputs] == [
        "draw_000/episode_0",
        "draw_001/episode_0",
        "draw_000/episode_1",
        "draw_001/episode_1",
    ]
    assert all(path.is_dir() for path in result.outputs)


@pytest.mark.parametrize("kind", [DepthKind.ENHANCED, DepthKind.SENSOR, DepthKind.STEREO_SIM])
def test_noisy_depth_is_refused_unless_overridden(tmp_path: Path, kind: DepthKind) -> None:
    source = write_episode(tmp_path / "in", record=provenance(kind), frames=2)
    with pytest.raises(ProvenanceError, match=topics.ALIGNED_DEPTH_IMAGE):
        run(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    assert run(source, tmp_path / "out", override_provenance=True).frames == 4


def test_padding_and_byte_order_are_kept(tmp_path: Path) -> None:
    def pad(topic: str, index: int, image) -> None:
        if topic in DEPTH_TOPICS:
            rows = image.data.reshape(48, -1).view(np.uint16).byteswap().view(np.uint8)
            image.data = np.hstack([rows, np.full((48, 6), 0xAB, np.uint8)]).ravel()
            image.step = rows.shape[1] + 6
            image.is_bigendian = 1

    plain = write_episode(tmp_path / "plain", frames=3)
    odd = write_episode(tmp_path / "odd", frames=3, edit=pad)
    run(plain, tmp_path / "plain_out")
    run(odd, tmp_path / "odd_out")
    assert np.array_equal(depth_images(tmp_path / "plain_out"), depth_images(tmp_path / "odd_out"))
    with BagReader(tmp_path / "odd_out") as reader:
        message = reader.deserialize(reader.first(topics.DEPTH_IMAGE))
    assert (message.data.reshape(48, -1)[:, -6:] == 0xAB).all() and message.is_bigendian


class _Colourful(NoneModel):
    """Notes what colour it is given."""

    uses_colour = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        self.seen.append((frames.camera.frame_id, frames.colour))
        return EnhancedFrames(frames.depth)


def test_colour_is_given_to_aligned_depth_only(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in", frames=3)
    model = _Colourful()
    enhance_bag(source, [tmp_path / "out"], model, PROFILE, EnhanceOptions(model="none", batch=1))
    with BagReader(source) as reader:
        colours = [reader.deserialize(raw).data.reshape(48, 64, 3) for raw in reader.messages([topics.COLOR_IMAGE])]
    aligned = [colour for frame, colour in model.seen if frame == topics.COLOR_FRAME]
    assert all(colour is None for frame, colour in model.seen if frame == topics.DEPTH_FRAME)
    assert len(aligned) == 3
    for given, expected in zip(aligned, colours, strict=True):
        assert np.array_equal(given[0], expected)


class _Dying(NoneModel):
    """Works for some frames, then dies as a process would."""

    def __init__(self, inner, frames: int) -> None:
        self.inner, self.left = inner, frames
        self.history, self.name, self.parameters = inner.history, inner.name, getattr(inner, "parameters", None)

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        self.left -= len(frames.depth)
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.enhance(frames)


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("storage", STORAGES)
def test_interrupted_run_is_continued_to_the_same_bytes(tmp_path: Path, storage: str, draws: int) -> None:
    source = write_episode(tmp_path / "in", storage, frames=20)
    model = create_model("disparity", profile=PROFILE)
    options = EnhanceOptions(model="disparity", batch=3, draws=draws)
    enhance(source, tmp_path / "whole" / "out", model, PROFILE, options)
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        enhance(source, broken / "out", _Dying(model, 25 * draws), PROFILE, options)
    assert not (broken / "out" / "metadata.yaml").exists()
    with pytest.raises(OutputError, match="--resume"):
        enhance(source, broken / "out", model, PROFILE, options)
    result = enhance(source, broken / "out", model, PROFILE, replace(options, resume=True, batch=7))
    assert 0 < result.resumed <= 25 * draws
    assert folder_bytes(broken / "out") == folder_bytes(tmp_path / "whole" / "out")
    again = enhance(source, broken / "out", model, PROFILE, replace(options, resume=True))
    assert (again.frames, again.skipped) == (0, draws)


def test_another_job_is_not_continued(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in", frames=20)
    model = create_model("disparity", profile=PROFILE)
    options = EnhanceOptions(model="disparity", batch=3)
    with pytest.raises(KeyboardInterrupt):
        enhance(source, tmp_path / "out", _Dying(model, 9), PROFILE, options)
    with pytest.raises(OutputError, match=r"expected: +seed 0\n +got: +seed 1"):
        enhance(source, tmp_path / "out", model, PROFILE, replace(options, seed=1, resume=True))
    assert enhance(source, tmp_path / "out", model, PROFILE, replace(options, seed=1, overwrite=True)).resumed == 0


class _Learned(NoneModel):
    """Says what a learned model says about itself."""

    name, weights_sha256 = "two_stage", "ab" * 32

    def __init__(self, backend: str = "torch", correlation: float = 0.3) -> None:
        self.settings = {"backend": backend, "config": {"temporal": {"correlation": correlation, "history": 3}}}


@pytest.mark.parametrize(
    ("other", "known", "got"),
    [
        (_Learned(backend="openvino"), "settings.backend torch", "settings.backend openvino"),
        (
            _Learned(correlation=0.5),
            "settings.config.temporal.correlation 0.3",
            "settings.config.temporal.correlation 0.5",
        ),
    ],
)
def test_the_same_weights_with_other_settings_are_another_job(
    tmp_path: Path, other: NoneModel, known: str, got: str
) -> None:
    source = write_episode(tmp_path / "in", frames=20)
    options = EnhanceOptions(model="two_stage", batch=3)
    dying = _Learned()
    dying.enhance = _Dying(NoneModel(), 9).enhance  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        enhance(source, tmp_path / "out", dying, PROFILE, options)
    with pytest.raises(OutputError, match=rf"expected: +{known}\n +got: +{got}\n"):
        enhance(source, tmp_path / "out", other, PROFILE, replace(options, resume=True))
    assert enhance(source, tmp_path / "out", _Learned(), PROFILE, replace(options, resume=True)).resumed > 0
    with pytest.raises(OutputError, match="exists already"):  # complete, but not this job's
        enhance(source, tmp_path / "out", other, PROFILE, replace(options, resume=True))
    enhance(source, tmp_path / "other", other, PROFILE, options)
    hashes = set()
    for name in ("out", "other"):
        with BagReader(tmp_path / name) as reader:
            hashes.add(reader.provenance().enhancement.settings_sha256)
    assert len(hashes) == 2 and None not in hashes


def test_journal_cuts_off_an_incomplete_record_and_notices_damage(tmp_path: Path) -> None:
    folder, job = tmp_path / ".out.job", {"seed": 1}
    with Journal(folder, job, resume=False) as journal:
        journal.add((0, 0, 0), b"first")
        journal.add((0, 1, 0), None)
        journal.add((0, 2, 0), b"third")
    with (folder / "frames.bin").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 2)
    with Journal(folder, job, resume=True) as journal:
        assert journal.resumed == 2 and (0, 2, 0) not in journal
        assert journal.get((0, 0, 0)) == b"first" and journal.get((0, 1, 0)) is None
        with pytest.raises(OutputError, match="another process"), Journal(folder, job, resume=True):
            pass
        journal.add((0, 2, 0), b"third again")
    content = bytearray((folder / "frames.bin").read_bytes())
    content[content.index(b"first")] ^= 1
    (folder / "frames.bin").write_bytes(content)
    with Journal(folder, job, resume=True) as journal:
        assert journal.get((0, 2, 0)) == b"third again"
        with pytest.raises(OutputError, match="damaged"):
            journal.get((0, 0, 0))


def test_scene_of_the_tests_covers_every_kind_of_pixel() -> None:
    depth = scene(0, "16UC1")
    assert {0, 150, 600, 6000} <= set(np.unique(depth).tolist())


@pytest.mark.timeout(60)
def test_a_journal_that_fails_ends_the_run_and_keeps_what_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames are noted by helper threads: the error must reach the caller, and nothing may wait for ever."""
    source = write_episode(tmp_path / "in", "mcap", frames=20)
    options = EnhanceOptions(model="gaussian", batch=6)
    model = create_model("gaussian", profile=PROFILE)
    enhance(source, tmp_path / "whole", model, PROFILE, options)
    add = Journal.add

    def failing(journal: Journal, key: tuple[int, int, int], payload: bytes | None) -> None:
        if key[1] == 8:
            raise OutputError("the disk is full", where=journal.folder)
        add(journal, key, payload)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="disk is full"):
        patch.setattr(Journal, "add", failing)
        enhance(source, tmp_path / "out", model, PROFILE, options)
    result = enhance(source, tmp_path / "out", model, PROFILE, replace(options, resume=True))
    assert result.resumed >= 7  # the batch before that frame, and more or less of its own
    assert read_all(tmp_path / "out") == read_all(tmp_path / "whole")


def test_journal_takes_frames_from_several_threads(tmp_path: Path) -> None:
    folder, job = tmp_path / ".out.job", {"model": "gaussian"}
    pixels = {(0, number, 0): bytes([number]) * (1000 + 37 * number) for number in range(64)}
    with Journal(folder, job, resume=False) as journal, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: journal.add(key, pixels[key]), pixels))
    with Journal(folder, job, resume=True) as journal:
        assert journal.resumed == len(pixels)
        assert {key: journal.get(key) for key in pixels} == pixels
