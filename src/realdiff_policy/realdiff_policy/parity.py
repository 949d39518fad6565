"""The proof that a bundle acts as the policy that was trained: the same actions on the same observations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from realdiff_core.config import Strict
from realdiff_core.errors import ConfigError

from realdiff_policy.bundle import BundlePolicy, load_bundle, torch_functions
from realdiff_policy.contract import Observation
from realdiff_policy.policies.diffusion_policy.checkpoint import PolicyRecord, read_record
from realdiff_policy.training.run_data import training_observations

PARITY_LIMIT = 1e-3
"""Largest difference of an action between ONNX Runtime and PyTorch, both with the bundle's weights, in units of half
the action's range in training: what another order of sums may change (0.4 mrad for a joint that moves by ±0.4 rad)."""

ROUNDING_LIMIT = 5e-3
"""What the rounding of the weights to float16 may change in 99 % of the actions, in the same units. The largest change
is stated only: where a policy has to choose between two motions, the smallest change decides."""

_OBSERVATIONS = 24


@dataclass(frozen=True)
class Observed:
    """Observations for the check.

    Attributes:
        source: Where they come from.
        observations: The observations.
        missing: Why they aren't those of the training; empty where they are.
    """

    source: Literal["training", "random"]
    observations: list[Observation]
    missing: str = ""


class Parity(Strict):
    """What a check has found, in units of half the action's range in training.

    Attributes:
        observations: Where the observations come from.
        count: How many there were.
        missing: Why they aren't those of the training; empty where they are.
        max_error: Largest difference between ONNX Runtime and PyTorch with the same weights.
        max_error_limit: What it was allowed to be.
        p99_rounding: What the rounding of the weights changes in 99 % of the actions.
        p99_rounding_limit: What it was allowed to be.
        max_rounding: What it changes at most.
    """

    observations: Literal["training", "random"]
    count: int
    missing: str = ""
    max_error: float
    max_error_limit: float
    p99_rounding: float
    p99_rounding_limit: float
    max_rounding: float

    def require(self, source: Path) -> None:
        """Refuses a bundle that differs from the policy in `source`.

        Raises:
            ConfigError: An error is above its limit, or not a number.
        """
        for name, value, limit, next_step in (
            (
                "p99_rounding",
                self.p99_rounding,
                self.p99_rounding_limit,
                "look for weights beyond float16's range (NaN, > 65504), or train on",
            ),
            (
                "max_error",
                self.max_error,
                self.max_error_limit,
                "report it with the versions of onnx, onnxruntime and torch",
            ),
        ):
            if not value <= limit:
                raise ConfigError(
                    "the exported policy differs from the trained one",
                    where=source,
                    expected=f"{name} of at most {limit:g} of half an action's range",
                    got=f"{value:.2e} on {self.count} {self.observations} observations",
                    next_step=next_step,
                )


def observations_for(record: PolicyRecord, run: Path) -> Observed:
    """Observations of a run's training data, or random ones where the data aren't here.

    Args:
        record: The trained policy's record.
        run: The training run, or its `policy` folder.
    """
    try:
        return Observed("training", training_observations(record, run, _OBSERVATIONS))
    except ConfigError as error:
        missing = error.what if error.got is None else f"{error.what}: {error.got}"
        return Observed("random", [random_observation(record, seed) for seed in range(_OBSERVATIONS)], missing)


def parity(
    trained: Path,
    bundle: Path,
    observed: Observed,
    max_error_limit: float = PARITY_LIMIT,
    p99_rounding_limit: float = ROUNDING_LIMIT,
) -> Parity:
    """Compares the actions of three policies on the same observations and seeds.

    They are the trained one (PyTorch, the run's weights), the same network with the bundle's weights, and the bundle as
    it runs (ONNX Runtime).

    Args:
        trained: Folder of the trained policy.
        bundle: The bundle made of it.
        observed: What they see.
        max_error_limit: See `PARITY_LIMIT`.
        p99_rounding_limit: See `ROUNDING_LIMIT`.
    """
    cpu = torch.device("cpu")
    record = read_record(trained)
    first, rounded = (BundlePolicy(record, *torch_functions(place, record, cpu), cpu) for place in (trained, bundle))
    exported = load_bundle(bundle, "cpu", "onnx")
    half_range = (np.array(record.statistics.action.highest) - np.array(record.statistics.action.lowest)) / 2
    errors, roundings = [], []
    for seed, observation in enumerate(observed.observations):
        actions = [policy.predict(observation, seed) / half_range for policy in (first, rounded, exported)]
        roundings.append(np.abs(actions[1] - actions[0]))
        errors.append(np.abs(actions[2] - actions[1]))
    return Parity(
        observations=observed.source,
        count=len(observed.observations),
        missing=observed.missing,
        max_error=float(np.max(errors)),
        max_error_limit=max_error_limit,
        p99_rounding=float(np.percentile(roundings, 99)),
        p99_rounding_limit=p99_rounding_limit,
        max_rounding=float(np.max(roundings)),
    )


def random_observation(record: PolicyRecord, seed: int) -> Observation:
    """A smooth random observation within the ranges of the training."""
    import cv2

    random = np.random.default_rng(seed)
    contract = record.contract
    steps, height, width = contract.action.observation_steps, contract.colour.height, contract.colour.width

    def blobs(channels: int) -> np.ndarray:
        small = random.random((steps, 9, 12, channels), dtype=np.float32)
        return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in small])

    colour = (blobs(3).clip(0, 1) * 255).astype(np.uint8)
    depth = None
    if contract.depth is not None:
        near, far = contract.depth_range_m
        depth = (near + (far - near) * blobs(1).reshape(steps, height, width)).astype(np.float32)
        depth[blobs(1).reshape(depth.shape) < 0.1] = np.nan
    lowest, highest = (np.array(values) for values in (record.statistics.state.lowest, record.statistics.state.highest))
    state = lowest + (highest - lowest) * random.random((steps, len(lowest)))
    return Observation(colour, depth, state, 0)
