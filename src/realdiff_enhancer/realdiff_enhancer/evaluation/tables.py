"""Results as Markdown for people, CSV for spreadsheets and JSON for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from realdiff_enhancer.evaluation.other_clean import OTHER_CLEAN
from realdiff_enhancer.evaluation.runner import REAL, SceneResult, SourceResult
from realdiff_enhancer.evaluation.scores import SCORES
from realdiff_enhancer.metrics.bins import CORRELATION_LAGS, DEPTH_BINS, EDGE_BINS, INCIDENCE_BINS
from realdiff_enhancer.metrics.bootstrap import Estimate
from realdiff_enhancer.metrics.crop_statistics import STATISTIC_NAMES
from realdiff_enhancer.metrics.frechet import VIEWS
from realdiff_enhancer.metrics.structure import SPECTRUM_BANDS

_EMPTY = "–"
#: An interval over frames means nothing below this many frames.
MIN_FRAMES = 3

#: Statistics against the one real frame: (name, heading, whether more is better).
_PER_SAMPLE = (
    ("chamfer_l2", "CD_L2 ↓", False),
    ("f_score_pct", "F-score [%] ↑", True),
    ("voxel_miou_pct", "mIoU [%] ↑", True),
    ("hole_iou_pct", "hole IoU [%] ↑", True),
)

_Bins = tuple[str, ...]
_DEPTH: _Bins = ("all", *(b.label for b in DEPTH_BINS))
_EDGE: _Bins = tuple(b.label for b in EDGE_BINS)
_INCIDENCE: _Bins = tuple(b.label for b in INCIDENCE_BINS)
_LAGS: _Bins = tuple(str(lag) for lag in CORRELATION_LAGS)
_BANDS: _Bins = tuple(label for label, _, _ in SPECTRUM_BANDS)

#: Binned statistics: (name, heading, bin quantity, bins, digits, factor).
_DETAILS: tuple[tuple[str, str, str, _Bins, int, float], ...] = (
    ("sigma_robust_mm_away", "Robust σ away from edges [mm]", "depth [m]", _DEPTH, 2, 1),
    ("sigma_plain_mm_away", "Plain σ away from edges [mm]", "depth [m]", _DEPTH, 2, 1),
    ("sigma_robust_mm_all", "Robust σ of all valid pixels [mm]", "depth [m]", _DEPTH, 2, 1),
    ("sigma_plain_mm_all", "Plain σ of all valid pixels [mm]", "depth [m]", _DEPTH, 2, 1),
    ("bias_median_mm_away", "Median bias away from edges [mm]", "depth [m]", _DEPTH, 2, 1),
    ("bias_mean_mm_all", "Mean bias of all valid pixels [mm]", "depth [m]", _DEPTH, 2, 1),
    ("sigma_robust_px_by_edge", "Robust σ [px of disparity]", "distance to an edge [px]", _EDGE, 3, 1),
    ("bias_median_px_by_edge", "Median bias [px of disparity]", "distance to an edge [px]", _EDGE, 3, 1),
    ("sigma_robust_px_by_incidence", "Robust σ away from edges [px]", "cos(incidence)", _INCIDENCE, 3, 1),
    ("bias_median_px_by_incidence", "Median bias away from edges [px]", "cos(incidence)", _INCIDENCE, 3, 1),
    ("hole_rate_by_edge_pct", "Hole rate by distance to an edge [%]", "distance [px]", _EDGE, 1, 1),
    ("hole_rate_by_incidence_pct", "Hole rate away from edges by incidence [%]", "cos(incidence)", _INCIDENCE, 1, 1),
    ("outliers_2cm_by_edge_pct", "Valid pixels off by > 2 cm [%]", "distance to an edge [px]", _EDGE, 2, 1),
    ("outliers_5cm_by_edge_pct", "Valid pixels off by > 5 cm [%]", "distance to an edge [px]", _EDGE, 2, 1),
    ("correlation_rows", "Correlation of the residual along rows", "lag [px]", _LAGS, 2, 1),
    ("correlation_columns", "Correlation of the residual along columns", "lag [px]", _LAGS, 2, 1),
    (
        "spectrum_px2",
        "Variance of the residual by wavelength [10⁻³ px² of disparity]",
        "wavelength [px]",
        _BANDS,
        3,
        1e3,
    ),
    (
        "spectrum_row_share",
        "Share of that variance with a rather horizontal wave vector",
        "wavelength [px]",
        _BANDS,
        2,
        1,
    ),
)

_SCALARS = (
    ("hole_rate_pct", "holes [%]", 2),
    ("outliers_2cm_pct", "> 2 cm [%]", 2),
    ("outliers_5cm_pct", "> 5 cm [%]", 2),
    ("temporal_correlation", "temporal correlation", 2),
    ("hole_persistence_pct", "P(hole stays) [%]", 1),
    ("hole_appearance_pct", "P(hole appears) [%]", 2),
)


def number(value: float, digits: int) -> str:
    """Format a number; a dash for NaN."""
    return _EMPTY if not math.isfinite(value) else f"{value:.{digits}f}"


def with_interval(estimate: Estimate, digits: int, factor: float = 1.0) -> str:
    """Format an estimate as ``value [low, high]``; a dash where there is none.

    Too few frames give no interval: their number is written instead."""
    if not math.isfinite(estimate.value):
        return _EMPTY
    if estimate.frames < MIN_FRAMES:
        return f"{number(factor * estimate.value, digits)} ({estimate.frames} fr.)"
    parts = [number(factor * v, digits) for v in (estimate.value, estimate.low, estimate.high)]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]"


def markdown(results: Sequence[SceneResult], run: Mapping[str, Any]) -> str:
    """Write all tables as one Markdown page.

    Args:
        results: one per scene; scenes are never pooled.
        run: command, seed, hardware, … (see :func:`as_json`).

    Returns:
        The page.
    """
    lines = ["# Evaluation on held-out pairs", "", f"`{run['command']}`", ""]
    lines += [f"Seed {run['seed']}, {run['hardware']}. {_METHOD}", ""]
    for result in results:
        lines += _scene(result)
    return "\n".join(lines)


_METHOD = (
    "Brackets hold 95 % intervals from a bootstrap over blocks of five consecutive frames: they say how far this "
    "scene's frames determine a number, not how it varies over scenes. Pixels without clean depth take part in "
    "nothing. "
    "Every model's output is rounded to whole millimetres like the recorded depth. The best model is bold. A row "
    "`other_clean` is no model but a lower bound: the camera's own error and holes of the same frames, the error "
    "measured against other clean depth."
)


def _scene(result: SceneResult) -> list[str]:
    scene = result.scene
    frames = ", ".join(f"{len(fold.train)} → {len(fold.test)}" for fold in result.folds)
    lines = [
        f"## {scene.name}",
        "",
        f"{len(scene.frames)} pairs, frames {scene.frames[0].number} to {scene.frames[-1].number}, "
        f"camera profile `{scene.profile.name}` "
        f"(fx {scene.camera.fx:.1f} px, baseline {1e3 * scene.profile.baseline_m:g} mm); "
        f"frames of the two-sample tests (train → test): {frames}.",
        "",
    ]
    lines += _two_sample_table(result)
    lines += _frechet_table(result)
    lines += _score_table(result)
    lines += _per_sample_table(result)
    lines += _scalar_table(result)
    for name, heading, quantity, bins, digits, factor in _DETAILS:
        lines += _detail_table(result, name, f"{heading}, by {quantity}", bins, digits, factor)
    return lines


def _models(result: SceneResult) -> list[SourceResult]:
    return [source for source in result.sources if source.name != REAL]


def table(heading: str, note: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a Markdown table under a heading of the third level, as lines."""
    lines = [f"### {heading}", ""]
    if note:
        lines += [note, ""]
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|" + "|".join("---" for _ in header) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return [*lines, ""]


def _best(
    models: Sequence[SourceResult], columns: Sequence[tuple[Callable[[SourceResult], Estimate | None], int, bool]]
) -> list[list[str]]:
    """Format rows of estimates with each column's best in bold; a column is (getter, digits, more is better)."""
    rows = [[source.name] for source in models]
    for getter, digits, more in columns:
        estimates = [getter(source) for source in models]
        named = zip(models, estimates, strict=True)
        finite = [e.value for m, e in named if e is not None and math.isfinite(e.value) and m.name != OTHER_CLEAN]
        best = (max(finite) if more else min(finite)) if finite else None
        for row, estimate in zip(rows, estimates, strict=True):
            text = _EMPTY if estimate is None else with_interval(estimate, digits)
            bold = estimate is not None and len(models) > 1 and estimate.value == best and row[0] != OTHER_CLEAN
            row.append(f"**{text}**" if bold else text)
    return rows


def _two_sample_table(result: SceneResult) -> list[str]:
    header = ["model", "network: accuracy", "network: AUC", "network: log-loss [bit]"]
    header += ["statistics: accuracy", "statistics: AUC", "statistics: log-loss [bit]"]
    columns: list[tuple[Callable[[SourceResult], Estimate | None], int, bool]] = []
    for which in ("network", "crop_statistics"):
        for attribute, more in (("balanced_accuracy", False), ("auc", False), ("log_loss_bits", True)):
            columns.append((_two_sample_getter(which, attribute), 3, more))
    note = (
        "Can a classifier tell the model's crops from the camera's, on frames it has not seen? 0.5 (accuracy, AUC) and "
        "1 bit are perfect. *Network*: a small CNN trained from scratch on residual, holes and clean context. "
        f"*Statistics*: logistic regression on {len(STATISTIC_NAMES)} named crop statistics, weaker, so that models "
        "differ by degrees. A log-loss above 1 bit comes from a classifier that was sure and wrong on new frames."
    )
    return table("Two-sample tests", note, header, _best(_models(result), columns))


def _two_sample_getter(which: str, attribute: str) -> Callable[[SourceResult], Estimate | None]:
    def get(source: SourceResult) -> Estimate | None:
        test = getattr(source, which)
        return None if test is None else getattr(test, attribute)

    return get


def _frechet_table(result: SceneResult) -> list[str]:
    if not result.sources[0].frechet:
        return []
    from realdiff_enhancer.metrics.image_features import FEATURES_NAME

    note = (
        f"Features: {FEATURES_NAME}; not Inception's, so this is no FID. Crops of 64×64 px on a fixed grid. "
        "*Residual*: "
        "measured minus clean disparity, ±1 px as grey; *depth*: inverse depth over the camera's range as grey; holes "
        "black in both. Intervals: jackknife over blocks of five frames. The camera's row compares its odd with its "
        "even "
        "frames, on half of the crops."
    )
    columns: list[tuple[Callable[[SourceResult], Estimate | None], int, bool]] = [
        (lambda source, view=view: source.frechet.get(view), 1, False)  # type: ignore[misc]
        for view in VIEWS
    ]
    own = [REAL, *(with_interval(result.sources[0].frechet[view], 1) for view in VIEWS)]
    rows = [own, *_best(_models(result), columns)]
    return table("Fréchet distance to the camera", note, ["source", *VIEWS], rows)


def _score_table(result: SceneResult) -> list[str]:
    columns: list[tuple[Callable[[SourceResult], Estimate | None], int, bool]] = [
        (lambda source, name=definition.name: source.scores[name], 2, False)  # type: ignore[misc]
        for definition in SCORES
    ]
    note = "0 is perfect. " + " ".join(f"*{d.title}*: {d.definition}." for d in SCORES)
    header = ["model", *(definition.title for definition in SCORES)]
    return table("Distance of the statistics to the camera's", note, header, _best(_models(result), columns))


def _per_sample_table(result: SceneResult) -> list[str]:
    columns: list[tuple[Callable[[SourceResult], Estimate | None], int, bool]] = [
        (lambda source, name=name: source.statistics.estimate((name, "")), 3 if name == "chamfer_l2" else 2, more)  # type: ignore[misc]
        for name, _, more in _PER_SAMPLE
    ]
    note = (
        "Both depth images back-projected with the same K; one affine map from the reference's bounding box to the "
        "unit cube; 100 000 seeded points. CD_L2 = (mean d₁² + mean d₂²)·1000; F = 2PR/(P+R) at τ = 0.01; voxel IoU at "
        "1/128, mean over frames. They compare one sample with one real frame: a noiseless input can win."
    )
    header = ["model", *(title for _, title, _ in _PER_SAMPLE), "frames/s"]
    rows = _best(_models(result), columns)
    for row, source in zip(rows, _models(result), strict=True):
        speed = None if source.name == OTHER_CLEAN else source.frames_per_second
        row.append(_EMPTY if speed is None else f"{speed:.0f}" if speed >= 100 else f"{speed:.2f}")
    return table("Against the one real frame", note, header, rows)


def _scalar_table(result: SceneResult) -> list[str]:
    rows = [
        [source.name, *(with_interval(source.statistics.estimate((name, "")), d) for name, _, d in _SCALARS)]
        for source in result.sources
    ]
    return table("Holes, outliers, time", "", ["source", *(title for _, title, _ in _SCALARS)], rows)


def _detail_table(result: SceneResult, name: str, heading: str, bins: _Bins, digits: int, factor: float) -> list[str]:
    present = [b for b in bins if any((name, b) in source.statistics.keys for source in result.sources)]
    rows = [
        [source.name, *(with_interval(source.statistics.estimate((name, b)), digits, factor) for b in present)]
        for source in result.sources
    ]
    return table(heading, "", ["source", *present], rows) if present else []


def rows(results: Sequence[SceneResult]) -> list[dict[str, Any]]:
    """Return every number as one flat row: scene, source, metric, bin, value, low, high, frames."""
    flat = []

    def add(scene: str, source: str, metric: str, label: str, estimate: Estimate) -> None:
        flat.append({"scene": scene, "source": source, "metric": metric, "bin": label, **asdict(estimate)})

    for result in results:
        for source in result.sources:
            for key in source.statistics.keys:
                add(result.scene.name, source.name, key[0], key[1], source.statistics.estimate(key))
            for name, estimate in source.scores.items():
                add(result.scene.name, source.name, name, "", estimate)
            for view, estimate in source.frechet.items():
                add(result.scene.name, source.name, f"frechet_{view}", "", estimate)
            for which, test in (("network", source.network), ("crop_statistics", source.crop_statistics)):
                if test is not None:
                    for attribute in ("balanced_accuracy", "auc", "log_loss_bits"):
                        add(
                            result.scene.name,
                            source.name,
                            f"two_sample_{which}_{attribute}",
                            "",
                            getattr(test, attribute),
                        )
    return flat


def write_csv(path: Path, results: Sequence[SceneResult]) -> None:
    """Write :func:`rows` as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["scene", "source", "metric", "bin", "value", "low", "high", "frames"])
        writer.writeheader()
        writer.writerows(rows(results))


def as_json(results: Sequence[SceneResult], run: Mapping[str, Any]) -> str:
    """Return everything as JSON: the run, the scenes with their splits, the numbers. NaN becomes null."""
    scenes = [
        {
            "name": result.scene.name,
            "folder": str(result.scene.folder),
            "profile": result.scene.profile.name,
            "baseline_m": result.scene.profile.baseline_m,
            "data_sha256": result.scene.digest(),
            "frames": [frame.number for frame in result.scene.frames],
            "folds": [
                {part: [result.scene.frames[i].number for i in getattr(fold, part)] for part in ("train", "test")}
                for fold in result.folds
            ],
            "models": {
                source.name: {
                    "weights_sha256": source.weights_sha256,
                    "steps": source.steps,
                    "frames_per_second": source.frames_per_second,
                }
                for source in _models(result)
            },
        }
        for result in results
    ]
    document = {"run": dict(run), "scenes": scenes, "results": rows(results)}
    return json.dumps(_without_nan(document), indent=1, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
