"""The statistics page: A1 to A3 and the noise over time, as Markdown, CSV and pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realdiff_core.errors import DepthError

from realdiff_enhancer.evaluation.assumptions import QUANTILES, SceneAssumptions
from realdiff_enhancer.evaluation.clips import ClipResult
from realdiff_enhancer.evaluation.figures import source_colour
from realdiff_enhancer.evaluation.runner import REAL
from realdiff_enhancer.evaluation.tables import MIN_FRAMES, number, table, with_interval
from realdiff_enhancer.evaluation.temporal_fit import TemporalFit
from realdiff_enhancer.metrics.bins import DEPTH_BINS
from realdiff_enhancer.metrics.bootstrap import Estimate
from realdiff_enhancer.models.noise import ar1_history

_A1 = (
    "The residual (measured minus clean, away from edges) has a mean and a deviation that depend on the depth. They "
    "are stable where the first and the second half of the recording agree: they show other surfaces."
)
_A2 = (
    "What a pixel's measurement is, given the clean depth: one of 62 steps of the residual in disparity, or a hole. "
    "TV is the total variation between camera and source (0: the same, 1: never alike). Two bounds hold and are "
    "checked: the depth images' own TV (steps of 1 cm, holes) ≤ mean TV over the depth (paper, eq. 5) ≤ √(½ mean KL) "
    "(Pinsker and Jensen, eq. 6 and 7). All concern single pixels: they say nothing about structure (see `evaluate`)."
    " The row *real* compares the recording's first half with its second: no model can be asked to be nearer. Its "
    "marginals differ because the halves show other depths, so the first bound doesn't apply to it."
)
_A3 = (
    "Clean depth and residual lie within bounds, so all moments exist. Hill's tail index says how heavy the residual's "
    "tail is on the way there: below 2, a plain σ is ruled by a few flying pixels, and a robust one is to be preferred."
)
_TIME = (
    "Clips of a camera at rest; a model's row is the model on the clip's fused depth. √D(k): standard deviation of "
    "the change over k frames. ρ(k) = 1 − D(k)/(2σ²) needs σ of the whole error (from pairs: `--sigma-px`); *AR(1)*: "
    "the coefficient that fits ρ(k) best. k counts the frames read."
)
_FIT = (
    "Correlation over k exposures of the error on locally flat surfaces, against the plane through the median over "
    "time; camera and model are measured alike. *needed*: the correlation that the model's noise must have for the "
    "camera's to come out, from its response below. s + (1 − s)·aᵏ is fitted to it: s is the share that never changes."
)


def markdown(
    scenes: Sequence[SceneAssumptions],
    clips: Sequence[ClipResult],
    run: Mapping[str, Any],
    fits: Sequence[TemporalFit] = (),
) -> str:
    """Write the page.

    Args:
        scenes: one a scene.
        clips: one a clip.
        run: command, seed, hardware.
        fits: one a clip and model.
    """
    lines = ["# Statistics of the noise: what learning it rests on", "", f"`{run['command']}`", ""]
    lines += [f"Seed {run['seed']}, {run['hardware']}. Brackets: 95 % intervals (bootstrap over blocks of frames).", ""]
    for scene in scenes:
        lines += [
            f"## {scene.scene.name}",
            "",
            f"{len(scene.scene.frames)} pairs, profile `{scene.scene.profile.name}`.",
            "",
        ]
        lines += _moments(scene) + _approximation(scene) + _support(scene)
    if clips:
        lines += ["## Noise over time", "", _TIME, ""]
        for clip in clips:
            lines += _clip(clip)
    for fit in fits:
        lines += _fit(fit)
    return "\n".join(lines)


def _moments(scene: SceneAssumptions) -> list[str]:
    rows = [
        [
            row.label,
            with_interval(row.mean, 2),
            " / ".join(number(value, 2) for value in row.mean_halves),
            with_interval(row.sigma, 2),
            " / ".join(number(value, 2) for value in row.sigma_halves),
        ]
        for row in scene.moments
    ]
    header = ["depth [m]", "μ [mm]", "μ of the halves", "σ [mm]", "σ of the halves"]
    return table("A1: conditional moments", _A1, header, rows)


def _approximation(scene: SceneAssumptions) -> list[str]:
    present = [b.label for b in DEPTH_BINS if any(math.isfinite(a.tv[b.label].value) for a in scene.approximations)]
    rows = [
        [
            a.name,
            *(with_interval(e, 3) if math.isfinite(e.low) else number(e.value, 3) for e in _summary(a)),
            "–" if a.name == REAL else "yes" if _bounds_hold(a) else "**no**",
        ]
        for a in scene.approximations
    ]
    header = ["source", "TV of the depth", "mean TV", "√(½ mean KL)", "mean KL [nat]", "bounds hold"]
    lines = table("A2: how near the model comes", _A2, header, rows)
    for heading, name in (("TV by depth [m]", "tv"), ("KL by depth [m], nat", "kl")):
        bins = [[a.name, *(_plain(getattr(a, name)[label]) for label in present)] for a in scene.approximations]
        lines += table(heading, "", ["source", *present], bins)
    return lines


def _summary(a: Any) -> tuple[Estimate, ...]:
    return (a.marginal_tv, a.expected_tv, a.pinsker, a.expected_kl)


def _bounds_hold(a: Any) -> bool:
    return bool(a.marginal_tv.value <= a.expected_tv.value + 1e-9 and a.expected_tv.value <= a.pinsker.value + 1e-9)


def _plain(estimate: Estimate) -> str:
    if math.isfinite(estimate.value) and not math.isfinite(estimate.low):
        return number(estimate.value, 3)
    return with_interval(estimate, 3)


def _support(scene: SceneAssumptions) -> list[str]:
    support = scene.support
    header = ["quantity", *(f"{100 * q:g} %" for q in QUANTILES)]
    rows = [
        ["clean depth [m]", *(number(v, 3) for v in support.depth_m)],
        ["residual [px of disparity], absolute", *(number(v, 3) for v in support.residual_px)],
    ]
    note = (
        f"{_A3} {100 * support.in_range:.1f} % of the clean depth lies within the profile's range; tail index of the "
        f"residual {number(support.tail_exponent, 2)}."
    )
    return table("A3: bounded support (quantiles)", note, header, rows)


def _clip(clip: ClipResult) -> list[str]:
    lags = next(iter(clip.sources.values())).lags
    header = ["source", *(f"√D({lag}) [px]" for lag in lags), "P(hole stays)", "P(hole appears)", "σ [px]"]
    header += [*(f"ρ({lag})" for lag in lags), "AR(1)"]
    rows = []
    for name, statistics in clip.sources.items():
        sigma = clip.sigma_of(name)
        row = [name, *(number(v, 4) for v in statistics.difference_px)]
        row += [number(statistics.hole_persistence, 3), number(statistics.hole_appearance, 4)]
        if sigma is None or not sigma > 0:
            row += ["–"] * (len(lags) + 2)
        else:
            row += [number(sigma, 3), *(number(v, 3) for v in statistics.correlation(sigma)), ar1_text(clip, name)]
        rows.append(row)
    frames = next(iter(clip.sources.values())).frames
    return table(f"{clip.name}: {frames} frames", "", header, rows)


def _fit(fit: TemporalFit) -> list[str]:
    header = ["k [exposures]", *(str(lag) for lag in fit.lags)]
    named = {"camera": fit.camera, "needed of the noise": fit.needed, "fitted to it": fit.setting.at(fit.lags)}
    named |= {"model as it is": fit.before, "model with the fit": fit.after}
    rows = [[name, *(number(v, 3) for v in values)] for name, values in named.items()]
    lines = table(f"{fit.clip}: `{fit.model}` fitted", _FIT, header, rows)
    halves = " and ".join(f"s = {h.static_share:.3f}, a = {h.correlation:.2f}" for h in fit.halves)
    before, after = fit.misfit
    response = ", ".join(f"{c:g} → {g:.3f}" for c, g in zip(fit.noise, fit.response, strict=True))
    return [
        *lines,
        f"**s = {fit.setting.static_share:.3f}, a = {fit.setting.correlation:.2f}** (halves of the clip: {halves}). "
        f"RMS error of the model's correlation: {before:.3f} as it is, {after:.3f} with the fit. "
        f"Response, correlation of the noise → of the error: {response}.",
        "",
        f'`"temporal": {{"static_share": {fit.setting.static_share:.2f}, "correlation": {fit.setting.correlation:.2f}, '
        f'"history": {ar1_history(fit.setting.correlation)}}}`',
        "",
    ]


def ar1_text(clip: ClipResult, name: str) -> str:
    """The AR(1) coefficient of a source, or a dash where the clip and σ contradict each other."""
    sigma = clip.sigma_of(name)
    if sigma is None or not sigma > 0:
        return "–"
    try:
        return number(clip.sources[name].ar1(sigma), 3)
    except DepthError:
        return "– (jitter over σ)"


def write_csv(
    path: Path, scenes: Sequence[SceneAssumptions], clips: Sequence[ClipResult], fits: Sequence[TemporalFit] = ()
) -> None:
    """Write every number as one row: scene, source, metric, bin, value, low, high."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("scene", "source", "metric", "bin", "value", "low", "high"))
        for scene in scenes:
            where = scene.scene.name
            for row in scene.moments:
                for metric, e in (("a1_mean_mm", row.mean), ("a1_sigma_mm", row.sigma)):
                    writer.writerow((where, REAL, metric, row.label, e.value, e.low, e.high))
            for a in scene.approximations:
                for metric, by_bin in (("a2_tv", a.tv), ("a2_kl_nat", a.kl)):
                    for label, e in by_bin.items():
                        if math.isfinite(e.value):
                            writer.writerow((where, a.name, metric, label, e.value, e.low, e.high))
                names = ("a2_marginal_tv", "a2_mean_tv", "a2_pinsker", "a2_mean_kl_nat")
                for metric, e in zip(names, _summary(a), strict=True):
                    writer.writerow((where, a.name, metric, "", e.value, e.low, e.high))
            for q, depth, residual in zip(QUANTILES, scene.support.depth_m, scene.support.residual_px, strict=True):
                writer.writerow((where, REAL, "a3_depth_m", q, depth, "", ""))
                writer.writerow((where, REAL, "a3_residual_px", q, residual, "", ""))
            writer.writerow((where, REAL, "a3_in_range", "", scene.support.in_range, "", ""))
            writer.writerow((where, REAL, "a3_tail_index", "", scene.support.tail_exponent, "", ""))
        for clip in clips:
            for name, statistics in clip.sources.items():
                for lag, value in zip(statistics.lags, statistics.difference_px, strict=True):
                    writer.writerow((clip.name, name, "change_px", lag, value, "", ""))
                writer.writerow((clip.name, name, "hole_persistence", "", statistics.hole_persistence, "", ""))
                writer.writerow((clip.name, name, "hole_appearance", "", statistics.hole_appearance, "", ""))
                writer.writerow((clip.name, name, "ar1", "", ar1_text(clip, name), "", ""))
        for fit in fits:
            for metric, value in (("static_share", fit.setting.static_share), ("correlation", fit.setting.correlation)):
                writer.writerow((fit.clip, fit.model, f"fitted_{metric}", "", value, "", ""))
            correlations = {"camera": fit.camera, "before": fit.before, "after": fit.after}
            for metric, values in correlations.items():
                for lag, value in zip(fit.lags, values, strict=True):
                    writer.writerow((fit.clip, fit.model, f"error_correlation_{metric}", lag, value, "", ""))


def figure(path: Path, scene: SceneAssumptions) -> None:
    """Draw A1 (mean ± σ by depth), A2 (TV by depth) and A3 (support) of a scene."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(13, 3.8), layout="constrained")
    moments, approximation, support = drawing.subplots(1, 3)
    centre = {b.label: (b.low + b.high) / 2 for b in DEPTH_BINS}
    for index, (name, replicates) in enumerate(scene.model_moments.items()):
        rows = [
            (
                centre[b.label],
                replicates.estimate(("bias_mean_mm_away", b.label)),
                replicates.estimate(("sigma_plain_mm_away", b.label)),
            )
            for b in DEPTH_BINS
        ]
        rows = [row for row in rows if row[1].frames >= MIN_FRAMES]
        x = [row[0] for row in rows]
        mean, sigma = [row[1].value for row in rows], [row[2].value for row in rows]
        colour = source_colour(name, index)
        moments.plot(x, sigma, "o-", color=colour, label=name, lw=2.2 if name == REAL else 1.4, ms=4)
        moments.plot(x, mean, ":", color=colour, lw=1.2)
    moments.set(title="A1: σ (line) and mean (dotted)", xlabel="depth [m]", ylabel="residual [mm]")
    for index, a in enumerate(scene.approximations):
        points = [(centre[label], e) for label, e in a.tv.items() if math.isfinite(e.value)]
        x, y = [p[0] for p in points], [p[1].value for p in points]
        label = "real, half to half" if a.name == REAL else a.name
        approximation.plot(x, y, "o-", color=source_colour(a.name, index), label=label, ms=4)
        approximation.fill_between(
            x, [p[1].low for p in points], [p[1].high for p in points], color=source_colour(a.name, index), alpha=0.12
        )
    approximation.set(title="A2: total variation to the camera", xlabel="depth [m]", ylim=(0, 1))
    approximation.legend(frameon=False, fontsize=8)
    support.plot(scene.support.residual_px[1:], [1 - q for q in QUANTILES[1:]], "o-", color=source_colour(REAL, 0))
    support.set(title="A3: tail of the residual", xlabel="|residual| [px of disparity]", ylabel="share beyond")
    support.set_xscale("symlog", linthresh=0.05)
    support.set_yscale("symlog", linthresh=1e-3)
    moments.legend(frameon=False, fontsize=8)
    for axis in (moments, approximation, support):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    drawing.suptitle(scene.scene.name)
    drawing.savefig(path, dpi=110)
