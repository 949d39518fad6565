"""The pairs that a camera is fitted on: made of a recording, or made before by `make_pairs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError, DepthError

from realdiff_enhancer.data.pair_folder import (
    PairFolderWriter,
    PairMeta,
    is_pair_folder,
    last_windows,
    load_folder,
    read_meta,
)
from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.pairs import PairPack, refuse_other_baseline
from realdiff_enhancer.data.sequence import SequenceOptions
from realdiff_enhancer.data.sources import PairSource
from realdiff_enhancer.data.splits import PRIVATE, refuse_held_out
from realdiff_enhancer.data.stream_grid import stream_factor

if TYPE_CHECKING:
    from realdiff_enhancer.fitting import FitOptions

#: Fewer pairs can't be divided into training and validation.
MIN_PAIRS = 8
#: Pairs that before and after are compared on, at least: the tests divide them once more.
_MIN_VALIDATION = 4
#: Relative difference under which two focal lengths are those of one stream: calibrations differ by as much.
_SAME_STREAM = 0.03
#: Focal lengths of depth streams that there are; on smooth walls chance steps can look like others.
_STREAM_FX_PX = (200.0, 1100.0)
#: Frames that show how noise behaves over time.
CLIP_FRAMES = 90


@dataclass(frozen=True)
class FitPairs:
    """Pairs to fit a camera on.

    Attributes:
        folder: where they lie.
        meta: what the folder says of itself.
        origin: where they come from, in words.
        clip: the recording's first frames, where it was read and the camera is at rest.
    """

    folder: Path
    meta: PairMeta
    origin: str
    clip: DepthSequence | None = None


def find_pairs(
    source: Path, reading: SequenceOptions, options: FitOptions, work: Path, advance: Callable[[int], None]
) -> FitPairs:
    """Take the pairs that lie in a folder, or make some of a recording.

    Args:
        source: raw bag, folder of depth frames, or folder of pairs.
        reading: what is read of a recording.
        options: settings.
        work: pairs that are made get a folder in here.
        advance: called with the number of frames that have got a clean depth.

    Raises:
        RealdiffError: no usable pairs there.
        ConfigError: too few of them, or of another camera.
    """
    if is_pair_folder(source):
        return _given_pairs(source, options)
    return _make_pairs(source, reading, options, work, advance)


def _given_pairs(folder: Path, options: FitOptions) -> FitPairs:
    """Take pairs that were made before.

    Raises:
        ConfigError: they are of another camera.
    """
    meta = read_meta(folder, _meta(options, ""))
    refuse_other_baseline(
        meta.baseline_m,
        options.base.baseline_m,
        whose=f"the camera profile {options.base.name!r}",
        where=folder,
        next_step=f"fit them with --base {meta.camera}, the camera they were made with",
    )
    count = len(load_folder(folder, meta=meta))
    _check_number(count, folder, f"make pairs of a longer recording, or see {folder / 'rejected.csv'}")
    made = f", made from {meta.source} ({meta.method})" if meta.method else ""
    return FitPairs(folder, meta, f"{count} pairs are taken from {folder}{made}")


def _make_pairs(
    source: Path, reading: SequenceOptions, options: FitOptions, work: Path, advance: Callable[[int], None]
) -> FitPairs:
    """Make pairs of a recording."""
    found = _open(source, reading, options)
    meta = _meta(options, found.method)
    accepted = _write_pairs(found, work / "pairs", meta, advance)
    remedy = "record longer: the camera moving slowly over a scene, or some seconds at rest with --static"
    _check_number(accepted, source, remedy)
    origin = f"{accepted} of {found.frames} frames have a clean depth ({found.method})"
    clip = found.sequence if found.method == "static" else None
    if clip is not None:
        first = slice(CLIP_FRAMES)
        clip = replace(clip, depths_m=list(clip.depths_m[first]), numbers=list(clip.numbers[first]), poses=None)
    return FitPairs(work / "pairs", meta, origin, clip)


def _meta(options: FitOptions, method: str) -> PairMeta:
    base = options.base
    return PairMeta(source=options.name, camera=base.name, baseline_m=base.baseline_m, method=method)


def _check_number(pairs: int, source: Path, remedy: str) -> None:
    if pairs < MIN_PAIRS:
        raise ConfigError(
            "there are too few pairs to fit a camera",
            where=source,
            expected=f"at least {MIN_PAIRS} frames with clean depth",
            got=pairs,
            next_step=remedy,
        )


def _open(source: Path, reading: SequenceOptions, options: FitOptions) -> PairSource:
    """Read the recording; find out whether the camera is at rest where that isn't said."""
    from realdiff_enhancer.data.static_camera import fuse_static

    found = PairSource.open(
        source,
        reading,
        options.base,
        static=options.static is not False,
        window=options.window,
        voxel_m=options.voxel_m,
        far_m=options.far_m,
    )
    if options.static is None and found.sequence is not None:
        try:
            fuse_static(found.sequence)
        except DepthError:
            from realdiff_enhancer.data.open3d_import import import_open3d

            import_open3d()
            return replace(found, method="motion")
    return found


def _write_pairs(found: PairSource, folder: Path, meta: PairMeta, advance: Callable[[int], None]) -> int:
    writer = PairFolderWriter(folder, found.K, meta)
    accepted = 0
    reasons: dict[str, int] = {}
    for pair in found.pairs(advance):
        writer.write(pair)
        accepted += not pair.failures
        for failure in pair.failures:
            reasons[failure.split()[0]] = reasons.get(failure.split()[0], 0) + 1
    if not accepted:
        raise found.nothing_accepted(reasons)
    return accepted


def pack_for_fit(pairs: FitPairs, options: FitOptions, path: Path) -> tuple[PairPack, bool]:
    """Pack the pairs; at least a few are kept for the comparison.

    Args:
        pairs: the pairs.
        options: settings.
        path: .npz file to write.

    Returns:
        The pack; and whether frames of a held-out scene make it a private experiment.
    """
    meta = pairs.meta.model_copy(update={"source": options.name})
    pack = load_folder(pairs.folder, meta=meta)
    for windows in range(2, len(set(pack.windows.tolist()))):
        if len(pack.validation_indices()) >= _MIN_VALIDATION or len(pack.training_indices()) <= len(pack) // 2:
            break
        pack = replace(pack, validation=last_windows(pack.windows, windows))
    if len(pack.validation_indices()) < _MIN_VALIDATION or not len(pack.training_indices()):
        # One long window: the last frames instead.
        pack = replace(pack, validation=pack.frames >= pack.frames[-max(_MIN_VALIDATION, len(pack) // 5)])
    private = False
    try:
        refuse_held_out(pack)
    except ConfigError:
        # Fitting a held-out camera is an experiment that its own second half judges; its weights go nowhere.
        pack, private = replace(pack, licence=PRIVATE), True
    pack.save(path)
    return pack, private


def with_recorded_stream(
    base: CameraProfile, pack: PairPack, own_fx_px: float, report: Callable[[str], None]
) -> CameraProfile:
    """The profile on the grid of the depth stream that the recorded steps tell, where it names none.

    Args:
        base: profile of the camera's kind.
        pack: pairs of the recording.
        own_fx_px: focal length of the stream that the model to start from was trained on [px].
        report: told what was found, if that is not what is named or assumed; or that nothing was.
    """
    from realdiff_enhancer.two_stage.camera import profile_setting

    named = profile_setting(base).stream_fx_px
    factor = stream_factor(pack.noisy_mm, base.disparity_step_px)
    if factor is None or not _STREAM_FX_PX[0] <= factor / base.baseline_m <= _STREAM_FX_PX[1]:
        if named is None:
            report(
                "the steps of the recorded depth don't tell the camera's depth stream: the noise is learned on the "
                f"grid of one with f = {own_fx_px:g} px; another is named in the base profile "
                "(noise.two_stage.stream_fx_px)"
            )
        return base
    found = factor / base.baseline_m
    if math.isclose(found, named or own_fx_px, rel_tol=_SAME_STREAM):
        return base
    told = f"the steps of the recorded depth are those of a depth stream with f = {found:.0f} px"
    if named is not None:
        report(f"{told}, but {base.name} names {named:g} px, which is taken: check its stream_fx_px")
        return base
    report(f"{told}: the noise is learned on its grid")
    setting = {**base.noise.get("two_stage", {}), "stream_fx_px": round(found, 1)}
    return base.model_copy(update={"noise": {**base.noise, "two_stage": setting}})
