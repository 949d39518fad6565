"""One bag on its way through a model: read, computed batch by batch in a second thread, written in order.

Helper threads make the messages, so that the model doesn't wait for them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader, BagWriter, RawMessage
from realdiff_core.errors import RealdiffError
from realdiff_core.messages import serialize
from realdiff_core.provenance import BagProvenance
from realdiff_core.seeds import stream_seed
from realdiff_core.stamps import StampGuard
from realdiff_core.topics import PROVENANCE

from realdiff_enhancer.bag_streams import Batch, DepthStream
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.journal import Journal
from realdiff_enhancer.models.base import DepthFrames, DepthModel

__all__ = ["Pipeline", "restamp_provenance"]

_PROVENANCE_TYPE = "realdiff_msgs/msg/Provenance"
_MAX_WAITING_BYTES = 192 << 20
_MAX_BATCHES = 3  # being computed, or waiting for it or for their messages
_HELPERS = 4


@dataclass
class _Slot:
    """A message that is to be written; `enhanced` is what it becomes, one for each draw."""

    raw: RawMessage
    enhanced: Future[list[bytes]] | None = None


class Pipeline:
    """Reads, lets compute, and writes in order; use it as a context manager."""

    def __init__(
        self,
        reader: BagReader,
        streams: dict[str, DepthStream],
        model: DepthModel,
        options: EnhanceOptions,
        journal: Journal,
        writers: dict[int, BagWriter],
        provenances: dict[int, BagProvenance],
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._model = model
        self._options = options
        self._journal = journal
        self._writers = writers
        self._provenances = provenances
        self._by_info: dict[str, list[DepthStream]] = {}
        self._by_colour: dict[str, list[DepthStream]] = {}
        for stream in streams.values():
            self._by_info.setdefault(stream.info_topic, []).append(stream)
            if stream.colour_topic:
                self._by_colour.setdefault(stream.colour_topic, []).append(stream)
        self._numbers = {topic: number for number, topic in enumerate(streams)}
        self._waiting: deque[_Slot] = deque()
        self._waiting_bytes = 0
        self._running: deque[Future[list[Future[None]]]] = deque()
        self._promises: dict[tuple[str, int], Future[list[bytes]]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="enhance")
        self._helpers = ThreadPoolExecutor(min(_HELPERS, os.cpu_count() or 1), thread_name_prefix="encode")
        self.frames = 0

    def __enter__(self) -> Pipeline:
        """Ready to `run`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the other threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        # what the model has computed is still encoded and noted, for a run that is continued
        self._helpers.shutdown(wait=True)

    def run(self, on_frames: Callable[[int], None]) -> None:
        """Takes the whole bag through."""
        guard = StampGuard(self._reader.path)
        for raw in self._reader.messages():
            stream = self._streams.get(raw.topic)
            if stream is not None:
                self._depth(stream, raw, guard)
            else:
                for other in self._by_info.get(raw.topic, ()):
                    other.see_camera_info(raw)
                for other in self._by_colour.get(raw.topic, ()):
                    other.see_colour(raw)
                self._waiting.append(_Slot(raw))
            self._waiting_bytes += self._cost(raw)
            if self._waiting_bytes > _MAX_WAITING_BYTES:
                self._flush()
            self._write(on_frames, all_of_it=self._waiting_bytes > _MAX_WAITING_BYTES)
        self._flush()
        self._write(on_frames, all_of_it=True)

    def _cost(self, raw: RawMessage) -> int:
        """Memory of a message that waits, its results included, bytes."""
        return len(raw.data) * (1 + self._options.draws if raw.topic in self._streams else 1)

    def _depth(self, stream: DepthStream, raw: RawMessage, guard: StampGuard) -> None:
        frame = stream.frame(raw)
        guard.check(raw.topic, frame.image.stamp_ns)
        promise: Future[list[bytes]] = Future()
        self._waiting.append(_Slot(raw, promise))
        number = self._numbers[raw.topic]
        keys = [(number, frame.index, draw) for draw in range(self._options.draws)]
        if all(key in self._journal for key in keys):
            pixels = [self._journal.get(key) for key in keys]
            promise.set_result([raw.data if data is None else frame.image.with_data(data) for data in pixels])
            return
        self._promises[raw.topic, frame.index] = promise
        # a GPU takes as long for a part of its batch as for the whole
        together = max(self._options.batch, getattr(self._model, "preferred_batch", 1))
        for batch in stream.add(frame, together):
            self._submit(batch)

    def _flush(self) -> None:
        for stream in self._streams.values():
            for batch in stream.flush():
                self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        while len(self._running) >= _MAX_BATCHES:
            for encoded in self._running.popleft().result():
                encoded.result()
        promises = [self._promises.pop((batch.topic, frame.index)) for frame in batch.frames]
        depth = self._helpers.submit(batch.depth)
        self._running.append(self._pool.submit(self._compute, batch, depth, promises))

    def _compute(
        self, batch: Batch, depth: Future[NDArray[np.float32]], promises: list[Future[list[bytes]]]
    ) -> list[Future[None]]:
        """Enhances a batch and has its frames encoded; runs in the second thread."""
        try:
            clean, colour = depth.result(), batch.colour()
            draws = [self._enhance(batch, clean, colour, draw) for draw in range(self._options.draws)]
        except BaseException as error:
            for promise in promises:
                promise.set_exception(error)
            raise
        # a task a thread, not a frame: handing over takes this thread's time
        return [
            self._helpers.submit(self._encode, batch, range(first, len(promises), _HELPERS), clean, draws, promises)
            for first in range(min(_HELPERS, len(promises)))
        ]

    def _enhance(
        self, batch: Batch, clean: NDArray[np.float32], colour: NDArray[np.uint8] | None, draw: int
    ) -> NDArray[np.float32] | None:
        """Noisy depth of a batch [N,H,W], metres; None where the model left it as it was."""
        seeds, previous = batch.seeds(self._options.seed, draw)
        fixed = stream_seed(self._options.seed, batch.topic, draw)
        try:
            noisy = self._model.enhance(DepthFrames(clean, colour, batch.camera, seeds, previous, fixed)).depth
        except RealdiffError as error:
            stamp = batch.frames[0].image.stamp_ns
            raise error.at(f"{self._reader.path}, topic {batch.topic}, stamp {stamp} ns") from None
        return None if noisy is clean else noisy

    def _encode(
        self,
        batch: Batch,
        positions: range,
        clean: NDArray[np.float32],
        draws: list[NDArray[np.float32] | None],
        promises: list[Future[list[bytes]]],
    ) -> None:
        """Makes the messages of some frames, one for each draw, and notes them as done; runs in a helper thread."""
        for position in positions:
            frame = batch.frames[position]
            try:
                messages = []
                for draw, noisy in enumerate(draws):
                    message = frame.image.raw if noisy is None else frame.enhanced(clean[position], noisy[position])
                    data = None if noisy is None else frame.image.data_of(message)
                    self._journal.add((batch.stream, frame.index, draw), data)
                    messages.append(message)
            except BaseException as error:
                for unfinished in positions[positions.index(position) :]:
                    promises[unfinished].set_exception(error)
                raise
            promises[position].set_result(messages)

    def _write(self, on_frames: Callable[[int], None], *, all_of_it: bool) -> None:
        """Writes what is ready at the front of the queue, or waits for all of it."""
        while self._waiting:
            slot = self._waiting[0]
            if slot.enhanced is not None and not (all_of_it or slot.enhanced.done()):
                return
            self._waiting.popleft()
            self._waiting_bytes -= self._cost(slot.raw)
            topic, stamp, data = slot.raw
            if slot.enhanced is not None:
                messages = slot.enhanced.result()
                for draw, writer in self._writers.items():
                    writer.write(topic, stamp, messages[draw])
                self.frames += self._options.draws
                on_frames(self._options.draws)
            elif topic == PROVENANCE and self._reader.topics[topic].msgtype == _PROVENANCE_TYPE:
                message = self._reader.deserialize(slot.raw)
                for draw, writer in self._writers.items():
                    writer.write(topic, stamp, restamp_provenance(message, self._provenances[draw]))
            else:
                for writer in self._writers.values():
                    writer.write(topic, stamp, data)


def restamp_provenance(message: Any, provenance: BagProvenance) -> bytes:
    """A latched provenance message that says what the bag's new record says.

    Args:
        message: realdiff_msgs/Provenance of the input; changed in place.
        provenance: The output's record.

    Returns:
        CDR bytes.
    """
    import numpy as np

    record = provenance.enhancement
    assert record is not None
    kinds = dict(zip(message.topics, (int(kind) for kind in message.kinds), strict=True))
    kinds |= {topic: kind.msg_value for topic, kind in provenance.depth.items()}
    message.topics = list(kinds)
    message.kinds = np.array(list(kinds.values()), np.uint8)
    message.camera_profile = record.profile
    message.model = record.model
    message.weights_sha256 = record.weights_sha256 or ""
    message.seed = record.seed
    message.details_json = provenance.to_json()
    return serialize(message, _PROVENANCE_TYPE)
