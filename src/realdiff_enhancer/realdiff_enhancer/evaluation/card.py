"""The realism card's numbers: what the depth of a bag looks like by itself, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.errors import BagError, ConfigError

from realdiff_enhancer.defaults import CARD_FRAMES
from realdiff_enhancer.metrics.bootstrap import Replicates, aggregate, block_counts
from realdiff_enhancer.metrics.no_reference import Probe, probe_pair_statistics, probe_statistics

#: Frames that pictures show.
PICTURES = 3


@dataclass(frozen=True)
class CardData:
    """What one bag's depth topic looks like.

    Attributes:
        name: label.
        path: the bag.
        topic: the depth topic.
        origin: what its provenance says, in words.
        frames: frames in the topic.
        measured: frames that were measured.
        camera: intrinsics.
        statistics: averages over the measured frames with replicates.
        probes: the frames that pictures show, by index in the topic.
        details: further lines about the origin (model, weights, seed), label and text.
    """

    name: str
    path: Path
    topic: str
    origin: str
    frames: int
    measured: int
    camera: CameraModel
    statistics: Replicates
    probes: dict[int, Probe]
    details: tuple[tuple[str, str], ...] = field(default_factory=tuple)


def measure_bag(
    path: Path,
    baseline_m: float,
    *,
    topic: str | None = None,
    max_frames: int = CARD_FRAMES,
    resamples: int = 500,
    seed: int = 0,
) -> CardData:
    """Measure a bag.

    Frames are read in pairs of neighbours, evenly spread over the bag, so that changes from frame to frame are seen.

    Args:
        path: the bag.
        baseline_m: stereo baseline of the camera.
        topic: depth topic; its only one by default, or the one aligned to colour.
        max_frames: frames that are measured, at most.
        resamples: bootstrap resamples.
        seed: of these.

    Raises:
        BagError: not a bag, no such topic, or fewer than 3 frames.
    """
    from realdiff_core.bag import BagReader
    from realdiff_core.depth import depth_to_metres
    from realdiff_core.episode import decode_image, read_camera, require_depth_topic

    with BagReader(path) as reader:
        topic = topic or _topic(reader)
        encoding = require_depth_topic(reader, topic)
        count = reader.topics[topic].count
        if count < 3:
            raise BagError(
                "the bag has too few depth images to say anything",
                where=f"{path}, topic {topic}",
                expected="≥ 3",
                got=count,
            )
        camera = read_camera(reader, topic, baseline_m)
        wanted = _indices(count, max_frames)
        shown = set(np.array(sorted(wanted))[np.linspace(0, len(wanted) - 1, PICTURES).round().astype(int)].tolist())
        probes: dict[int, Probe] = {}
        per_frame = []
        previous: tuple[int, Probe] | None = None
        for index, raw in enumerate(reader.messages([topic])):
            if index not in wanted:
                continue
            probe = Probe(depth_to_metres(decode_image(reader, raw)[1], encoding), camera)
            statistics = probe_statistics(probe)
            if previous is not None and previous[0] == index - 1:
                statistics.update(probe_pair_statistics(previous[1], probe))
            per_frame.append(statistics)
            previous = (index, probe)
            if index in shown:
                probes[index] = probe
        origin, details = _origin(reader, topic)
    replicates = aggregate(per_frame, block_counts(len(per_frame), resamples, seed))
    return CardData(
        path.resolve().name, path, topic, origin, count, len(per_frame), camera, replicates, probes, details
    )


def _topic(reader: object) -> str:
    from realdiff_core.episode import depth_topics

    from realdiff_core import topics

    found = depth_topics(reader)  # type: ignore[arg-type]
    if not found:
        raise BagError(
            "bag has no depth topic",
            where=reader.path,  # type: ignore[attr-defined]
            expected="images with encoding 16UC1 or 32FC1",
            next_step="record the depth images, too (compressed depth isn't read)",
        )
    return topics.ALIGNED_DEPTH_IMAGE if topics.ALIGNED_DEPTH_IMAGE in found else found[0]


def _indices(count: int, limit: int) -> set[int]:
    """Indices of the frames to measure: all, or pairs of neighbours evenly spread."""
    if limit < 4:
        raise ConfigError("--frames is too small", expected="≥ 4", got=limit)
    if count <= limit:
        return set(range(count))
    starts = np.linspace(0, count - 2, limit // 2).round().astype(int)
    return {int(s) + step for s in starts for step in (0, 1)}


_ORIGINS = {
    "clean_sim": "simulated, clean",
    "enhanced": "simulated, enhanced",
    "sensor": "measured by a real camera",
    "stereo_sim": "simulated stereo camera",
}


def _origin(reader: object, topic: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    provenance = reader.provenance()  # type: ignore[attr-defined]
    if provenance is None or topic not in provenance.depth:
        return "of unknown origin", ()
    details = [("camera profile", provenance.camera_profile or "–")]
    record = provenance.enhancement
    if record is not None:
        details += [
            ("model", record.model),
            ("weights", (record.weights_sha256 or "–")[:16]),
            ("seed", str(record.seed)),
            ("sampling steps", "–" if record.steps is None else str(record.steps)),
        ]
    kind = provenance.depth[topic].value
    return _ORIGINS.get(kind, kind), tuple((label, str(text)) for label, text in details)


def noise_image(probe: Probe) -> NDArray[np.float32]:
    """Noise on smooth surfaces, float32 [H, W], pixels of disparity, NaN elsewhere."""
    noise, known = probe.noise
    return np.where(known, noise, np.float32(np.nan))
