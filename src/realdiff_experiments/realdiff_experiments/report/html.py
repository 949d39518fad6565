"""A small builder for self-contained HTML pages: sections of text, facts, tables, figures and commands.

All text is escaped here and nowhere else: callers hand over plain strings.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from realdiff_core.errors import OutputError

from realdiff_experiments.report.style import CSS


@dataclass(frozen=True)
class ColourScale:
    """A horizontal colour bar below a picture.

    Attributes:
        low: text at the left end, with the unit.
        high: text at the right end, with the unit.
        colours: CSS colours from left to right.
    """

    low: str
    high: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    Attributes:
        png: PNG bytes.
        title: bold part of the caption; also what a screen reader says.
        caption: the rest of it.
        scale: colour bar, for maps of a quantity.
        chart: drawn on white paper (plots), which is kept white in dark mode.
    """

    png: bytes
    title: str
    caption: str = ""
    scale: ColourScale | None = None
    chart: bool = False

    def render(self) -> str:
        """Return the figure's HTML."""
        data = base64.b64encode(self.png).decode("ascii")
        parts = [f'<img alt="{escape(self.title)}" src="data:image/png;base64,{data}">', "<figcaption>"]
        parts.append(f"<b>{escape(self.title)}</b>" + (f" · {escape(self.caption)}" if self.caption else ""))
        if self.scale is not None:
            gradient = ", ".join(escape(colour) for colour in self.scale.colours)
            parts.append(
                f'<div class="scale"><span>{escape(self.scale.low)}</span>'
                f'<i style="background:linear-gradient(to right, {gradient})"></i>'
                f"<span>{escape(self.scale.high)}</span></div>"
            )
        parts.append("</figcaption>")
        return f"<figure{' class=chart' if self.chart else ''}>{''.join(parts)}</figure>"


class Page:
    """A page that grows section by section.

    Args:
        title: heading and window title.
        lead: one or two sentences below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        """Start an empty page."""
        self._title = title
        self._lead = lead
        self._sections: list[str] = []
        self._body: list[str] = []

    def section(self, heading: str, text: str = "") -> None:
        """Start a section; it appears in the list of contents."""
        self._body.append(f'<h2 id="s{len(self._sections)}">{escape(heading)}</h2>')
        self._sections.append(heading)
        if text:
            self.text(text)

    def text(self, text: str, note: bool = False) -> None:
        """Add paragraphs, separated by empty lines; a note is set smaller."""
        for paragraph in text.split("\n\n"):
            self._body.append(f"<p{' class=note' if note else ''}>{escape(paragraph.strip())}</p>")

    def subheading(self, text: str) -> None:
        """Add a small heading."""
        self._body.append(f"<h3>{escape(text)}</h3>")

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add tiles with a number each: {what it is: the number}."""
        tiles = (f'<div class="fact"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in facts.items())
        self._body.append(f'<div class="facts">{"".join(tiles)}</div>')

    def keys(self, keys: Mapping[str, str]) -> None:
        """Add a legend of CSS colours: {meaning: colour}."""
        items = (f'<span class="key"><i style="background:{escape(c)}"></i>{escape(k)}</span>' for k, c in keys.items())
        self._body.append(f'<p class="note">{"".join(items)}</p>')

    def figures(self, figures: Sequence[Figure], columns: int | None = None) -> None:
        """Add figures side by side: 2 or 3 columns (one on a phone), or as many as fit where None."""
        kind = {2: " two", 3: " three"}.get(columns or 0, "")
        self._body.append(f'<div class="row{kind}">{"".join(figure.render() for figure in figures)}</div>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table of numbers; the first column names the row."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._body.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def definitions(self, items: Mapping[str, str]) -> None:
        """Add a table of names and texts."""
        body = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in items.items())
        self._body.append(f'<div class="scroll"><table class="text"><tbody>{body}</tbody></table></div>')

    def code(self, text: str) -> None:
        """Add commands or other fixed-width text."""
        self._body.append(f"<pre>{escape(text.strip())}</pre>")

    def render(self) -> str:
        """Return the whole page."""
        links = "".join(f'<a href="#s{i}">{escape(name)}</a>' for i, name in enumerate(self._sections))
        body = "\n".join(self._body)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
            f'<header><h1>{escape(self._title)}</h1><p class="lead">{escape(self._lead)}</p>'
            f"<nav>{links}</nav></header>\n"
            f"{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path, overwrite: bool = False) -> Path:
        """Write the page; the file appears complete or not at all.

        Args:
            path: file to make; its folder must exist.
            overwrite: replace an existing file.

        Returns:
            The path.

        Raises:
            OutputError: the file exists and may not be replaced, or its folder is missing.
        """
        if path.exists() and not overwrite:
            raise OutputError("report exists already", where=path, next_step="choose another name or allow overwriting")
        if not path.parent.is_dir():
            raise OutputError("folder of the report does not exist", where=path.parent)
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            partial.write_text(self.render(), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path
