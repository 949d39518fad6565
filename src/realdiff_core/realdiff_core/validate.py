"""Check bags against the conventions of an episode."""

from __future__ import annotations

from pathlib import Path

from realdiff_core.cli import parser, progress, run_command

EXAMPLES = """\
  ros2 run realdiff_core validate episodes/episode_000000
  ros2 run realdiff_core validate episodes
"""


def main() -> int:
    """Run the command line; the exit code is 1 where an episode has a fault."""
    arguments = parser("Check that bags are complete, readable episodes.", EXAMPLES)
    arguments.add_argument("path", type=Path, help="an episode bag, or a folder of them")
    path = arguments.parse_args().path

    from realdiff_core.episode import list_episodes, validate_episode

    episodes = list_episodes(path)
    faulty = 0
    with progress("checking", len(episodes), "episodes") as bar:
        for episode in episodes:
            report = validate_episode(episode)
            depth = ", ".join(f"{name} {kind or 'unknown'}" for name, kind in report.depth.items()) or "no depth"
            print(f"{episode}: {'ok' if report.valid else f'{len(report.problems)} problems'} ({depth})")
            for problem in report.problems:
                print(f"  {problem}")
            faulty += not report.valid
            bar.advance()
    return 1 if faulty else 0


def cli() -> None:
    """Entry point of ``ros2 run realdiff_core validate``."""
    run_command(main)
