"""Training and validation samples of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from realdiff_core.camera import CameraModel
from realdiff_core.errors import ConfigError

from realdiff_policy.data.store import EpisodeStore, StoreSettings, build_store, default_folder
from realdiff_policy.data.windows import MappedSamples, ResidentSamples, SampleSource, Windows
from realdiff_policy.training.config import TrainConfig

_SPLIT_STREAM = 0x5B117
_MEMORY_SHARE = 0.6
"""Share of a GPU's free memory that frames may take."""


@dataclass(frozen=True)
class Samples:
    """The samples of a run.

    Attributes:
        training: Index of the training samples.
        validation: Index of the validation samples; None where no episode is kept for it.
        camera: The colour camera at the store's image size.
        task: The task's name.
    """

    training: Windows
    validation: Windows | None
    camera: CameraModel
    task: str


def store_folders(config: TrainConfig, store_folder: Path | None = None) -> list[Path]:
    """Where the array store of each source is kept; `store_folder` as for `open_samples`."""
    if store_folder is None:
        return [default_folder(source.path) for source in config.data]
    return [store_folder / f"{number}_{source.path.name}" for number, source in enumerate(config.data)]


def open_samples(
    config: TrainConfig, store_folder: Path | None = None, on_episode: Callable[[int, int], None] | None = None
) -> Samples:
    """Opens the stores of all sources (reading the bags where needed) and splits them by episodes.

    Args:
        config: Settings of the run.
        store_folder: Where the stores are kept, one folder a source; None: `.store` beside each source's bags.
        on_episode: Called with (episodes done, episodes in all) of the present source.

    Raises:
        ConfigError: No data, or data that don't belong together.
        BagError: A bag is damaged or lacks a topic.
    """
    if not config.data:
        raise ConfigError("no training data", expected="a folder of episode bags", next_step="name one with --data")
    height, width = config.policy.image
    settings = StoreSettings(width=width, height=height, rate_hz=config.policy.action.rate_hz)
    training, validation = [], []
    for source, folder in zip(config.data, store_folders(config, store_folder), strict=True):
        store = build_store(source.path, folder, settings, on_episode=on_episode)
        kept, held = split(store, config.validation_share, config.seed)
        training.append((kept, source.share))
        if held is not None:
            validation.append((held, source.share))
    first = training[0][0].episodes[0]
    return Samples(
        training=Windows.make(training, config.policy.action),
        validation=Windows.make(validation, config.policy.action) if validation else None,
        camera=first.camera,
        task=first.record.task,
    )


def split(store: EpisodeStore, share: float, seed: int) -> tuple[EpisodeStore, EpisodeStore | None]:
    """Splits a store by episodes: which ones validate depends on the names of all of its bags and the seed.

    So the clean and the enhanced version of an episode fall on the same side where both sources hold the same episodes.
    """
    count = round(share * len(store.episodes))
    if count == 0 or len(store.episodes) < 2:
        return store, None
    names = sorted(episode.record.bag for episode in store.episodes)
    order = np.random.default_rng((_SPLIT_STREAM, seed)).permutation(len(names))
    chosen = {names[i] for i in order[:count]}
    kept, held = (
        [episode for episode in store.episodes if (episode.record.bag in chosen) == side] for side in (False, True)
    )
    return EpisodeStore(store.settings, kept), EpisodeStore(store.settings, held)


def sample_source(windows: Windows, config: TrainConfig, device: torch.device) -> SampleSource:
    """Chooses where the frames are kept."""
    needed = ResidentSamples.bytes_needed(windows)
    fits = False
    if device.type == "cuda":
        fits = needed < _MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
    if config.memory == "device" and device.type == "cuda" and not fits:
        raise ConfigError(
            "the training frames don't fit into the GPU's memory",
            expected=f"less than {_MEMORY_SHARE:.0%} of its free memory",
            got=f"{needed / 1e9:.1f} GB",
            next_step="set memory: mapped",
        )
    if config.memory == "device" or (config.memory == "auto" and fits):
        return ResidentSamples(windows, device)
    return MappedSamples(windows)
