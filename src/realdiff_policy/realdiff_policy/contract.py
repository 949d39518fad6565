"""What a policy expects and what it gives: the contract between training, export, run time and robot.

Time in a chunk: an observation at stamp t gives actions for t + 1/rate, t + 2/rate, …; row k of a chunk is what the
robot is to reach at t + (k + 1)/rate. Nothing else in the workspace counts differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from realdiff_core.config import Strict
from realdiff_core.provenance import DepthKind

FloatArray = NDArray[np.float64]

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
STATE_SIZE = 8
"""Arm joint positions 1–7 [rad] and the distance between the fingers [m]."""

ActionSpace = Literal["joint_position", "end_effector"]

ACTION_SIZE: dict[str, int] = {"joint_position": 8, "end_effector": 10}
"""joint_position: joints 1–7 [rad], gripper width [m]. end_effector: xyz [m] of fr3_hand_tcp in "base", the first two
columns of its rotation matrix (Zhou et al. 2019, 6-D rotation), gripper width [m]."""


class ImageContract(Strict):
    """One image stream as the policy sees it, before its own cropping.

    A camera with another resolution serves when its intrinsics, scaled to this size, agree.
    """

    topic: str = Field(min_length=1)
    width: PositiveInt
    height: PositiveInt
    fx: PositiveFloat
    fy: PositiveFloat
    cx: float
    cy: float


class ActionContract(Strict):
    """Shape and time base of the actions."""

    space: ActionSpace = "joint_position"
    rate_hz: PositiveFloat = Field(description="observations and actions per second")
    observation_steps: PositiveInt = Field(description="consecutive observations the policy looks at")
    horizon: PositiveInt = Field(description="rows the network predicts, from the oldest observation on")
    execute: PositiveInt = Field(description="rows of a chunk to execute before the next one is due")

    @model_validator(mode="after")
    def _long_enough(self) -> ActionContract:
        if self.execute > self.chunk:
            raise ValueError(
                f"execute ({self.execute}) exceeds the {self.chunk} rows that horizon {self.horizon} leaves after "
                f"{self.observation_steps} observation steps"
            )
        return self

    @property
    def chunk(self) -> int:
        """Rows of a chunk: the predicted ones that lie in the future of the newest observation."""
        return self.horizon - self.observation_steps + 1

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return ACTION_SIZE[self.space]


class PolicyContract(Strict):
    """Everything that must agree between a policy and the robot cell it runs in."""

    format_version: Literal[1] = 1
    policy: str = Field(min_length=1, description="kind of policy, e.g. diffusion_policy")
    task: str = Field(min_length=1)
    robot: Literal["fr3"] = "fr3"
    joints: tuple[str, ...] = ARM_JOINTS
    colour: ImageContract
    depth: ImageContract | None = Field(description="registered to the colour image; None: the policy takes no depth")
    depth_range_m: tuple[float, float] = Field(description="valid depth lies within; the rest counts as a hole [m]")
    trained_on: dict[DepthKind, float] = Field(description="kinds of depth in training and their shares, sum 1")
    action: ActionContract


@dataclass(frozen=True)
class Observation:
    """Consecutive observations, oldest first, 1/rate apart.

    Attributes:
        colour: uint8[T, H, W, 3], RGB.
        depth: float32[T, H, W], metres, NaN invalid; None where the policy takes no depth.
        state: float64[T, 8]: arm joint positions [rad], gripper width [m].
        stamp_ns: Stamp of the newest observation.
    """

    colour: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    state: FloatArray
    stamp_ns: int


class Policy(Protocol):
    """What the run time needs of a loaded policy. Not thread-safe."""

    contract: PolicyContract

    def predict(self, observation: Observation, seed: int) -> FloatArray:
        """Infers one chunk.

        Args:
            observation: `contract.action.observation_steps` observations in the contract's image size.
            seed: Seed of the sampler; the same observation and seed give the same chunk.

        Returns:
            float64[chunk, size]; row k belongs to stamp_ns + (k + 1) / rate.
        """
        ...


def observation_problems(contract: PolicyContract, observation: Observation) -> list[str]:
    """Lists how an observation differs from what the contract asks for; an empty list means that it fits."""
    steps, image = contract.action.observation_steps, contract.colour
    wanted: list[tuple[str, Any, tuple[int, ...]]] = [
        ("colour", observation.colour, (steps, image.height, image.width, 3)),
        ("state", observation.state, (steps, STATE_SIZE)),
    ]
    problems = []
    if contract.depth is not None:
        wanted.append(("depth", observation.depth, (steps, contract.depth.height, contract.depth.width)))
    for name, array, shape in wanted:
        if array is None:
            problems.append(f"{name} is missing")
        elif array.shape != shape:
            problems.append(f"{name} has shape {array.shape}, expected {shape}")
    if not problems and not np.all(np.isfinite(observation.state)):
        problems.append("state holds NaN or infinity")
    return problems
