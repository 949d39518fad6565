"""The card of a fitted camera: before and after, on pairs that were not trained on."""

from __future__ import annotations

import math
import tempfile
from html import escape
from pathlib import Path

from realdiff_enhancer.evaluation.card_page import html_page, image, section
from realdiff_enhancer.evaluation.figures import curves_figure, frames_figure
from realdiff_enhancer.evaluation.scores import SCORES
from realdiff_enhancer.evaluation.tables import with_interval
from realdiff_enhancer.fitting import AFTER, BEFORE, FitResult


def fit_page(result: FitResult, command: str) -> str:
    """Write the page.

    Args:
        result: the fit.
        command: command line that made it.

    Returns:
        HTML without anything external.
    """
    sources = {source.name: source for source in result.comparison.sources}
    rows = []
    better = counted = 0
    for definition in SCORES:
        before, after = (sources[name].scores[definition.name] for name in (BEFORE, AFTER))
        if not (math.isfinite(before.value) and math.isfinite(after.value)):
            continue
        counted += 1
        improved = after.value < before.value
        better += improved
        mark = f'<span class="mark {"near" if improved else "far"}">{"nearer" if improved else "farther"}</span>'
        rows.append(
            f"<tr><td>{escape(definition.title)}<small>{escape(definition.definition)}</small></td>"
            f'<td class="n">{with_interval(before, 2)}</td><td class="n">{with_interval(after, 2)}</td>'
            f"<td>{mark}</td></tr>"
        )
    tests = [
        (name, sources[name].crop_statistics.balanced_accuracy)  # type: ignore[union-attr]
        for name in (BEFORE, AFTER)
    ]
    table = (
        "<table><thead><tr><th>distance to the camera, 0 is perfect</th><th>before</th><th>after</th><th></th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )
    text = ", ".join(f"{name} {with_interval(estimate, 3)}" for name, estimate in tests)
    facts = (
        f"{result.pairs} pairs from the recording ({result.method or 'made before'}); compared on "
        f"{result.validation} of them that were not trained on (gain and hole levels were measured there, so σ and "
        "holes look better than elsewhere). "
        f"Nearer in {better} of {counted} distances. "
        f"A classifier on crop statistics tells generated from real with accuracy {text}; 0.5 is perfect."
    )
    if result.method == "static":
        facts += " The camera was at rest: the compared frames show the scene that was trained on."
    if result.temporal is not None:
        setting, misfit = result.temporal.setting, result.temporal.misfit
        facts += (
            f" The noise over time was fitted to it: a share of {setting.static_share:.2f} never changes, the rest's "
            f"correlation from frame to frame is {setting.correlation:.2f}; the error's correlation over time is "
            f"missed by {misfit[0]:.3f} with the settings of the model before, by {misfit[1]:.3f} with these."
        )
    if result.private:
        facts += " The scene is held out by the project: a private experiment, not for shipping."
    with tempfile.TemporaryDirectory() as folder:
        pictures = []
        for name, draw in (("frames", frames_figure), ("curves", curves_figure)):
            path = Path(folder) / f"{name}.png"
            draw(path, result.comparison)
            pictures.append(path.read_bytes())
    return html_page(
        f"Fitted camera: {result.profile.name}",
        [
            section("Before and after", f'<p class="soft">{escape(facts)}</p>{table}'),
            section("Curves", image(pictures[1], "real: the camera; bands: 95 % intervals over frames.")),
            section("Frames", image(pictures[0], "Left: depth, holes dark. Right: measured minus clean.")),
        ],
        command,
    )
