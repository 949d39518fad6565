"""Command line: the realism card of a bag, one HTML page."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from realdiff_core.cli import parser, run_command

from realdiff_enhancer.defaults import CARD_FRAMES

_EXAMPLES = """\
  ros2 run realdiff_enhancer report enhanced/episode_000000 -o card.html
  ros2 run realdiff_enhancer report enhanced/episode_000000 --reference RAW_BAG -o card.html

The page is complete in itself: it may be mailed. How to read it: docs/guides/report.md."""


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = parser(
        "Show what the depth of a bag looks like: holes, noise by depth, edges, spectrum, time, pictures.",
        _EXAMPLES,
        "report",
    )
    add = arguments.add_argument
    add("bag", type=Path, help="bag with a depth topic: raw, simulated or enhanced")
    add("--reference", type=Path, metavar="RAW_BAG", help="bag to compare with, e.g. one of the real camera")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the .html file")
    add("--topic", metavar="NAME", help="depth topic (default: the only one, or the one aligned to colour)")
    add("--reference-topic", metavar="NAME", help="depth topic of the reference")
    add("--profile", default="d435", help="camera profile, for the stereo baseline (default: d435)")
    add("--reference-profile", metavar="NAME", help="camera profile of the reference (default: --profile)")
    add(
        "--frames",
        type=int,
        default=CARD_FRAMES,
        metavar="N",
        help="measure at most N frames of a bag (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace the file")
    return arguments


def report(options: argparse.Namespace, command: str) -> int:
    """Measure and write the page; returns the exit code."""
    from realdiff_core.config import camera_profile

    from realdiff_enhancer.evaluation.card import measure_bag
    from realdiff_enhancer.evaluation.card_page import page

    check_output(options.output, options.overwrite)
    profile = camera_profile(options.profile)
    bags = [measure_bag(options.bag, profile.baseline_m, topic=options.topic, max_frames=options.frames)]
    if options.reference is not None:
        other = camera_profile(options.reference_profile or options.profile)
        bags.append(
            measure_bag(options.reference, other.baseline_m, topic=options.reference_topic, max_frames=options.frames)
        )
    write_page(options.output, page(bags, command))
    print(options.output)
    return 0


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse a file that exists, before the work.

    Raises:
        OutputError: it exists and may not be replaced, or is no .html.
    """
    from realdiff_core.errors import OutputError

    if path.suffix != ".html":
        raise OutputError("the card is an HTML page", where=path, next_step=f"name it {path.stem}.html")
    if path.exists() and not overwrite:
        raise OutputError("output exists already", where=path, next_step="add --overwrite, or choose another name")


def write_page(path: Path, text: str) -> None:
    """Write a page, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    """Entry point."""

    def command() -> int:
        return report(build_parser().parse_args(), "ros2 run realdiff_enhancer report " + shlex.join(sys.argv[1:]))

    run_command(command)


if __name__ == "__main__":
    main()
