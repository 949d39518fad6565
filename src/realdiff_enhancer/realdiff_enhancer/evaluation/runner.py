"""Run every model on a held-out scene and measure it against the real camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from realdiff_core.depth import depth_to_metres, metres_to_depth
from realdiff_core.errors import RealdiffError
from realdiff_core.seeds import frame_seed, stream_seed
from realdiff_core.topics import ALIGNED_DEPTH_IMAGE

from realdiff_enhancer.defaults import RESAMPLES
from realdiff_enhancer.evaluation.pairs import PairFrame, Scene
from realdiff_enhancer.evaluation.scores import SCORES, score
from realdiff_enhancer.metrics.bootstrap import Estimate, Key, Replicates, aggregate, block_counts
from realdiff_enhancer.metrics.classification import TwoSampleResult
from realdiff_enhancer.metrics.crops import Fold, temporal_folds
from realdiff_enhancer.metrics.frames import CleanContext, Measurement
from realdiff_enhancer.metrics.frechet import FrechetTest
from realdiff_enhancer.metrics.per_frame import own_statistics, paired_statistics
from realdiff_enhancer.metrics.structure import temporal_statistics
from realdiff_enhancer.metrics.two_sample import NETWORK_STEPS, CropBank, network_test, statistics_test
from realdiff_enhancer.models.base import DepthFrames, DepthModel

#: Name of the camera itself in results and tables.
REAL = "real"


@dataclass(frozen=True)
class EvaluationSettings:
    """What a run depends on, besides models and data.

    Attributes:
        seed: seeds the models, the choice of points, the resamples and the classifier.
        resamples: bootstrap resamples.
        network_steps: optimisation steps of the two-sample network per fold; 0 leaves that test out.
        device: torch device of the two-sample network and of the feature extractor.
        features: extractor of the Fréchet distance: "mobilenetv2" or "none".
    """

    seed: int = 0
    resamples: int = RESAMPLES
    network_steps: int = NETWORK_STEPS
    device: str = "cpu"
    features: str = "mobilenetv2"


@dataclass(frozen=True)
class SourceResult:
    """What was measured on one source of depth: the camera or a model.

    Attributes:
        name: the camera's is :data:`REAL`, a model's its label in the tables.
        statistics: averages over frames with replicates.
        scores: distances to the camera by name; empty for the camera.
        network: strong two-sample test; None for the camera or where left out.
        crop_statistics: weak two-sample test; None for the camera.
        frames_per_second: speed of the model, one frame at a time; None for the camera.
        weights_sha256: hash of the model's weights, where it has some.
        steps: sampling steps a stage, of models that sample.
        depth: float32 [H, W] by frame index, of the frames kept for pictures.
        frechet: Fréchet distance to the camera by view; for the camera, of its odd to its even frames.
    """

    name: str
    statistics: Replicates
    scores: dict[str, Estimate] = field(default_factory=dict)
    network: TwoSampleResult | None = None
    crop_statistics: TwoSampleResult | None = None
    frames_per_second: float | None = None
    weights_sha256: str | None = None
    steps: int | None = None
    depth: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    frechet: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneResult:
    """What was measured on one scene.

    Attributes:
        scene: the scene.
        folds: frame indices of the two-sample tests' splits.
        sources: the camera first, then the models in the order given.
        contexts: clean depth of the frames kept for pictures, by frame index.
    """

    scene: Scene
    folds: tuple[Fold, ...]
    sources: tuple[SourceResult, ...]
    contexts: dict[int, CleanContext]


def seeds_of(frame: PairFrame, seed: int, history: int) -> tuple[int, tuple[int, ...]]:
    """Return the seed of a frame and those of the exposures before it, oldest first.

    The pairs are every third or fourth exposure of a clip; the exposures between them get seeds too, so temporally
    coherent noise decays over the real time between two pairs.
    """
    stamps = [
        PairFrame(number, "", frame.clean, frame.noisy).stamp_ns
        for number in range(max(0, frame.number - history), frame.number + 1)
    ]
    seeds = [frame_seed(seed, ALIGNED_DEPTH_IMAGE, stamp) for stamp in stamps]
    return seeds[-1], tuple(seeds[:-1])


def enhance_scene(
    model: DepthModel, scene: Scene, contexts: Sequence[CleanContext], seed: int
) -> tuple[list[NDArray[np.float32]], float]:
    """Let a model enhance the clean depth of every frame, as a camera would deliver it.

    The result is rounded to whole millimetres like the recorded depth (16UC1): otherwise the finer grid alone would
    give every model away.

    Args:
        model: the model.
        scene: supplies frame numbers, camera and, for models that look at it, colour.
        contexts: clean depth of the frames.
        seed: seed of the run.

    Returns:
        float32 [H, W] per frame, metres, NaN in holes; and the model's speed, frames per second.

    Raises:
        RealdiffError: the model needs colour and a frame has none.
    """
    results = []
    busy = 0.0
    fixed = stream_seed(seed, ALIGNED_DEPTH_IMAGE)
    for index, (frame, context) in enumerate(zip(scene.frames, contexts, strict=True)):
        own, previous = seeds_of(frame, seed, model.history)
        colour = scene.colour(index) if model.uses_colour else None
        batch = None if colour is None else colour[None]
        frames = DepthFrames(context.clean[None], batch, scene.camera, (own,), previous, fixed)
        start = time.perf_counter()
        try:
            enhanced = model.enhance(frames).depth[0]
        except RealdiffError as error:
            raise error.at(f"{scene.folder}, frame {frame.number}") from None
        busy += time.perf_counter() - start
        results.append(depth_to_metres(metres_to_depth(enhanced, "16UC1"), "16UC1"))
    return results, len(results) / max(busy, 1e-9)


def evaluate_scene(
    scene: Scene,
    models: Sequence[DepthModel],
    settings: EvaluationSettings,
    report: Callable[[str], None] = lambda _: None,
) -> SceneResult:
    """Measure the camera and every model on a scene.

    Args:
        scene: at least 4 pairs.
        models: made for the scene's camera profile.
        settings: seeds and effort.
        report: called with a line of text before each longer step.

    Returns:
        Everything measured.

    Raises:
        DepthError: an image can't be read, or the scene is too short for the two-sample tests.
    """
    report(f"{scene.name}: reading {len(scene.frames)} pairs")
    contexts = [CleanContext(scene.clean(i), scene.camera) for i in range(len(scene.frames))]
    real = [Measurement(context, scene.noisy(i)) for i, context in enumerate(contexts)]
    windows = [frame.window for frame in scene.frames]
    folds = temporal_folds(len(real), windows if any(windows) else None)
    counts = block_counts(len(real), settings.resamples, settings.seed)
    shown = picture_frames(len(real))

    report(f"{scene.name}: measuring the camera")
    real_statistics = aggregate(_per_frame(scene, real), counts)
    frechet = _frechet(scene, real, settings)
    sources = [
        SourceResult(
            REAL,
            real_statistics,
            depth={i: real[i].depth for i in shown},
            frechet=frechet.of_camera() if frechet else {},
        )
    ]
    bank = CropBank(contexts, settings.device) if settings.network_steps else None
    for model in models:
        report(f"{scene.name}: {model.name}: enhancing")
        depth, speed = enhance_scene(model, scene, contexts, settings.seed)
        generated = [Measurement(context, image) for context, image in zip(contexts, depth, strict=True)]
        report(f"{scene.name}: {model.name}: measuring")
        per_frame = _per_frame(scene, generated)
        for own, mine, theirs in zip(per_frame, generated, real, strict=True):
            own.update(paired_statistics(mine, theirs, settings.seed))
        statistics = aggregate(per_frame, counts)
        weak = statistics_test(real, generated, folds, counts)
        strong = None
        if bank is not None:
            report(f"{scene.name}: {model.name}: two-sample network")
            strong = network_test(bank, real, generated, folds, counts, settings.seed, settings.network_steps)
        if frechet is not None:
            report(f"{scene.name}: {model.name}: Fréchet distance")
        sources.append(
            SourceResult(
                frechet=frechet.of(generated) if frechet else {},
                name=model.name,
                statistics=statistics,
                scores={definition.name: score(definition, statistics, real_statistics) for definition in SCORES},
                network=strong,
                crop_statistics=weak,
                frames_per_second=speed,
                weights_sha256=model.weights_sha256,
                steps=getattr(model, "steps", None),
                depth={i: depth[i] for i in shown},
            )
        )
    return SceneResult(scene, folds, tuple(sources), {i: contexts[i] for i in shown})


def _frechet(scene: Scene, real: Sequence[Measurement], settings: EvaluationSettings) -> FrechetTest | None:
    if settings.features == "none":
        return None
    from realdiff_enhancer.metrics.image_features import load_network

    return FrechetTest(load_network(settings.device), real, (scene.profile.near_m, scene.profile.far_m))


def picture_frames(frames: int) -> tuple[int, ...]:
    """Return the indices of the two frames that pictures show: at a quarter and at three quarters of the scene."""
    return tuple(dict.fromkeys((frames // 4, 3 * frames // 4)))


def _per_frame(scene: Scene, measurements: Sequence[Measurement]) -> list[dict[Key, tuple[float, float]]]:
    """Measure all frames; a pair of consecutive frames counts for its later one.

    Only pairs at the scene's most frequent distance in time and within one fusion window enter the temporal numbers.
    """
    per_frame = [own_statistics(measurement) for measurement in measurements]
    gaps = np.diff([frame.number for frame in scene.frames])
    if gaps.size:
        values, occurrences = np.unique(gaps, return_counts=True)
        usual = values[occurrences.argmax()]
        for i in np.flatnonzero(gaps == usual).tolist():
            if scene.frames[i].window == scene.frames[i + 1].window:
                per_frame[i + 1].update(temporal_statistics(measurements[i], measurements[i + 1]))
    return per_frame
