"""Trials during training: `train --evaluate realdiff_experiments.rollouts.evaluation:trials`."""

from __future__ import annotations

from pathlib import Path

from realdiff_experiments.rollouts.protocol import Protocol, run_protocol, summary

_TRIALS = 9
_FIRST_SEED = 500_000_000
"""Far from the positions of `rollout`, which would be no test any more if a policy were chosen by them."""

_WORKERS = 2
"""Processes of their own: the training's settings of torch stay as they are."""


def trials(policy: Path, step: int) -> dict[str, float]:
    """Tries a policy at 3 object positions, 3 times each, on clean depth.

    Args:
        policy: Folder of the policy; its contract names the task.
        step: Training steps so far; the positions are the same at every step.

    Returns:
        "success_rate", and its 95 % interval as "success_low" and "success_high".
    """
    from realdiff_policy.policies.diffusion_policy.checkpoint import read_record

    task = read_record(policy).contract.task
    protocol = Protocol(policy, task, trials=_TRIALS, quality="fast", seed=_FIRST_SEED)
    found = summary(run_protocol(protocol, workers=_WORKERS))
    low, high = found["interval_95"]
    return {"success_rate": found["success_rate"], "success_low": low, "success_high": high}
