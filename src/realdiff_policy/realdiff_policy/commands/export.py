"""``ros2 run realdiff_policy export``: from a training run to a policy bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from realdiff_core.cli import parser, run_command

_EXAMPLES = """\
  ros2 run realdiff_policy export runs/can -o bundles/can_to_plate
  ros2 run realdiff_policy inspect bundles/can_to_plate

The bundle holds weights in float16, ONNX graphs and everything that must agree between policy and robot cell. It is
refused if its actions differ from those of the trained weights.
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser("Export a trained policy as a bundle for the run time.", _EXAMPLES, "export")
    arguments.add_argument("run", metavar="RUN", type=Path, help="training run, or its `policy` folder")
    arguments.add_argument("-o", "--output", metavar="BUNDLE", type=Path, required=True, help="bundle to make")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Exports."""
    from realdiff_policy.export import export_policy

    parity = export_policy(arguments.run, arguments.output)
    seen = parity.observations == "training"
    if not seen:
        print(f"note: {parity.missing}; parity was checked on random observations", file=sys.stderr)
    size = sum(file.stat().st_size for file in arguments.output.iterdir())
    print(
        f"bundle: {arguments.output} ({size / 1e6:.1f} MB)\n"
        f"parity, on {parity.count} {'observations of the training' if seen else 'random observations'}: ONNX Runtime "
        f"and PyTorch differ by at most {parity.max_error:.1e} of half an action's range "
        f"(limit {parity.max_error_limit:g})\n"
        f"float16 weights change 99 % of the actions by at most {parity.p99_rounding:.1e} "
        f"(limit {parity.p99_rounding_limit:g}), the others by at most {parity.max_rounding:.1e}\n"
        f"next: ros2 launch realdiff deploy.launch.py policy:={arguments.output}"
    )
    return 0


def entry() -> None:
    """Entry point of `ros2 run realdiff_policy export`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))
