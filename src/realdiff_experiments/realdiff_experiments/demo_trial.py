"""The demonstration's second half: one trial of the shipped policy in simulation, and its part of the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from realdiff_core.bag import BagReader
from realdiff_core.episode import decode_image
from realdiff_core.errors import ConfigError
from realdiff_core.topics import COLOR_IMAGE
from realdiff_policy.bundle_path import RECORD_FILE, find_bundle

from realdiff_experiments.report.demo import DemoReport
from realdiff_experiments.report.html import Figure
from realdiff_experiments.report.images import png

TASK = "can_to_plate"
_PICTURES = 8

__all__ = ["TASK", "TrialRun", "add_trial", "run_trial"]


@dataclass(frozen=True)
class TrialRun:
    """A finished trial.

    Attributes:
        bundle: The policy's bundle.
        record: trial.json.
        bag: What the recorder has written.
    """

    bundle: Path
    record: dict[str, Any]
    bag: Path


def run_trial(
    output: Path, seed: int, step: Callable[[str, list[str]], None], say: Callable[[str], None]
) -> TrialRun | None:
    """Runs one trial with deploy.launch.py; without a bundle of the task it says so and returns None.

    Args:
        output: Folder for the trial; what is there is replaced.
        seed: Which scene.
        step: Runs a command under a title.
        say: Receives a line where the trial is left out.
    """
    try:
        bundle = find_bundle(TASK)
    except ConfigError:
        say(f"no policy bundle for {TASK}: the trial is left out; train one as docs/guides/train_policy.md says")
        return None
    shutil.rmtree(output, ignore_errors=True)
    command = ["ros2", "launch", "realdiff", "deploy.launch.py", f"task:={TASK}", "robot:=sim", "camera:=sim"]
    step("let the trained policy do the task", [*command, f"seed:={seed}", f"output:={output}"])
    folder = output / f"{TASK}_{seed:06d}"
    record = json.loads((folder / "trial.json").read_text())
    return TrialRun(bundle, record, folder / record["bag"])


def add_trial(report: DemoReport, trial: TrialRun) -> None:
    """Adds pictures of a trial and what its record says."""
    record = trial.record
    outcome = record["outcome"] + (f" ({record['failure_category']})" if record["failure_category"] else "")
    report.add_text(
        "The policy at work",
        f"Diffusion Policy, trained on {_trained_on(trial.bundle)} depth, in closed loop over DDS: camera, policy, "
        f"safety gate, arm. "
        f"Outcome of this one trial: {outcome} after {record['duration_s']:.1f} s. One trial says little; success "
        "rates with intervals come from `ros2 run realdiff_experiments rollout`.",
    )
    report.page.figures(_pictures(trial.bag), columns=4)
    report.page.table(
        ("figure", "value"),
        [
            ("one inference, median", f"{record['inference_p50_ms']} ms"),
            ("one inference, 99th percentile", f"{record['inference_p99_ms']} ms"),
            ("missed deadlines", str(record["missed_deadlines"])),
            ("actions refused by the safety gate", str(record["rejected_actions"])),
            ("depth in front of the policy", str(record["depth"])),
        ],
    )


def _trained_on(bundle: Path) -> str:
    """Kinds of depth in a policy's training, by share."""
    shares = json.loads((bundle / RECORD_FILE).read_text())["contract"]["trained_on"]
    return " and ".join(f"{kind} ({share:.0%})" if len(shares) > 1 else kind for kind, share in shares.items())


def _pictures(bag: Path) -> list[Figure]:
    with BagReader(bag) as reader:
        count = reader.topics[COLOR_IMAGE].count
        chosen = set(np.linspace(0, count - 1, min(count, _PICTURES)).astype(int).tolist())
        start_ns = reader.start_ns
        return [
            Figure(png(np.array(decode_image(reader, raw)[1])), f"{(raw.stamp_ns - start_ns) * 1e-9:.1f} s")
            for number, raw in enumerate(reader.messages([COLOR_IMAGE]))
            if number in chosen
        ]
