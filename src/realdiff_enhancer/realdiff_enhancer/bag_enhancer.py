"""Bag in, bag out: every depth topic enhanced, everything else kept byte for byte.

The bag is read once. Depth images wait in the order of the bag for their noise, which a second thread computes batch by
batch; everything is written in the order in which it was read. What a frame becomes depends on the job alone (see
`realdiff_enhancer.job`), so an interrupted run can be continued and gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.config import CameraProfile
from realdiff_core.episode import depth_topics, list_episodes, require_depth_topic
from realdiff_core.errors import BagError, OutputError, RealdiffError
from realdiff_core.provenance import BagProvenance, check_can_enhance

from realdiff_enhancer.bag_pipeline import Pipeline
from realdiff_enhancer.bag_streams import DepthStream
from realdiff_enhancer.job import EnhanceOptions, describe_job, enhanced_provenance, is_output_of
from realdiff_enhancer.journal import Journal
from realdiff_enhancer.models.base import DepthModel

__all__ = ["EnhanceResult", "count_frames", "enhance", "enhance_bag", "output_paths"]


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
                pipeline = stack.enter_context(Pipeline(reader, streams, model, options, journal, writers, records))
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
