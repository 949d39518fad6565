"""``ros2 run realdiff_policy inspect``: what a policy bundle expects and gives."""

from __future__ import annotations

import argparse

from realdiff_core.cli import parser, run_command

from realdiff_policy.bundle_path import BUNDLE_HELP, find_bundle

_EXAMPLES = """\
  ros2 run realdiff_policy inspect can_to_plate
  ros2 run realdiff_policy inspect bundles/can_to_plate --json
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    arguments = parser(
        "Print what a policy bundle expects of camera and robot, and what it gives.", _EXAMPLES, "inspect"
    )
    arguments.add_argument("bundle", metavar="BUNDLE", help=BUNDLE_HELP)
    arguments.add_argument("--json", action="store_true", help="print the whole record as JSON")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Prints."""
    from realdiff_policy.policies.diffusion_policy.checkpoint import read_record

    record = read_record(find_bundle(arguments.bundle))
    if arguments.json:
        print(record.model_dump_json(indent=1))
        return 0
    contract, action = record.contract, record.contract.action
    print(f"{contract.policy} for {contract.task}, robot {contract.robot}")
    for name, image in (("colour", contract.colour), ("depth", contract.depth)):
        if image is None:
            print(f"{name}: not used")
            continue
        print(
            f"{name}: {image.topic}, {image.width}×{image.height} px, fx {image.fx:.1f} fy {image.fy:.1f} "
            f"cx {image.cx:.1f} cy {image.cy:.1f} px (other sizes are scaled)"
        )
    near, far = contract.depth_range_m
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in contract.trained_on.items())
    print(f"valid depth: {near:g} to {far:g} m; trained on {shares}")
    print(f"state: {', '.join(contract.joints)} [rad], gripper width [m]")
    print(
        f"observations: {action.observation_steps}, {action.rate_hz:g} a second\n"
        f"actions: {action.space}, {action.chunk} rows a chunk, {action.execute} executed before the next"
    )
    training = record.training
    print(f"training: {training.get('episodes')} episodes, {training.get('steps')} steps, seed {training.get('seed')}")
    if parity := training.get("parity"):
        print(f"export: actions within {parity['max_error']:.1e} of half their range, ONNX Runtime beside PyTorch")
        if "p99_rounding" in parity:
            print(f"weights rounded: 99 % of the actions within {parity['p99_rounding']:.1e} of half their range")
        if "observations" in parity:
            print(f"both on {parity['count']} {parity['observations']} observations")
    return 0


def entry() -> None:
    """Entry point of `ros2 run realdiff_policy inspect`."""
    arguments = build_parser().parse_args()
    run_command(lambda: run(arguments))
