"""What happens to observations and actions before and after the network of Diffusion Policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from realdiff_core.config import Strict
from torch import Tensor

from realdiff_policy.actions import action_rows
from realdiff_policy.contract import Observation
from realdiff_policy.data.augment import Augmentation, augment
from realdiff_policy.data.episode_arrays import DEPTH_UNIT_M
from realdiff_policy.data.windows import Batch, Windows
from realdiff_policy.normalizer import RangeNormalizer
from realdiff_policy.policies.diffusion_policy.configuration_diffusion_policy import DiffusionPolicyConfig

_COLOUR_MEAN, _COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of ImageNet, which pretrained ResNets expect."""


class Statistics(Strict):
    """Ranges of the training data; saved with the weights."""

    state: RangeNormalizer
    action: RangeNormalizer


@dataclass(frozen=True)
class NetworkInput:
    """Inputs of the network.

    Attributes:
        colour: float[B, To, 3, h, w].
        depth: float[B, To, 2, h, w], scaled depth and validity; None without a depth stream.
        state: float[B, To, 8].
    """

    colour: Tensor
    depth: Tensor | None
    state: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the network takes, in its order: colour, state and, where there is one, depth."""
        return (self.colour, self.state) if self.depth is None else (self.colour, self.state, self.depth)


class DiffusionPolicyProcessor:
    """Normalises, crops and augments.

    Args:
        config: The policy's settings.
        statistics: Ranges of the training data.
    """

    def __init__(self, config: DiffusionPolicyConfig, statistics: Statistics) -> None:
        self.config = config
        self.statistics = statistics

    @classmethod
    def fit(cls, config: DiffusionPolicyConfig, windows: Windows) -> DiffusionPolicyProcessor:
        """Takes the statistics from training data."""
        space = config.action.space
        unscaled = slice(3, 9) if space == "end_effector" else None
        actions = [action_rows(space, np.array(e.action), np.array(e.hand)) for e in windows.episodes]
        return cls(
            config,
            Statistics(
                state=RangeNormalizer.fit([e.state for e in windows.episodes]),
                action=RangeNormalizer.fit(actions, unscaled),
            ),
        )

    def training_input(
        self, batch: Batch, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[NetworkInput, Tensor]:
        """Turns a training batch into the network's input and its normalised actions.

        Args:
            batch: See `realdiff_policy.data.windows.Batch`.
            augmentation: How images are varied.
            generator: Source of the variations, on the batch's device.
        """
        colour, depth = augment(
            batch["colour"].permute(0, 1, 4, 2, 3).float() / 255.0,
            batch["depth"].float() * DEPTH_UNIT_M,
            self.config.crop,
            augmentation,
            generator,
        )
        network_input = NetworkInput(
            self._colour(colour), self._depth(depth), self.statistics.state.normalize(batch["state"])
        )
        return network_input, self.statistics.action.normalize(batch["action"]).clamp(-1.0, 1.0)

    def observation_input(self, observation: Observation, device: torch.device) -> NetworkInput:
        """Turns one observation into the network's input, with the middle window of the images."""
        colour = torch.from_numpy(np.ascontiguousarray(self._middle(observation.colour))).to(device)
        colour = colour.permute(0, 3, 1, 2).float() / 255.0
        depth = None
        if self.config.depth is not None:
            assert observation.depth is not None
            metres = np.nan_to_num(self._middle(observation.depth), nan=0.0, posinf=0.0, neginf=0.0)
            depth = self._depth(torch.from_numpy(np.ascontiguousarray(metres)).to(device))
        state = torch.from_numpy(observation.state.astype(np.float32)).to(device)
        return NetworkInput(
            self._colour(colour)[None],
            None if depth is None else depth[None],
            self.statistics.state.normalize(state)[None],
        )

    def _middle(self, images: NDArray[Any]) -> NDArray[Any]:
        rows, columns = (
            slice((whole - part) // 2, (whole - part) // 2 + part)
            for whole, part in zip(self.config.image, self.config.crop, strict=True)
        )
        return images[:, rows, columns]

    @staticmethod
    def _colour(colour: Tensor) -> Tensor:
        """[…, 3, h, w] in [0, 1] to zero mean and unit variance."""
        mean = torch.tensor(_COLOUR_MEAN, device=colour.device).view(3, 1, 1)
        std = torch.tensor(_COLOUR_STD, device=colour.device).view(3, 1, 1)
        return (colour - mean) / std

    def _depth(self, metres: Tensor) -> Tensor | None:
        """[…, h, w] metres (0: hole) to […, 2, h, w]: depth scaled to [-1, 1] over the valid range, and validity."""
        if self.config.depth is None:
            return None
        near, far = self.config.depth_range_m
        valid = ((metres >= near) & (metres <= far)).to(metres.dtype)
        scaled = (metres - near) / (far - near) * 2.0 - 1.0
        return torch.stack([scaled * valid, valid], dim=-3)
