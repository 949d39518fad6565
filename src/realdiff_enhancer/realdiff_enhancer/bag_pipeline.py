"""One bag on its way through a model: read in one thread, computed batch by batch, written in the caller's.

A model on a GPU is given a batch while it still computes the one before; helper threads convert depth and make the
messages.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
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
_MAX_BATCHES = 6  # being computed, or waiting for it or for their messages
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
        self._waiting: SimpleQueue[_Slot | None] = SimpleQueue()  # to be written; None ends it
        self._waiting_bytes = 0
        self._room = threading.Condition()
        self._awaited: Future[list[bytes]] | None = None  # what the caller waits for
        self._stopped = False
        self._running: deque[Future[Future[list[Future[None]]]]] = deque()
        self._promises: dict[tuple[str, int], Future[list[bytes]]] = {}
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="enhance")
        self._finishing = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._helpers = ThreadPoolExecutor(min(_HELPERS, os.cpu_count() or 1), thread_name_prefix="encode")
        self.frames = 0

    def __enter__(self) -> Pipeline:
        """Ready to `run`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the other threads and waits for them."""
        with self._room:
            self._stopped = True
            self._room.notify()
        # what the model has computed is still encoded and noted, for a run that is continued
        with ExitStack() as stack:  # each of them, even if Ctrl-C ends the wait for another
            stack.callback(self._helpers.shutdown, wait=True)
            stack.callback(self._finishing.shutdown, wait=True)
            stack.callback(self._computing.shutdown, wait=True, cancel_futures=True)
            stack.callback(self._reading.shutdown, wait=True)

    def run(self, on_frames: Callable[[int], None]) -> None:
        """Takes the whole bag through."""
        reading = self._reading.submit(self._read)
        while (slot := self._waiting.get()) is not None:
            self._write(slot, on_frames)
            with self._room:
                self._waiting_bytes -= self._cost(slot.raw)
                self._room.notify()
        reading.result()

    def _read(self) -> None:
        """Reads the bag to its end and has its depth computed; runs in a thread of its own."""
        guard = StampGuard(self._reader.path)
        try:
            for raw in self._reader.messages():
                if self._stopped:
                    return
                stream = self._streams.get(raw.topic)
                if stream is not None:
                    self._depth(stream, raw, guard)
                else:
                    for other in self._by_info.get(raw.topic, ()):
                        other.see_camera_info(raw)
                    for other in self._by_colour.get(raw.topic, ()):
                        other.see_colour(raw)
                    self._waiting.put(_Slot(raw))
                self._make_room(self._cost(raw))
            self._flush()
        except BaseException as error:
            # the caller waits for these
            for promise in self._promises.values():
                promise.set_exception(error)
            raise
        finally:
            self._waiting.put(None)

    def _cost(self, raw: RawMessage) -> int:
        """Memory of a message that waits, its results included, bytes."""
        return len(raw.data) * (1 + self._options.draws if raw.topic in self._streams else 1)

    def _make_room(self, more: int) -> None:
        """Counts bytes that wait to be written, and waits where they are too many."""

        def has_room() -> bool:
            return self._stopped or self._waiting_bytes <= _MAX_WAITING_BYTES

        def is_held_back() -> bool:
            return any(promise is self._awaited for promise in self._promises.values())

        with self._room:
            self._waiting_bytes += more
            self._room.wait_for(lambda: has_room() or is_held_back())
            if has_room():
                return
        self._flush()  # the caller waits for a frame of a batch that isn't full
        with self._room:
            self._room.wait_for(has_room)

    def _depth(self, stream: DepthStream, raw: RawMessage, guard: StampGuard) -> None:
        frame = stream.frame(raw)
        guard.check(raw.topic, frame.image.stamp_ns)
        promise: Future[list[bytes]] = Future()
        number = self._numbers[raw.topic]
        keys = [(number, frame.index, draw) for draw in range(self._options.draws)]
        if all(key in self._journal for key in keys):
            pixels = [self._journal.get(key) for key in keys]
            promise.set_result([raw.data if data is None else frame.image.with_data(data) for data in pixels])
            self._waiting.put(_Slot(raw, promise))
            return
        self._promises[raw.topic, frame.index] = promise
        self._waiting.put(_Slot(raw, promise))
        # a GPU takes as long for a part of its batch as for the whole
        together = max(self._options.batch, getattr(self._model, "preferred_batch", 1))
        for batch in stream.add(frame, together):
            self._submit(batch)

    def _flush(self) -> None:
        for stream in self._streams.values():
            for batch in stream.flush():
                self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        while len(self._running) >= _MAX_BATCHES and not self._stopped:
            for encoded in self._running.popleft().result().result():
                encoded.result()
        if self._stopped:
            return
        empty = getattr(self._model, "empty", None)
        clean = np.empty(batch.shape, np.float32) if empty is None else empty(batch.shape)
        promises = [self._promises.pop((batch.topic, frame.index)) for frame in batch.frames]
        with self._telling(promises):
            converted = [self._helpers.submit(batch.convert, part, clean) for part in _parts(len(batch.frames))]
            self._running.append(self._computing.submit(self._compute, batch, clean, converted, promises))

    def _compute(
        self,
        batch: Batch,
        clean: NDArray[np.float32],
        converted: list[Future[None]],
        promises: list[Future[list[bytes]]],
    ) -> Future[list[Future[None]]]:
        """Begins to enhance a batch; runs in a thread of its own, and so does what follows."""
        with self._telling(promises), self._naming(batch):
            for part in converted:
                part.result()
            colour = batch.colour()
            draws = [self._begin(batch, clean, colour, draw) for draw in range(self._options.draws)]
            return self._finishing.submit(self._finish, batch, clean, draws, promises)

    def _begin(
        self, batch: Batch, clean: NDArray[np.float32], colour: NDArray[np.uint8] | None, draw: int
    ) -> Callable[[], NDArray[np.float32]]:
        """Begins one draw of a batch; what it returns waits for its depth [N,H,W], metres."""
        seeds, previous = batch.seeds(self._options.seed, draw)
        fixed = stream_seed(self._options.seed, batch.topic, draw)
        frames = DepthFrames(clean, colour, batch.camera, seeds, previous, fixed)
        begin = getattr(self._model, "begin", None)
        if begin is not None:
            finish: Callable[[], NDArray[np.float32]] = begin(frames)
            return finish
        noisy = self._model.enhance(frames).depth
        return lambda: noisy

    def _finish(
        self,
        batch: Batch,
        clean: NDArray[np.float32],
        begun: list[Callable[[], NDArray[np.float32]]],
        promises: list[Future[list[bytes]]],
    ) -> list[Future[None]]:
        """Waits for a batch and has its frames encoded."""
        with self._telling(promises), self._naming(batch):
            depths = [finish() for finish in begun]
            # what the model left as it was needn't be encoded
            draws = [None if noisy is clean else noisy for noisy in depths]
            parts = _parts(len(promises))
            return [self._helpers.submit(self._encode, batch, part, clean, draws, promises) for part in parts]

    @contextmanager
    def _telling(self, promises: list[Future[list[bytes]]]) -> Iterator[None]:
        """What goes wrong inside is what the frames become."""
        try:
            yield
        except BaseException as error:
            for promise in promises:
                if not promise.done():
                    promise.set_exception(error)
            raise

    @contextmanager
    def _naming(self, batch: Batch) -> Iterator[None]:
        """An error says which frames it is about."""
        try:
            yield
        except RealdiffError as error:
            stamp = batch.frames[0].image.stamp_ns
            raise error.at(f"{self._reader.path}, topic {batch.topic}, stamp {stamp} ns") from None

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

    def _write(self, slot: _Slot, on_frames: Callable[[int], None]) -> None:
        """Writes a message, when what it becomes is there."""
        topic, stamp, data = slot.raw
        if slot.enhanced is not None:
            if not slot.enhanced.done():
                with self._room:
                    self._awaited = slot.enhanced
                    self._room.notify()
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


def _parts(count: int) -> list[range]:
    """Positions of a batch, shared out among the helpers: a task a thread, since handing over takes time."""
    return [range(first, count, _HELPERS) for first in range(min(_HELPERS, count))]


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
