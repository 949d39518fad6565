"""The validation page: one self-contained HTML file, and the same curves as a PNG."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from realdiff_sim_bridge.stereo.statistics import CURVES, Estimate, estimate
from realdiff_sim_bridge.stereo.validation import RULE_PX, WALL_DEPTHS_M, Source, Walls

_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}table{border-collapse:collapse;"
    "margin:1em 0;font-size:13px}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}small{color:#666}"
)

# Figures of real cameras that were measured outside this project, by bin of the same definition.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "holes": {
        "D415, independent figures": {"0-1": 0.68, "1-2": 0.56, "3-5": 0.39, "8-12": 0.15, "20-40": 0.04, ">40": 0.023},
        "D435 High Accuracy, independent figures": {
            "0-1": 0.58,
            "1-2": 0.66,
            "3-5": 0.60,
            "8-12": 0.45,
            "20-40": 0.23,
            ">40": 0.12,
        },
    },
    "incidence": {
        "D415, independent figures": {
            "0-0.2": 0.73,
            "0.2-0.35": 0.42,
            "0.35-0.5": 0.077,
            "0.5-0.65": 0.015,
            "0.97-1.01": 0.033,
        },
        "D435 High Accuracy, independent figures": {
            "0-0.2": 0.55,
            "0.2-0.35": 0.51,
            "0.35-0.5": 0.43,
            "0.5-0.65": 0.39,
            "0.97-1.01": 0.23,
        },
    },
    "correlation_x": {"D4xx, independent figures": {"1": 0.99, "4": 0.9, "8": 0.75, "16": 0.45, "32": 0.2}},
    "temporal_mm": {"D4xx, independent figures": {"0.3-0.4": 0.5, "0.4-0.6": 0.5, "0.6-0.8": 1.4, "0.8-1": 3.9}},
    "persistence": {
        "D4xx, independent figures": {"a hole stays a hole": 0.95, "a measured pixel becomes a hole": 0.0025},
    },
}


def write_page(output: Path, sources: list[Source], walls: Walls, notes: dict[str, str]) -> Path:
    """Write the page, and the curves beside it as PNG.

    Args:
        output: the HTML file.
        sources: what is compared; the simulated ones first.
        walls: the simulated camera before flat walls.
        notes: shown at the top (command, seed, settings).

    Returns:
        The PNG's path.
    """
    picture = _plot(sources, walls)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".png").write_bytes(picture)
    encoded = base64.b64encode(picture).decode()
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in notes.items())
    tables = "".join(_table(name, sources) for name in CURVES)
    page = (
        f"<!doctype html><meta charset='utf-8'><title>Simulated stereo camera</title><style>{_STYLE}</style>"
        "<h1>The simulated stereo camera against real ones</h1>"
        f"<table>{rows}</table><img src='data:image/png;base64,{encoded}' alt='Curves'>"
        "<p>Brackets: 95 % interval of a bootstrap over scenes (simulated), frames or transitions (real). "
        "“Independent figures” of real cameras were measured outside this project.</p>"
        f"{tables}{_wall_table(walls)}"
    )
    output.write_text(page, encoding="utf-8")
    return output.with_suffix(".png")


def csv_rows(sources: list[Source]) -> list[list[Any]]:
    """Every value: curve, bin, source, value, interval's ends, how many frames, and of what."""
    rows: list[list[Any]] = [["curve", "bin", "source", "value", "low", "high", "n", "of"]]
    for name, curve in CURVES.items():
        for source in sources:
            if name in source.frames[0]:
                found = estimate(source.frames, name)
                for label, *numbers in zip(curve.labels, found.value, found.low, found.high, strict=True):
                    formatted = ["" if not np.isfinite(x) else f"{x:.4g}" for x in numbers]
                    rows.append([name, label, source.name, *formatted, len(source.frames), source.unit])
    return rows


def _having(name: str, sources: list[Source]) -> list[tuple[Source, Estimate]]:
    return [(source, estimate(source.frames, name)) for source in sources if name in source.frames[0]]


def _table(name: str, sources: list[Source]) -> str:
    curve = CURVES[name]
    factor, digits = (100, 1) if curve.percent else (1, 4 if name == "persistence" else 3)
    head = "".join(f"<th>{html.escape(label)}</th>" for label in curve.labels)
    body = ""
    for source, found in _having(name, sources):
        cells = ""
        for value, low, high in zip(found.value, found.low, found.high, strict=True):
            ends = f" <small>[{factor * low:.{digits}f}, {factor * high:.{digits}f}]</small>" if low == low else ""
            cells += "<td>–</td>" if value != value else f"<td>{factor * value:.{digits}f}{ends}</td>"
        body += (
            f"<tr><td>{html.escape(source.name)} <small>({len(source.frames)} {source.unit})</small></td>{cells}</tr>"
        )
    for title, values in PUBLISHED.get(name, {}).items():
        cells = "".join(
            f"<td>{factor * values[label]:.{digits}f}</td>" if label in values else "<td>–</td>"
            for label in curve.labels
        )
        body += f"<tr><td>{html.escape(title)}</td>{cells}</tr>"
    unit = " [%]" if curve.percent else ""
    title = f"<h2>{html.escape(curve.title)}{unit}</h2>"
    return f"{title}<table><tr><th>{html.escape(curve.unit)}</th>{head}</tr>{body}</table>"


def _wall_table(walls: Walls) -> str:
    head = "".join(f"<th>{depth:g} m</th>" for depth in WALL_DEPTHS_M)
    rule = [RULE_PX * depth * depth * 1000 / walls.disparity_factor for depth in WALL_DEPTHS_M]
    lines = {
        f"rule z²·{RULE_PX}/(f·B) [mm]": rule,
        "simulated σ [mm]": np.nanmean(walls.sigma_mm, axis=0),
        "simulated temporal part [px]": np.nanmean(walls.temporal_px, axis=0),
    }
    body = "".join(
        f"<tr><td>{title}</td>" + "".join(f"<td>{value:.3g}</td>" for value in values) + "</tr>"
        for title, values in lines.items()
    )
    return f"<h2>Flat walls</h2><table><tr><th></th>{head}</tr>{body}</table>"


def _plot(sources: list[Source], walls: Walls) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(16, 12), constrained_layout=True)
    colours = {source.name: f"C{index}" for index, source in enumerate({s.name: s for s in sources}.values())}
    for axis, name in zip(axes.flat, CURVES, strict=False):
        curve = CURVES[name]
        factor = 100 if curve.percent else 1
        places = np.arange(len(curve.labels), dtype=float)
        shown = _having(name, sources)
        for index, (source, found) in enumerate(shown):
            at = places + 0.06 * (index - (len(shown) - 1) / 2)
            error = np.stack((found.value - found.low, found.high - found.value)) * factor
            axis.errorbar(
                at,
                found.value * factor,
                yerr=np.nan_to_num(np.clip(error, 0, None)),
                marker="o",
                capsize=2,
                label=source.name,
                color=colours[source.name],
            )
        for (title, values), marker in zip(PUBLISHED.get(name, {}).items(), "xs", strict=False):
            known = [index for index, label in enumerate(curve.labels) if label in values]
            heights = [factor * values[curve.labels[index]] for index in known]
            axis.plot(known, heights, marker, color="black", mfc="none", label=title)
        axis.set_title(curve.title + (" [%]" if curve.percent else ""), fontsize=11)
        axis.set_xticks(places, curve.labels, fontsize=8)
        axis.set_xlabel(curve.unit)
        if name in ("sigma_mm", "temporal_mm", "persistence"):
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    axis = axes.flat[len(CURVES)]
    depth = np.array(WALL_DEPTHS_M)
    axis.plot(depth, RULE_PX * depth**2 * 1000 / walls.disparity_factor, "k--", label=f"z²·{RULE_PX}/(f·B)")
    axis.plot(
        depth, walls.sigma_mm.T, "o-", color="C0", label=[f"simulated unit {i}" for i in range(len(walls.sigma_mm))]
    )
    axis.set(xscale="log", yscale="log", xlabel="m", title="Flat walls: σ [mm]")
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3, which="both")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, format="png")
    plt.close(figure)
    return buffer.getvalue()
