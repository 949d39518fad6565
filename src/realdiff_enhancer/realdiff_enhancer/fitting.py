"""A camera profile fitted on the user's own recording: clean proxy, pairs, fine-tuning, before and after.

The last windows of the recording are not trained on: before and after are compared there. Pairs that `make_pairs` has
made already are taken as they are.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from realdiff_core.config import CameraProfile, StreamProfile
from realdiff_core.errors import ConfigError, DepthError

from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.data.sequence import SequenceOptions
from realdiff_enhancer.data.splits import PRIVATE
from realdiff_enhancer.defaults import CLEAN_FAR_M, FIT_BATCH, FIT_CROP, FIT_STEPS, PAIR_WINDOW, VOXEL_M
from realdiff_enhancer.evaluation.pairs import Scene, SceneArgument, load_scene
from realdiff_enhancer.evaluation.runner import EvaluationSettings, SceneResult, evaluate_scene
from realdiff_enhancer.evaluation.temporal_fit import TemporalFit
from realdiff_enhancer.fitting_pairs import find_pairs, pack_for_fit, with_recorded_stream

BEFORE, AFTER = "before", "after"
#: Optimiser steps of the trials that find out how long a step takes, and the share of the time that is planned for.
_TRIAL_STEPS = (4, 14)
_PLANNED_SHARE = 0.8


@dataclass(frozen=True)
class FitOptions:
    """How a camera is fitted.

    Attributes:
        name: of the new profile.
        base: profile of the camera's kind: baseline, range, disparity step.
        steps: optimiser steps of the fine stage; the coarse one takes half, each distillation a quarter.
        time_limit_s: what the training may take; None for no limit.
        static: the camera is at rest; None finds out. This and the three lengths are for making pairs.
        initial: model folder to start from; None for the shipped weights.
        batch: crops a step.
        crop: height and width of the crops, px.
        seed: of training and comparison.
        far_m: clean depth ends here.
        voxel_m: side of a voxel.
        window: frames fused together.
        train: further settings of the training, over these.
    """

    name: str
    base: CameraProfile
    steps: int = FIT_STEPS
    time_limit_s: float | None = None
    static: bool | None = None
    initial: Path | None = None
    batch: int = FIT_BATCH
    crop: tuple[int, int] = FIT_CROP
    seed: int = 0
    far_m: float = CLEAN_FAR_M
    voxel_m: float = VOXEL_M
    window: int = PAIR_WINDOW
    train: dict[str, Any] | None = None


@dataclass(frozen=True)
class FitResult:
    """What a fit gave.

    Attributes:
        profile: the new profile.
        model: folder of the fitted model, in the work folder.
        comparison: before and after on the pairs that weren't trained on.
        pairs: number of pairs, those for validation among them.
        validation: number of the latter.
        method: how the clean depth was made: "motion", "static", "twins"; "" if given pairs don't say.
        private: the recording is of a scene that the project holds out.
        seconds: of making the pairs and of training.
        temporal: fit of the noise's behaviour over time; None where the recording doesn't show it.
    """

    profile: CameraProfile
    model: Path
    comparison: SceneResult
    pairs: int
    validation: int
    method: str
    private: bool
    seconds: tuple[float, float]
    temporal: TemporalFit | None = None


def fit(
    source: Path,
    reading: SequenceOptions,
    options: FitOptions,
    work: Path,
    report: Callable[[str], None] = print,
    advance: Callable[[int], None] = lambda _: None,
) -> FitResult:
    """Fit a camera.

    Args:
        source: raw bag or folder of depth frames; or folder of pairs, whose making is then left out.
        reading: what is read of a recording.
        options: settings.
        work: empty folder for pairs and training.
        report: receives lines about the progress.
        advance: called with the number of frames that have got a clean depth.

    Raises:
        RealdiffError: no usable pairs in the recording or folder.
        ConfigError: too few of them to train on, they are of another camera, or the training's settings don't fit.
    """
    from realdiff_enhancer.two_stage.camera import profile_setting
    from realdiff_enhancer.two_stage.model_folder import load_config, shipped_weights
    from realdiff_enhancer.two_stage.pipeline import TwoStageModel

    initial = options.initial or shipped_weights(profile_setting(options.base).weights or "d435")
    own_fx_px = load_config(initial).codec.native_fx_px  # a wrong folder shows before the work
    begin = time.monotonic()
    pairs = find_pairs(source, reading, options, work, advance)
    pack, private = pack_for_fit(pairs, options, work / "pack.npz")
    made = time.monotonic()
    report(f"{pairs.origin}; {len(pack.validation_indices())} are kept for the comparison")
    if private:
        report(f"frames of a held-out scene: {PRIVATE}")
    options = replace(options, base=with_recorded_stream(options.base, pack, own_fx_px, report))
    model = _train(work, initial, options, report)
    trained = time.monotonic()
    temporal = _over_time(pairs.clip, model, options, report)
    profile = _profile(options, pack)
    scene = _comparison_scene(pairs.folder, pack, options)
    # without the profile: the initial weights may be those of another kind of camera
    fx = profile_setting(options.base).stream_fx_px
    models = [TwoStageModel.from_pretrained(path, device="auto", stream_fx_px=fx) for path in (initial, model)]
    for name, instance in zip((BEFORE, AFTER), models, strict=True):
        instance.name = name
    settings = EvaluationSettings(options.seed, 300, 0, "cpu", "none")
    comparison = evaluate_scene(scene, models, settings, report)
    return FitResult(
        profile,
        model,
        comparison,
        len(pack),
        len(scene.frames),
        pairs.meta.method,
        private,
        (made - begin, trained - made),
        temporal,
    )


def _over_time(
    clip: DepthSequence | None, model: Path, options: FitOptions, report: Callable[[str], None]
) -> TemporalFit | None:
    """Give the fitted model the camera's behaviour over time, where a clip at rest shows it."""
    from realdiff_enhancer.evaluation.temporal_fit import fit_temporal
    from realdiff_enhancer.two_stage.model_folder import set_temporal
    from realdiff_enhancer.two_stage.pipeline import TwoStageModel

    if clip is None:
        return None
    fitted = TwoStageModel.from_pretrained(model, device="auto")
    try:
        found = fit_temporal(options.name, clip, options.base, fitted, options.seed, report)
    except DepthError as error:
        report(f"noise over time stays as it was: {error.what}")
        return None
    before, after = found.misfit
    if not after < before:  # NaN: nothing to compare
        misses = f"the fit misses the camera's by {after:.3f}, the model by {before:.3f}"
        report(f"noise over time stays as it was: {misses}")
        return None
    share, correlation = found.setting.static_share, found.setting.correlation
    set_temporal(model, fitted.with_temporal(share, correlation).config.temporal)
    setting = f"fixed share {share:.2f}, correlation {correlation:.2f}"
    report(f"noise over time: {setting}; misfit {before:.3f} -> {after:.3f}")
    return found


def _train(work: Path, initial: Path, options: FitOptions, report: Callable[[str], None]) -> Path:
    import torch

    from realdiff_enhancer.two_stage.camera import on_stream, profile_setting
    from realdiff_enhancer.two_stage.model_folder import base_config, load_config
    from realdiff_enhancer.two_stage.training import TrainConfig, train_run

    loaded = load_config(initial)
    few = loaded.few_steps
    # Noise is learned in px of the camera's own stream, which its baseline, focal length and step turn into metres.
    stream = on_stream(base_config(loaded), profile_setting(options.base).stream_fx_px, options.base.baseline_m)
    model = stream.model_dump()
    model["codec"]["disparity_step_px"] = options.base.disparity_step_px
    base: dict[str, Any] = {
        "packs": [{"path": work / "pack.npz", "source": loaded.source}],
        "model": model,
        "initial": initial,
        "seed": options.seed,
        "batch": options.batch,
        "crop": options.crop,
        "learning_rate": 1e-4,
        "calibration_frames": 8,
        "calibrate_on": "validation",
        "calibrate_steps": (1, 2, 4, 8),
        "sample_every": 0,
        # Recorded in seconds; compiling takes minutes, which a fit doesn't repay.
        "acceleration": "graphs" if torch.cuda.is_available() else "none",
        **({"distil_to": few} if few else {}),
        **(options.train or {}),
    }

    def settings(steps: int) -> TrainConfig:
        share = {"coarse_steps": max(1, steps // 2), "fine_steps": max(1, steps)}
        distil = {"distil_steps": max(1, steps // 4) if few else 0}
        return TrainConfig.model_validate({**base, **share, **distil})

    steps = options.steps
    if options.time_limit_s is not None:
        seconds = []
        for trial in _TRIAL_STEPS:
            begin = time.monotonic()
            if not train_run(settings(trial), work / "trial", report=lambda _: None).finished:
                raise KeyboardInterrupt
            seconds.append(time.monotonic() - begin)
            shutil.rmtree(work / "trial")
        steps = planned_steps(options.time_limit_s, seconds, options.steps)
        report(f"{steps} steps are planned for {options.time_limit_s:g} s")
        options = replace(options, time_limit_s=options.time_limit_s - sum(seconds))
    result = train_run(settings(steps), work / "run", report=report, time_limit_s=options.time_limit_s)
    if result.model is None and options.time_limit_s is None:
        raise KeyboardInterrupt  # a signal has ended it: there is no limit that could have
    if result.model is None:
        raise ConfigError(
            "the time is up before the training has finished",
            expected=f"{steps} steps within {options.time_limit_s:g} s",
            next_step="allow more time (--time-limit-s) or fewer steps (--steps)",
        )
    return result.model


def planned_steps(time_limit_s: float, seconds: Sequence[float], wanted: int) -> int:
    """Choose the number of steps that fits into a time.

    Args:
        time_limit_s: what everything may take, the trials included.
        seconds: what the two trials of :data:`_TRIAL_STEPS` steps took; their difference is the steps', the rest is
            spent once in each run (reading, drawing, calibrating).
        wanted: most steps.

    Raises:
        ConfigError: not even a short training fits.
    """
    few, more = _TRIAL_STEPS
    each = max((seconds[1] - seconds[0]) / (more - few), seconds[0] / few * 1e-3)
    once = max(0.0, seconds[0] - few * each)
    steps = int((_PLANNED_SHARE * (time_limit_s - sum(seconds)) - once) / each)
    if steps < more:
        raise ConfigError(
            "the time is too short to fit a camera on this machine",
            where=f"--time-limit-s {time_limit_s:g}",
            expected=f"at least {sum(seconds) + (once + more * each) / _PLANNED_SHARE:.0f} s",
            next_step="allow more time, or use a GPU",
        )
    return min(wanted, steps)


def _profile(options: FitOptions, pack: PairPack) -> CameraProfile:
    """The base profile under the new name, with the recording's geometry; the noise is in the weights."""
    import numpy as np

    height, width = pack.noisy_mm.shape[1:]
    hfov = float(np.degrees(2 * np.arctan(0.5 * width / pack.K[0, 0])))
    depth = StreamProfile(width=width, height=height, hfov_deg=hfov, rate_hz=options.base.depth.rate_hz)
    return options.base.model_copy(
        update={
            "name": options.name,
            "description": f"fitted on a recording of {len(pack)} pairs, based on {options.base.name}",
            "depth": depth,
            "noise": {key: value for key, value in options.base.noise.items() if key != "two_stage"},
        }
    )


def _comparison_scene(folder: Path, pack: PairPack, options: FitOptions) -> Scene:
    scene = load_scene(SceneArgument(options.name, folder, options.base.name))
    kept = set(pack.frames[pack.validation_indices()].tolist())
    return replace(scene, frames=tuple(frame for frame in scene.frames if frame.number in kept))


def save_profile(result: FitResult, page: str, folder: Path, overwrite: bool) -> Path:
    """Write profile, weights and card into a configuration folder; the profile comes last, when all else is there.

    Args:
        result: the fit.
        page: HTML of the card.
        folder: configuration folder, e.g. `realdiff_core.config.user_config_folder()`.
        overwrite: replace an earlier fit of this name.

    Returns:
        The profile's file.
    """
    import yaml

    check_name(result.profile.name, folder, overwrite)
    name = result.profile.name
    weights = folder / "weights" / f"two_stage_{name}"
    partial = weights.with_name(f".{weights.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(result.model, partial)
    record = {
        "method": result.method,
        "pairs": result.pairs,
        "compared_on": result.validation,
        "private": result.private,
        "temporal": None if result.temporal is None else asdict(result.temporal.setting),
        "scores": {
            source.name: {key: estimate.value for key, estimate in source.scores.items()}
            for source in result.comparison.sources
            if source.scores
        },
    }
    (partial / "fit.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(weights, ignore_errors=True)
    partial.rename(weights)
    (folder / "cards").mkdir(exist_ok=True)
    (folder / "cards" / f"{name}.html").write_text(page, encoding="utf-8")
    (folder / "cameras").mkdir(exist_ok=True)
    text = yaml.safe_dump(result.profile.model_dump(mode="json"), sort_keys=False)
    new = folder / "cameras" / f".{name}.yaml.partial"
    new.write_text(f"# Fitted by `ros2 run realdiff_enhancer fit_camera`; weights: ../weights/{weights.name}\n{text}")
    new.replace(folder / "cameras" / f"{name}.yaml")
    return folder / "cameras" / f"{name}.yaml"


def check_name(name: str, folder: Path, overwrite: bool) -> None:
    """Refuse a name that is no name, is shipped, or is taken.

    Raises:
        ConfigError: see above.
    """
    import re

    from realdiff_core.config import config_folders

    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError("this is no name for a profile", expected="lower-case letters, digits and _", got=repr(name))
    for place in config_folders():
        if (place / "cameras" / f"{name}.yaml").is_file() and place.resolve() != folder.resolve():
            raise ConfigError(
                "a profile of this name ships with the software",
                where=place / "cameras",
                next_step="choose another --name",
            )
    if (folder / "cameras" / f"{name}.yaml").is_file() and not overwrite:
        raise ConfigError(
            "a profile of this name exists",
            where=folder / "cameras",
            got=name,
            next_step="choose another, or --overwrite",
        )
