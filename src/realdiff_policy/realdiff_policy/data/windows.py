"""Training samples: windows of observations and actions, cut from episodes.

A sample belongs to one frame t of an episode. It holds the observations t−To+1 … t and the actions of the frames
t−To+1 … t−To+horizon (Chi et al. 2023). Before the first and after the last frame the nearest one is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from realdiff_core.config import Strict
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import DepthKind
from torch import Tensor

from realdiff_policy.actions import action_rows
from realdiff_policy.contract import ActionContract
from realdiff_policy.data.store import Episode, EpisodeStore
from realdiff_policy.images import image_contract, intrinsics_problem


class DataSource(Strict):
    """A folder of episode bags and its share of the training samples."""

    path: Path
    share: PositiveFloat = Field(default=1.0, description="relative to the other sources")


@dataclass(frozen=True)
class Windows:
    """Index of all training samples: which frames each one is made of.

    Attributes:
        episodes: The episodes of all sources.
        starts: int64[E]: number of each episode's first frame, counting the frames of all episodes.
        sample_episode: int64[S]: episode of each sample.
        sample_frame: int64[S]: its frame t within the episode.
        probability: float64[S]: how often it is drawn, sum 1.
        action: Shape and time base of observations and actions.
    """

    episodes: tuple[Episode, ...]
    starts: NDArray[np.int64]
    sample_episode: NDArray[np.int64]
    sample_frame: NDArray[np.int64]
    probability: NDArray[np.float64]
    action: ActionContract

    @classmethod
    def make(cls, stores: Sequence[tuple[EpisodeStore, float]], action: ActionContract) -> Windows:
        """Makes the index.

        Args:
            stores: Stores and their shares of the samples.
            action: Shape and time base of observations and actions.

        Raises:
            ConfigError: The stores are of different cameras, tasks or rates.
        """
        first = stores[0][0]
        reference = image_contract("colour", first.episodes[0].camera)
        for store, _ in stores:
            episode = store.episodes[0]
            problem = intrinsics_problem(reference, episode.camera)
            if episode.record.task != first.episodes[0].record.task:
                problem = f"task {episode.record.task} beside {first.episodes[0].record.task}"
            if store.settings.rate_hz != action.rate_hz:
                problem = f"{store.settings.rate_hz:g} frames a second, the policy takes {action.rate_hz:g}"
            if problem:
                raise ConfigError(
                    "training data don't belong together",
                    where=episode.folder,
                    expected="one task, one camera, the policy's rate",
                    got=problem,
                    next_step="train on data of one kind",
                )
        episodes = [episode for store, _ in stores for episode in store.episodes]
        frames = np.array([episode.record.frames for episode in episodes], dtype=np.int64)
        total = sum(share for _, share in stores)
        weight = np.concatenate([np.full(len(store.episodes), share / total / store.frames) for store, share in stores])
        return cls(
            episodes=tuple(episodes),
            starts=np.concatenate([[0], np.cumsum(frames)[:-1]]).astype(np.int64),
            sample_episode=np.repeat(np.arange(len(episodes)), frames),
            sample_frame=np.concatenate([np.arange(count) for count in frames]),
            probability=np.repeat(weight, frames),
            action=action,
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.sample_frame)

    @property
    def depth_shares(self) -> dict[DepthKind, float]:
        """Share of the samples by kind of depth."""
        kinds = [episode.record.depth_kind for episode in self.episodes]
        shares: dict[DepthKind, float] = {}
        for index, kind in enumerate(kinds):
            share = float(self.probability[self.sample_episode == index].sum())
            shares[kind] = shares.get(kind, 0.0) + share
        return {kind: round(share, 6) for kind, share in sorted(shares.items())}

    def frames(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The frames that samples are made of, as numbers within their episode.

        Args:
            samples: int64[B].

        Returns:
            Frames of the observations, int64[B, To], and of the actions, int64[B, horizon].
        """
        steps = self.action.observation_steps
        last = np.array([self.episodes[e].record.frames - 1 for e in self.sample_episode[samples]])[:, None]
        first = self.sample_frame[samples][:, None] - steps + 1
        observed = np.clip(first + np.arange(steps), 0, last)
        acted = np.clip(first + np.arange(self.action.horizon), 0, last)
        return observed, acted


Batch = dict[str, Tensor]
"""colour uint8[B, To, H, W, 3]; depth int32[B, To, H, W] in DEPTH_UNIT_M, 0 invalid; state float32[B, To, 8]; action
float32[B, horizon, size]. Not normalised."""


class SampleSource(Protocol):
    """Gives training samples by number."""

    def gather(self, samples: NDArray[np.int64]) -> Batch:
        """Returns the samples as one batch."""
        ...


class ResidentSamples:
    """All frames in the memory of one device; a batch is gathered there. The fastest way where the data fit.

    Args:
        windows: The samples.
        device: Where the frames are kept.
    """

    def __init__(self, windows: Windows, device: torch.device) -> None:
        """Copies all frames to the device."""
        self._windows = windows
        self._device = device
        episodes = windows.episodes
        count = int(windows.starts[-1]) + episodes[-1].record.frames
        height, width = episodes[0].depth.shape[1:]
        self._colour = torch.empty((count, height, width, 3), dtype=torch.uint8, device=device)
        self._depth = torch.empty((count, height, width), dtype=torch.int16, device=device)
        for start, episode in zip(windows.starts, episodes, strict=True):
            frames = slice(int(start), int(start) + episode.record.frames)
            self._colour[frames] = torch.from_numpy(np.array(episode.colour)).to(device)
            # torch has few operations for uint16; the bits are kept and read as unsigned in `gather`.
            self._depth[frames] = torch.from_numpy(np.array(episode.depth).view(np.int16)).to(device)
        self._state = torch.from_numpy(np.concatenate([e.state for e in episodes]).astype(np.float32)).to(device)
        actions = [action_rows(windows.action.space, e.action, e.hand) for e in episodes]
        self._action = torch.from_numpy(np.concatenate(actions).astype(np.float32)).to(device)

    @staticmethod
    def bytes_needed(windows: Windows) -> int:
        """Memory that the images take."""
        return sum(int(episode.colour.nbytes) + int(episode.depth.nbytes) for episode in windows.episodes)

    def gather(self, samples: NDArray[np.int64]) -> Batch:
        """Returns the samples as one batch on the device."""
        observed, acted = self._windows.frames(samples)
        starts = self._windows.starts[self._windows.sample_episode[samples]][:, None]
        seen = torch.from_numpy(observed + starts).to(self._device)
        done = torch.from_numpy(acted + starts).to(self._device)
        return {
            "colour": self._colour[seen],
            "depth": self._depth[seen].to(torch.int32) & 0xFFFF,
            "state": self._state[seen],
            "action": self._action[done],
        }


class MappedSamples:
    """Reads the frames of each batch from the memory-mapped arrays; for data larger than memory."""

    def __init__(self, windows: Windows) -> None:
        """Remembers the index; nothing is read yet."""
        self._windows = windows

    def gather(self, samples: NDArray[np.int64]) -> Batch:
        """Returns the samples as one batch in main memory."""
        observed, acted = self._windows.frames(samples)
        rows: dict[str, list[NDArray[Any]]] = {"colour": [], "depth": [], "state": [], "action": []}
        for number, seen, done in zip(samples, observed, acted, strict=True):
            episode = self._windows.episodes[self._windows.sample_episode[number]]
            rows["colour"].append(episode.colour[seen])
            rows["depth"].append(episode.depth[seen].astype(np.int32))
            rows["state"].append(episode.state[seen].astype(np.float32))
            action = action_rows(self._windows.action.space, episode.action[done], episode.hand[done])
            rows["action"].append(action.astype(np.float32))
        return {name: torch.from_numpy(np.stack(parts)) for name, parts in rows.items()}


class WindowDataset(torch.utils.data.Dataset[Batch]):
    """Whole batches for a DataLoader: item i is the batch of step i, drawn from the seed and i alone.

    So training goes on exactly after an interruption, whatever the number of workers.

    Args:
        source: Gives samples.
        probability: float64[S]: how often each sample is drawn, sum 1.
        batch: Samples a batch.
        seed: Seed of the draws.
        steps: Number of batches.
    """

    def __init__(
        self, source: SampleSource, probability: NDArray[np.float64], batch: int, seed: int, steps: int
    ) -> None:
        """Prepares the draws."""
        self.source = source
        self._cumulated = np.cumsum(probability)
        self._batch, self._seed, self._steps = batch, seed, steps

    def __len__(self) -> int:
        """Number of batches."""
        return self._steps

    def draw(self, step: int) -> NDArray[np.int64]:
        """The samples of a step."""
        random = np.random.default_rng((self._seed, step))
        picks = np.searchsorted(self._cumulated, random.random(self._batch) * self._cumulated[-1], side="right")
        return np.minimum(picks, len(self._cumulated) - 1).astype(np.int64)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        return self.source.gather(self.draw(step))
