"""The realism card as one self-contained HTML page."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape

from realdiff_enhancer.evaluation.card import CardData
from realdiff_enhancer.evaluation.card_figures import COLOURS, curves, pictures
from realdiff_enhancer.evaluation.tables import number
from realdiff_enhancer.metrics.bootstrap import Estimate

#: Rows of the table: statistic, bin, label, unit, digits, what it means.
_ROWS = (
    ("hole_rate_pct", "", "holes", "%", 2, "pixels without depth"),
    ("hole_rate_edges_pct", "", "holes at edges", "%", 2, "within 5 px of a depth step"),
    ("hole_rate_flat_pct", "", "holes on surfaces", "%", 2, "farther than 12 px from every depth step"),
    ("flying_pct", "", "flying pixels", "%", 3, "off by more than 3 % from the median around them"),
    ("noise_px", "all", "noise", "px", 3, "σ on smooth surfaces, in pixels of disparity"),
    ("correlation_rows", "1", "correlation at 1 px", "", 2, "of that noise, along rows"),
    ("correlation_rows", "8", "correlation at 8 px", "", 2, "of that noise, along rows"),
    ("correlation_columns", "8", "correlation at 8 px, columns", "", 2, "of that noise, along columns"),
    ("spectrum_px2", "2-4", "finest octave", "px²", 5, "variance at wavelengths of 2 to 4 px: white noise shows here"),
    ("temporal_correlation", "", "correlation over time", "", 2, "of that noise from frame to frame; motion lowers it"),
    ("change_px", "", "change over time", "px", 3, "σ of its change from frame to frame; motion raises it"),
    ("hole_persistence_pct", "", "holes that stay", "%", 1, "of the holes of a frame, in the next"),
    ("hole_appearance_pct", "", "holes that appear", "%", 2, "of the valid pixels of a frame, in the next"),
    ("smooth_pct", "", "smooth surfaces", "%", 1, "share of the image on which the noise is known"),
)
#: A figure farther from the reference than these shares of it is marked.
_NEAR, _FAR = 0.25, 0.75

_STYLE = """
:root{--ink:#1d2430;--soft:#5c6675;--line:#e3e7ec;--paper:#fff;--ground:#f4f6f8;--bag:BAG;--ref:REF}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 48px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:17px;margin:0 0 12px}section{background:var(--paper);border:1px solid var(--line);border-radius:12px;
padding:20px 22px;margin-top:18px}.soft,figcaption{color:var(--soft);font-size:13px}
.bags{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:18px;margin-top:18px}
.bags section{margin:0;border-top:4px solid var(--bag)}.bags section.ref{border-top-color:var(--ref)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:8px 0 0;font-size:13px}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%;font-size:14px}
th{font-weight:600;text-align:left;color:var(--soft);font-size:12px;border-bottom:1px solid var(--line);padding:6px 8px}
td{padding:7px 8px;border-bottom:1px solid var(--line);vertical-align:top}td.n{font-variant-numeric:tabular-nums}
td small{display:block;color:var(--soft);font-size:12px}tr:last-child td{border-bottom:0}
.mark{display:inline-block;border-radius:999px;padding:1px 9px;font-size:12px;font-weight:600}
.near{background:#dff3e4;color:#1c6b34}.some{background:#fff1d6;color:#8a5a00}.far{background:#fde2e0;color:#9c231b}
figure{margin:0}img{width:100%;height:auto;display:block;border-radius:8px}footer{margin-top:22px}
code{font-size:12px;overflow-wrap:anywhere}
"""


def page(bags: Sequence[CardData], command: str) -> str:
    """Write the page.

    Args:
        bags: the bag, and a reference if there is one.
        command: command line that made it.

    Returns:
        HTML without anything external.
    """
    bag, reference = bags[0], bags[1] if len(bags) > 1 else None
    sigmas = [data.statistics.estimate(("noise_px", "all")).value for data in bags]
    limit = max([0.05, *(3 * sigma for sigma in sigmas if math.isfinite(sigma))])
    parts = [
        '<div class="soft">What the depth of this bag looks like by itself'
        + (", beside a reference" if reference else "")
        + ". Scenes differ: compare what belongs to the sensor, not the room.</div>",
        '<div class="bags">' + "".join(_bag(data, data is reference) for data in bags) + "</div>",
        section("Figures", _table(bag, reference)),
        section("Curves", image(curves(bags), "Bands: 95 % intervals. The distribution of depth is the scene's.")),
    ]
    for data in bags:
        caption = (
            "Top: depth, holes dark. Bottom: noise on smooth surfaces (what a quadratic fit to 64 px tiles leaves)."
        )
        parts.append(section(f"Frames of {data.name}", image(pictures(data, limit), caption)))
    return html_page(f"Realism card: {bag.name}", parts, command)


def html_page(title: str, parts: Sequence[str], command: str) -> str:
    """Put sections into a page that needs nothing else.

    Args:
        title: heading.
        parts: HTML of the sections.
        command: command line that made it.
    """
    style = _STYLE.replace("BAG", COLOURS[0]).replace("REF", COLOURS[1])
    body = "\n".join(parts)
    footer = f"Brackets: 95 % intervals, bootstrap over blocks of frames. <code>{escape(command)}</code>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f'<body><main>\n<h1>{escape(title)}</h1>\n{body}\n<footer class="soft">{footer}</footer></main></body></html>\n'
    )


def section(heading: str, body: str) -> str:
    """A section with a heading; `body` is HTML."""
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def image(png: bytes, caption: str) -> str:
    """A PNG inside the page, with a caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _bag(data: CardData, is_reference: bool) -> str:
    camera = data.camera
    rows = [
        ("depth", data.origin),
        ("topic", data.topic),
        ("frames", f"{data.frames}, {data.measured} measured"),
        (
            "camera",
            f"{camera.width}×{camera.height}, fx {camera.fx:.1f} px, baseline {1e3 * (camera.baseline_m or 0):g} mm",
        ),
        *data.details,
    ]
    items = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in rows)
    role = "reference" if is_reference else "this bag"
    return (
        f'<section class="{"ref" if is_reference else "own"}"><div class="soft">{role}</div>'
        f"<h2>{escape(data.name)}</h2><dl>{items}</dl></section>"
    )


def _table(bag: CardData, reference: CardData | None) -> str:
    header = ["figure", bag.name]
    if reference:
        header += [reference.name, "difference"]
    lines = ["<table><thead><tr>" + "".join(f"<th>{escape(text)}</th>" for text in header) + "</tr></thead><tbody>"]
    for name, label, title, unit, digits, meaning in _ROWS:
        own = bag.statistics.estimate((name, label))
        cells = [f"<td>{escape(title)}<small>{escape(meaning)}</small></td>", _cell(own, unit, digits)]
        if reference:
            other = reference.statistics.estimate((name, label))
            cells += [_cell(other, unit, digits), f"<td>{difference_mark(own, other)}</td>"]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _cell(estimate: Estimate, unit: str, digits: int) -> str:
    if not math.isfinite(estimate.value):
        return '<td class="n">–</td>'
    interval = f"<small>[{number(estimate.low, digits)}, {number(estimate.high, digits)}]</small>"
    return f'<td class="n">{number(estimate.value, digits)} {unit}{interval}</td>'


def difference_mark(own: Estimate, other: Estimate) -> str:
    """Say in a coloured mark how far a figure is from the reference's, in per cent of it."""
    if not (math.isfinite(own.value) and math.isfinite(other.value)):
        return "–"
    if other.value == 0:
        return '<span class="mark near">equal</span>' if own.value == 0 else '<span class="mark far">none there</span>'
    share = own.value / other.value - 1
    overlap = own.low <= other.high and other.low <= own.high
    kind = "near" if abs(share) <= _NEAR or overlap else "some" if abs(share) <= _FAR else "far"
    text = f"{100 * share:+.0f} %" if share < 9 else f"× {own.value / other.value:.0f}"
    return f'<span class="mark {kind}">{text}</span>'
