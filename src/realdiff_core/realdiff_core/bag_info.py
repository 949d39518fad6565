"""Show what a bag holds."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from realdiff_core.cli import parser, run_command

EXAMPLES = """\
  ros2 run realdiff_core bag_info episodes/episode_000000
  ros2 run realdiff_core bag_info recording.mcap
"""


def describe(path: Path) -> str:
    """Return a bag's storage, duration, topics and provenance as text.

    Raises:
        BagError: The bag can't be read.
    """
    from realdiff_core.bag import BagReader

    with BagReader(path, allow_empty=True) as reader:
        start = datetime.fromtimestamp(reader.start_ns / 1e9, timezone.utc)
        lines = [
            f"bag         {reader.path}",
            f"storage     {reader.storage}",
            f"messages    {reader.message_count}",
            f"start       {reader.start_ns} ns ({start:%Y-%m-%d %H:%M:%S} UTC)",
            f"duration    {(reader.end_ns - reader.start_ns) / 1e9:.3f} s",
            "topics",
        ]
        width = max((len(name) for name in reader.topics), default=0)
        lines += [f"  {name:<{width}}  {info.count:>7}  {info.msgtype}" for name, info in sorted(reader.topics.items())]
        provenance = reader.provenance()
    if provenance is None:
        lines.append("provenance  none: the origin of this bag's depth is unknown")
        return "\n".join(lines)
    lines.append("provenance")
    lines += [f"  {name:<{width}}  {kind}" for name, kind in sorted(provenance.depth.items())]
    record = provenance.model_dump(exclude={"depth", "format_version", "notes", "enhancement"}, exclude_none=True)
    if provenance.enhancement:
        record |= {f"enhancement.{key}": value for key, value in provenance.enhancement if value is not None}
    record |= {f"notes.{key}": value for key, value in provenance.notes.items()}
    lines += [f"  {key}: {value}" for key, value in record.items()]
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    arguments = parser("Show storage, topics and provenance of a bag.", EXAMPLES)
    arguments.add_argument("bag", type=Path, help="bag folder, .mcap or .db3 file")
    print(describe(arguments.parse_args().bag))
    return 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_core bag_info``."""
    run_command(main)
