"""The data of a finished run: where its array stores are, and observations out of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from realdiff_core.errors import ConfigError

from realdiff_policy.contract import Observation, PolicyContract
from realdiff_policy.data.episode_arrays import DEPTH_UNIT_M
from realdiff_policy.data.store import EpisodeStore, default_folder, open_store
from realdiff_policy.data.windows import MappedSamples, Windows
from realdiff_policy.policies.diffusion_policy.checkpoint import PolicyRecord
from realdiff_policy.training.config import TrainConfig

SETTINGS, STORES = "config.json", "stores.json"
"""Files of a run: its settings as they were given, and where its array stores are."""


def remember_stores(run: Path, folders: list[Path]) -> None:
    """Writes down where the stores are; their paths are this machine's, so they stay out of policy and bundle."""
    (run / STORES).write_text(json.dumps([str(folder.absolute()) for folder in folders], indent=1) + "\n")


def training_observations(record: PolicyRecord, run: Path, count: int) -> list[Observation]:
    """Observations that a policy was trained on, evenly over all of its episodes.

    Args:
        record: The policy's record.
        run: The training run, or its `policy` folder.
        count: How many.

    Raises:
        ConfigError: The data aren't here any more, or are others. `what` and `got` name no path.
    """
    known = set(record.training.get("bags_sha256", ()))
    stores = [store for folder in _folders(run) if (store := _part(folder, record.contract, known)) is not None]
    if not stores:
        raise ConfigError(
            "the training data aren't here",
            where=run,
            expected="array stores with the episodes of the training",
            next_step="export on the machine that has trained, or name the run rather than a copy of its policy",
        )
    windows = Windows.make([(store, 1.0) for store in stores], record.contract.action)
    picks = np.linspace(0, len(windows) - 1, count).round().astype(np.int64)
    batch = MappedSamples(windows).gather(picks)
    colour, state = batch["colour"].numpy(), batch["state"].double().numpy()
    depth = batch["depth"].numpy()
    metres = np.where(depth > 0, depth * np.float32(DEPTH_UNIT_M), np.float32(np.nan)).astype(np.float32)
    sees_depth = record.contract.depth is not None
    return [Observation(colour[i], metres[i] if sees_depth else None, state[i], 0) for i in range(count)]


def _folders(run: Path) -> list[Path]:
    """The stores that a run remembers; those beside its bags where it is older than that."""
    for place in (run, run.parent):
        if (place / STORES).is_file():
            return [Path(text) for text in json.loads((place / STORES).read_text())]
        if (place / SETTINGS).is_file():
            try:
                config = TrainConfig.model_validate_json((place / SETTINGS).read_text())
            except ValidationError:
                continue
            return [default_folder(source.path) for source in config.data]
    return []


def _part(folder: Path, contract: PolicyContract, known: set[str]) -> EpisodeStore | None:
    """The episodes of a store that a policy was trained on; None where there are none."""
    if not (folder / "store.json").is_file():
        return None
    store = open_store(folder, known)
    wanted = (contract.colour.width, contract.colour.height, contract.action.rate_hz)
    if store is None or (store.settings.width, store.settings.height, store.settings.rate_hz) != wanted:
        return None
    return store
