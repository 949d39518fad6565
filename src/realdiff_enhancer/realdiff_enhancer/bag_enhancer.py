"""Bag in, bag out: every depth topic enhanced, everything else kept byte for byte.

The bag is read once. Depth images wait in the order of the bag for their noise, which a second thread computes batch by
batch; everything is written in the order in which it was read. What a frame becomes depends on the job alone (see
`realdiff_enhancer.job`), so an interrupted run can be continued and gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realdiff_core.bag import BagReader, BagWriter, RawMessage
from realdiff_core.config import CameraProfile
from realdiff_core.episode import depth_topics, list_episodes, require_depth_topic
from realdiff_core.errors import BagError, OutputError, RealdiffError
from realdiff_core.messages import serialize
from realdiff_core.provenance import BagProvenance, check_can_enhance
from realdiff_core.stamps import StampGuard
from realdiff_core.topics import PROVENANCE

from realdiff_enhancer.bag_streams import Batch, DepthStream, enhance_batch
from realdiff_enhancer.job import EnhanceOptions, describe_job, enhanced_provenance, is_output_of
from realdiff_enhancer.journal import Journal
from realdiff_enhancer.models.base import DepthModel

__all__ = ["EnhanceResult", "count_frames", "enhance", "enhance_bag", "output_paths"]

_PROVENANCE_TYPE = "realdiff_msgs/msg/Provenance"
_MAX_WAITING_BYTES = 192 << 20
_MAX_BATCHES = 3  # being computed or waiting for it


@dataclass
class EnhanceResult:
    """What `enhance` did.

    Attributes:
        outputs: Bags that are complete.
        frames: Depth frames that were enhanced, each draw counted.
        resumed: Frames that an interrupted run had done already.
        skipped: Outputs that were complete before.
        seconds: Time that it took.
    """

    outputs: list[Path]
    frames: int = 0
    resumed: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass
class _Slot:
    """A message that is to be written; `enhanced` is what it becomes, one for each draw."""

    raw: RawMessage
    enhanced: Future[list[bytes]] | None = None


def _is_bag(path: Path) -> bool:
    """Whether a path is meant as one bag (a damaged one included) rather than as a folder of bags."""
    if not path.is_dir():
        return True
    return any(item.name == "metadata.yaml" or item.suffix in (".mcap", ".db3") for item in path.iterdir())


def output_paths(source: Path, output: Path, draws: int) -> list[tuple[Path, list[Path]]]:
    """Which bags are read, and for each those that are written, one for each draw.

    One draw writes OUT; several write OUT/draw_000, OUT/draw_001, …; each mirrors the input, a bag or a folder of bags.

    Raises:
        BagError: The input doesn't exist or holds no bag.
    """
    roots = [output] if draws == 1 else [output / f"draw_{draw:03d}" for draw in range(draws)]
    if not source.exists():
        raise BagError(
            "input doesn't exist", where=source, expected="a bag, or a folder of bags", next_step="check the path"
        )
    if _is_bag(source):
        return [(source, roots)]
    return [(bag, [root / bag.name for root in roots]) for bag in list_episodes(source)]


def _depth_topics(reader: BagReader, options: EnhanceOptions) -> list[str]:
    """Depth topics that are to be enhanced."""
    if options.topics:
        for topic in options.topics:
            require_depth_topic(reader, topic)
        return sorted(set(options.topics))
    found = depth_topics(reader)
    if not found:
        raise BagError(
            "bag has no depth topic",
            where=reader.path,
            expected="images with encoding 16UC1 or 32FC1",
            got=", ".join(sorted(reader.topics)) or "no topics",
            next_step="record the depth images, too (compressed depth isn't read)",
        )
    return found


def count_frames(source: Path, options: EnhanceOptions) -> int:
    """Depth frames of a bag, each draw counted.

    Raises:
        BagError: The bag can't be read or lacks a topic.
    """
    with BagReader(source) as reader:
        return options.draws * sum(reader.topics[topic].count for topic in _depth_topics(reader, options))


def enhance(
    source: Path,
    output: Path,
    model: DepthModel,
    profile: CameraProfile,
    options: EnhanceOptions,
    on_frames: Callable[[int], None] = lambda n: None,
) -> EnhanceResult:
    """Enhances a bag or a folder of bags.

    Args:
        source: Bag, or folder of bags.
        output: Where to; see `output_paths`.
        model: The model.
        profile: Camera profile.
        options: Options.
        on_frames: Called with the number of frames that have been written.

    Raises:
        RealdiffError: See `enhance_bag`.
    """
    total = EnhanceResult([])
    for bag, outputs in output_paths(source, output, options.draws):
        result = enhance_bag(bag, outputs, model, profile, options, on_frames)
        total.outputs += result.outputs
        total.frames += result.frames
        total.resumed += result.resumed
        total.skipped += result.skipped
        total.seconds += result.seconds
    return total


def enhance_bag(
    source: Path,
    outputs: list[Path],
    model: DepthModel,
    profile: CameraProfile,
    options: EnhanceOptions,
    on_frames: Callable[[int], None] = lambda n: None,
) -> EnhanceResult:
    """Enhances one bag.

    Args:
        source: The bag.
        outputs: One path for each draw.
        model: The model.
        profile: Camera profile.
        options: Options.
        on_frames: Called with the number of frames that have been written.

    Raises:
        BagError: The bag is damaged, lacks a topic or a camera_info, or its images or stamps make no sense.
        ProvenanceError: Its depth carries noise already.
        OutputError: An output exists, or can't be written.
    """
    begin = time.perf_counter()
    with BagReader(source) as reader:
        topics = _depth_topics(reader, options)
        _check_provenance(reader, topics, options)
        streams = {
            topic: DepthStream(reader, topic, number, profile.baseline_m, model.history, use_colour=model.uses_colour)
            for number, topic in enumerate(topics)
        }
        job = describe_job(reader, topics, model, profile, options)
        folder = Journal.folder_for(outputs[0])
        wanted = _outputs_to_write(outputs, job, options)
        if not wanted:
            if folder.exists():
                Journal.discard(folder)
            on_frames(options.draws * sum(reader.topics[topic].count for topic in topics))
            return EnhanceResult(list(outputs), skipped=len(outputs), seconds=time.perf_counter() - begin)
        if options.overwrite and folder.exists():
            Journal.discard(folder)
        journal = Journal(folder, job, resume=options.resume)
        records = {draw: enhanced_provenance(reader.provenance(), job, model, options, draw) for draw in wanted}
        try:
            with journal, ExitStack() as stack:
                writers = {
                    draw: stack.enter_context(_writer(reader, outputs[draw], records[draw], options)) for draw in wanted
                }
                pipeline = stack.enter_context(_Pipeline(reader, streams, model, options, journal, writers, records))
                pipeline.run(on_frames)
        except RealdiffError as error:
            # Where the input is at fault it must change, and then what was computed from it is of no use.
            if not (isinstance(error, OutputError) and len(journal)):
                journal.remove()
            raise
        # Outputs first, then the journal: a process that dies in between finds complete outputs, and only tidies up.
        journal.remove()
    skipped = len(outputs) - len(wanted)
    return EnhanceResult(list(outputs), pipeline.frames, journal.resumed, skipped, time.perf_counter() - begin)


def _check_provenance(reader: BagReader, topics: list[str], options: EnhanceOptions) -> None:
    provenance = reader.provenance()
    for topic in topics:
        try:
            check_can_enhance(provenance, topic, options.override_provenance)
        except RealdiffError as error:
            raise error.at(reader.path) from None


def _outputs_to_write(outputs: list[Path], job: dict[str, object], options: EnhanceOptions) -> list[int]:
    """Numbers of the outputs that are not complete yet.

    Raises:
        OutputError: Something else has the name of one of them.
    """
    wanted = []
    for draw, path in enumerate(outputs):
        if options.resume and path.exists() and is_output_of(path, job, draw):
            continue
        if path.exists() and not options.overwrite:
            raise OutputError(
                "output exists already",
                where=path,
                expected="a name that is free",
                next_step="choose another name, remove it, or replace it with --overwrite",
            )
        wanted.append(draw)
    return wanted


@contextmanager
def _writer(reader: BagReader, path: Path, provenance: BagProvenance, options: EnhanceOptions) -> Iterator[BagWriter]:
    """A bag writer that begins with the input's topics and custom_data."""
    storage = options.storage or reader.storage
    with BagWriter(path, storage, options.compression, overwrite=options.overwrite) as writer:
        for info in reader.topics.values():
            writer.copy_topic(info)
        for key, value in reader.custom_data.items():
            writer.set_custom_data(key, value)
        writer.set_provenance(provenance)
        yield writer


class _Pipeline:
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
        self._running: deque[Future[None]] = deque()
        self._promises: dict[tuple[str, int], Future[list[bytes]]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="enhance")
        self.frames = 0

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

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
        for batch in stream.add(frame, self._options.batch):
            self._submit(batch)

    def _flush(self) -> None:
        for stream in self._streams.values():
            for batch in stream.flush():
                self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        while len(self._running) >= _MAX_BATCHES:
            self._running.popleft().result()
        promises = [self._promises.pop((batch.topic, frame.index)) for frame in batch.frames]
        self._running.append(self._pool.submit(self._compute, batch, promises))

    def _compute(self, batch: Batch, promises: list[Future[list[bytes]]]) -> None:
        """Enhances a batch and notes its frames as done; runs in the second thread."""
        try:
            draws = enhance_batch(self._model, batch, self._options.seed, self._options.draws)
            for position, (frame, promise) in enumerate(zip(batch.frames, promises, strict=True)):
                messages = [messages[position] for messages in draws]
                for draw, message in enumerate(messages):
                    data = None if message is None else frame.image.data_of(message)
                    self._journal.add((batch.stream, frame.index, draw), data)
                promise.set_result([frame.image.raw if message is None else message for message in messages])
        except BaseException as error:
            for promise in promises:
                if not promise.done():
                    promise.set_exception(error)
            raise

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
