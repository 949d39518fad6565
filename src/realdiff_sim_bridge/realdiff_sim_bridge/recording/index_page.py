"""The index page of a folder of episodes: one self-contained HTML file with a small picture of every attempt."""

from __future__ import annotations

import base64
import html
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from realdiff_core.bag import BagReader
from realdiff_core.errors import RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_core.provenance import KEY, BagProvenance

from realdiff_core import topics
from realdiff_sim_bridge.recording.folder import FAILED, THUMBNAILS
from realdiff_sim_bridge.recording.thumbnails import save_thumbnail

NAME = "index.html"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c0392b; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
ol { list-style: none; padding: 0; display: grid; gap: .8rem; }
ol { grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
li { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; overflow: hidden; }
img { display: block; width: 100%; border-radius: 4px; margin-bottom: .4rem; background: #8882; }
.good { color: var(--good); } .bad { color: var(--bad); } small { opacity: .75; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class _Entry:
    path: Path
    provenance: BagProvenance
    duration_s: float


def write_index(output: Path) -> Path:
    """Writes DIR/index.html about all episodes and failed attempts in a folder; the same bags give the same page.

    Args:
        output: Folder of a recording.

    Returns:
        The page.
    """
    entries = [entry for folder in (output, output / FAILED) for entry in _entries(folder)]
    page = output / NAME
    handle, name = tempfile.mkstemp(prefix=".index-", suffix=".html", dir=output)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(_page(output, entries))
        Path(name).chmod(0o644)
        Path(name).replace(page)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return page


def _entries(folder: Path) -> Iterable[_Entry]:
    """Reads the bags' metadata only: opening a thousand bags takes a minute, reading a thousand small files doesn't."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(folder.glob("*/metadata.yaml")):
        try:
            content: Any = yaml.load(path.read_bytes(), loader)["rosbag2_bagfile_information"]
            provenance = BagProvenance.from_json(content["custom_data"][KEY], where=path.parent)
            duration_s = int(content["duration"]["nanoseconds"]) * 1e-9
        except (yaml.YAMLError, KeyError, TypeError, ValueError, RealdiffError):
            continue  # another kind of bag, or a damaged one: `validate` is there for them
        yield _Entry(path.parent, provenance, duration_s)


def _page(output: Path, entries: list[_Entry]) -> Iterable[str]:
    title = f"Episodes in {html.escape(output.name or str(output))}"
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n'
    yield from _summary(entries)
    for heading, success in (("Episodes", True), ("Failed attempts", False)):
        chosen = [entry for entry in entries if bool(entry.provenance.success) is success]
        if chosen:
            yield f"<h2>{heading} ({len(chosen)})</h2>\n<ol>\n"
            for entry in chosen:
                yield from _card(output, entry)
            yield "</ol>\n"
    yield "</body></html>\n"


def _summary(entries: list[_Entry]) -> Iterable[str]:
    yield '<table><tr><th>Task<th>Motion<th>Simulator<th class="number">Episodes<th class="number">Failed'
    yield '<th class="number">Success<th class="number">Duration (min)</tr>\n'
    groups: dict[tuple[str, str, str], list[_Entry]] = {}
    for entry in entries:
        record = entry.provenance
        key = (record.task or "", record.notes.get("source", ""), record.simulator or "")
        groups.setdefault(key, []).append(entry)
    for key, group in sorted(groups.items()):
        done = [entry for entry in group if entry.provenance.success]
        minutes = sum(entry.duration_s for entry in done) / 60
        numbers = (str(len(done)), str(len(group) - len(done)), f"{len(done) / len(group):.1%}", f"{minutes:.1f}")
        texts = "".join(f"<td>{html.escape(text)}" for text in key)
        yield f"<tr>{texts}{''.join(f'<td class=number>{number}' for number in numbers)}</tr>\n"
    yield "</table>\n"


def _card(output: Path, entry: _Entry) -> Iterable[str]:
    record, link = entry.provenance, html.escape(str(entry.path.relative_to(output)))
    mark = '<span class="good">✓</span>' if record.success else '<span class="bad">✗</span>'
    yield f'<li>{_picture(output, entry.path)}{mark} <a href="{link}/">{html.escape(entry.path.name)}</a><br>'
    seed = "" if record.seed is None else f"seed {record.seed}, "
    yield f"{seed}{entry.duration_s:.1f} s"
    if not record.success:
        yield f"<br><small>{html.escape(record.notes.get('failure', 'not done in time'))}</small>"
    yield f"<details><summary>Provenance</summary><small>{html.escape(_pretty(record))}</small></details></li>\n"


def _pretty(record: BagProvenance) -> str:
    return json.dumps(record.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False)


def _picture(output: Path, bag: Path) -> str:
    thumbnail = output / THUMBNAILS / f"{bag.name}.jpg"
    if not thumbnail.exists():
        _make_thumbnail(bag, thumbnail)
    if not thumbnail.exists():
        return ""
    data = base64.b64encode(thumbnail.read_bytes()).decode()
    return f'<img loading="lazy" alt="first and last picture" src="data:image/jpeg;base64,{data}">'


def _make_thumbnail(bag: Path, thumbnail: Path) -> None:
    """Takes the first picture from a bag that came without a small one."""
    try:
        with BagReader(bag) as reader:
            first = reader.first(topics.COLOR_IMAGE)
            picture = image_to_numpy(reader.deserialize(first)) if first is not None else None
    except RealdiffError:
        return  # a bag without pictures gets none here either
    if picture is not None:
        save_thumbnail(thumbnail, [picture])
