"""A model that begins with a batch before it has finished the one before, as one on a GPU does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enhancer_bags import DEPTH_TOPICS, STORAGES, read_all, write_episode
from realdiff_core.config import camera_profile
from realdiff_core.errors import DepthError, OutputError
from realdiff_enhancer.bag_enhancer import enhance_bag
from realdiff_enhancer.bag_pipeline import Pipeline
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.models import DepthFrames, EnhancedFrames, create_model
from realdiff_enhancer.models.none import NoneModel

PROFILE = camera_profile("d435")
FRAMES = 20
OPTIONS = EnhanceOptions(model="disparity", batch=4)


class _Ahead(NoneModel):
    """Finishes a batch only when the next has been begun, where there is a next one.

    Args:
        batches: how many there are.
        broken: the batch that can't be finished.
    """

    def __init__(self, batches: int, broken: int | None = None) -> None:
        self.inner = create_model("disparity", profile=PROFILE)
        self.history, self.name, self.parameters = self.inner.history, "disparity", self.inner.parameters
        self.batches, self.broken, self.begun = batches, broken, 0
        self.changed = threading.Condition()
        self.waited: list[bool] = []

    def begin(self, frames: DepthFrames) -> Callable[[], np.ndarray]:
        with self.changed:
            number = self.begun
            self.begun += 1
            self.changed.notify_all()

        def finish() -> np.ndarray:
            with self.changed:
                last = number + 1 == self.batches
                self.waited.append(self.changed.wait_for(lambda: last or self.begun > number + 1, timeout=20))
            if number == self.broken:
                raise DepthError("the device is gone")
            return self.inner.enhance(frames).depth

        return finish


@pytest.mark.parametrize("storage", STORAGES)
def test_the_next_batch_is_begun_before_the_last_is_finished(tmp_path: Path, storage: str) -> None:
    source = write_episode(tmp_path / "in", storage, frames=FRAMES)
    model = _Ahead(len(DEPTH_TOPICS) * FRAMES // OPTIONS.batch)
    result = enhance_bag(source, [tmp_path / "ahead"], model, PROFILE, OPTIONS)
    assert result.frames == len(DEPTH_TOPICS) * FRAMES
    assert model.waited == [True] * model.batches
    enhance_bag(source, [tmp_path / "out"], create_model("disparity", profile=PROFILE), PROFILE, OPTIONS)
    assert read_all(tmp_path / "ahead") == read_all(tmp_path / "out")


def test_what_goes_wrong_later_names_its_frames_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in", frames=FRAMES)
    with pytest.raises(DepthError, match=r"the device is gone\n.*in, topic /camera.*, stamp \d+ ns"):
        enhance_bag(source, [tmp_path / "out"], _Ahead(10, broken=3), PROFILE, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


class _Counting(NoneModel):
    """Notes how many frames it is given at once."""

    preferred_batch = 4

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        self.sizes.append(len(frames.depth))
        time.sleep(0.005)  # slower than reading: what waits fills the memory that there is
        return EnhancedFrames(frames.depth)


def test_little_memory_does_not_split_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_episode(tmp_path / "in", frames=FRAMES)
    size = max(len(message.data) for message in read_all(source))
    monkeypatch.setattr("realdiff_enhancer.bag_pipeline._MAX_WAITING_BYTES", 40 * size)  # of two topics and colour
    model = _Counting()
    options = EnhanceOptions(model="none", batch=4)
    enhance_bag(source, [tmp_path / "out"], model, PROFILE, options)
    assert model.sizes == [4] * (len(DEPTH_TOPICS) * FRAMES // 4)
    monkeypatch.setattr("realdiff_enhancer.bag_pipeline._MAX_WAITING_BYTES", size)  # less than a batch: it goes on
    model = _Counting()
    assert enhance_bag(source, [tmp_path / "tight"], model, PROFILE, options).frames == len(DEPTH_TOPICS) * FRAMES
    assert read_all(tmp_path / "tight") == read_all(tmp_path / "out")


@pytest.mark.parametrize("which", ["_computing", "_finishing", "_helpers"])
def test_a_thread_that_cannot_be_started_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    source = write_episode(tmp_path / "in", frames=FRAMES)
    begin = Pipeline.__init__

    def without(self: Pipeline, *arguments: Any) -> None:
        begin(self, *arguments)

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        getattr(self, which).submit = refuse

    monkeypatch.setattr(Pipeline, "__init__", without)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        enhance_bag(source, [tmp_path / "out"], NoneModel(), PROFILE, EnhanceOptions(model="none", batch=4))


def test_a_disk_that_fills_up_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's thread fails while the others still read and compute; what they have done is kept."""
    from realdiff_core.bag import BagWriter

    source = write_episode(tmp_path / "in", frames=FRAMES)
    write, written = BagWriter.write, 0

    def full(self: BagWriter, topic: str, stamp_ns: int, data: bytes) -> None:
        nonlocal written
        written += topic in DEPTH_TOPICS
        if written > FRAMES:
            raise OutputError("the disk is full")
        write(self, topic, stamp_ns, data)

    monkeypatch.setattr(BagWriter, "write", full)
    model = create_model("disparity", profile=PROFILE)
    with pytest.raises(OutputError, match="disk is full"):
        enhance_bag(source, [tmp_path / "out"], model, PROFILE, OPTIONS)
    assert not {t.name for t in threading.enumerate()} & {"read_0", "enhance_0", "finish_0", "encode_0"}
    monkeypatch.undo()
    resumed = enhance_bag(
        source, [tmp_path / "out"], model, PROFILE, EnhanceOptions(model="disparity", batch=4, resume=True)
    )
    assert resumed.resumed >= FRAMES
