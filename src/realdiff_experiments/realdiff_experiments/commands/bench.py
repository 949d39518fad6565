"""`./run bench`: every package's benchmarks in one table and build/bench/results.json."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from realdiff_core.cli import parser, run_command

_EXAMPLES = """\
  ./run bench
  ./run bench --frames 100 -o /tmp/bench.json
"""


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON file."""
    arguments = parser("Measure bags, models, the two-stage model, bag enhancer and live node.", _EXAMPLES, "bench")
    arguments.add_argument("--frames", type=int, default=200, help="frames of each measurement (default: 200)")
    arguments.add_argument("-o", "--output", type=Path, default=Path("build/bench/results.json"), help="JSON file")
    options = arguments.parse_args(argv)
    if options.frames < 10:
        arguments.error("--frames must be at least 10")
    from rich.console import Console
    from rich.table import Table

    from realdiff_core import bench as core
    from realdiff_enhancer import bench as enhancer

    results: list[dict[str, Any]] = []
    for name, measure in (("bags", core.bench), ("models, two-stage model, bag enhancer, node", enhancer.bench)):
        print(f"bench: {name} …", flush=True)
        results += [dict(row) for row in measure(frames=options.frames)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    partial = options.output.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(options.output)
    table = Table(title=f"{platform.processor() or platform.machine()}, {len(results)} measurements")
    for column in ("name", "value", "unit", "baseline", "ratio"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right", overflow="fold")
    for row in results:
        numbers = [row["value"], row["baseline"], row["ratio"]]
        value, baseline, ratio = ("" if n is None else f"{n:.4g}" for n in numbers)
        table.add_row(row["name"], value, row["unit"], baseline, ratio)
    Console().print(table)
    print(f"bench: {options.output}")
    return 0


def cli() -> None:
    """Entry point of `ros2 run realdiff_experiments bench`."""
    run_command(main)


if __name__ == "__main__":
    cli()
