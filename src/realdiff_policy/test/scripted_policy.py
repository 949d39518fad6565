"""Policies without a network, and a robot without dynamics, for tests of the run time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from realdiff_core.provenance import DepthKind
from realdiff_policy.contract import ActionContract, ImageContract, Observation, PolicyContract
from realdiff_policy.safety import robot_config

from realdiff_core import topics

HOME = np.array(robot_config("fr3").home)
MS = 1_000_000


def contract(
    *,
    space: str = "joint_position",
    depth: bool = True,
    rate_hz: float = 10.0,
    width: int = 32,
    height: int = 24,
    execute: int = 8,
) -> PolicyContract:
    """A contract of the field's usual shape with small images."""
    focal = 0.96 * width
    image = {"width": width, "height": height, "fx": focal, "fy": focal, "cx": (width - 1) / 2, "cy": (height - 1) / 2}
    return PolicyContract(
        policy="scripted",
        task="can_to_plate",
        colour=ImageContract(topic=topics.COLOR_IMAGE, **image),
        depth=ImageContract(topic=topics.ALIGNED_DEPTH_IMAGE, **image) if depth else None,
        depth_range_m=(0.28, 2.0),
        trained_on={DepthKind.ENHANCED: 1.0},
        action=ActionContract(space=space, rate_hz=rate_hz, observation_steps=2, horizon=16, execute=execute),
    )


def swing(times_s: np.ndarray) -> np.ndarray:
    """float64[n, 8]: slow swings of all joints around home, and a hand that opens and closes every 4 s.

    From end to end they stay within the safety gate's largest jump (0.5 rad): an arm that was held anywhere on the way
    may take the swing up again anywhere else.
    """
    amplitudes = np.array([0.2, 0.1, 0.2, 0.1, 0.22, 0.2, 0.22])
    phases = 0.7 * np.arange(7)
    joints = HOME + amplitudes * (np.sin(1.2 * times_s[:, None] + phases) - np.sin(phases))
    width = np.where(np.floor(times_s / 2.0) % 2 == 0, 0.08, 0.0)
    return np.column_stack([joints, width])


class SwingPolicy:
    """Follows `swing` on the clock of its observations, from the first one on.

    Args:
        noise_rad: Each chunk is off by a constant of this size, and each row by a tenth of it, as samples are.
    """

    def __init__(self, noise_rad: float = 0.0, **shape) -> None:
        self.contract = contract(**shape)
        self.noise_rad = noise_rad
        self.began_ns: int | None = None
        self.observations: list[Observation] = []

    def predict(self, observation: Observation, seed: int) -> np.ndarray:
        if self.began_ns is None:
            self.began_ns = observation.stamp_ns
        self.observations.append(observation)
        action = self.contract.action
        times = (observation.stamp_ns - self.began_ns) * 1e-9 + np.arange(1, action.chunk + 1) / action.rate_hz
        random = np.random.default_rng(seed)
        rows = swing(times)
        rows[:, :7] += random.normal(0, self.noise_rad, 7) + random.normal(0, 0.1 * self.noise_rad, (len(rows), 7))
        return rows


class FilePolicy(SwingPolicy):
    """A swinging policy that misbehaves when a file next to its "bundle" says so.

    The file's words: "nan", "silent" (seconds follow), "raise", "exit", "far".
    """

    def __init__(self, order: Path, **shape) -> None:
        super().__init__(**shape)
        self.order = order

    def predict(self, observation: Observation, seed: int) -> np.ndarray:
        word, _, rest = (self.order.read_text().strip() if self.order.exists() else "").partition(" ")
        if word == "once":
            self.order.unlink()
            word, _, rest = rest.partition(" ")
        if word == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "silent":
            time.sleep(float(rest))
        if word == "raise":
            raise ValueError("the script says so")
        rows = super().predict(observation, seed)
        if word == "nan":
            rows[3, 2] = np.nan
        if word == "far":
            rows[:, 0] += 3.0
        return rows


def load(bundle: str, device: str = "cpu") -> FilePolicy:
    """A loader as `realdiff_policy.bundle.load_bundle`: the bundle is a folder that may hold a file "order"."""
    shape = {}
    if (Path(bundle) / "shape").exists():
        width, height = (Path(bundle) / "shape").read_text().split()
        shape = {"width": int(width), "height": int(height)}
    return FilePolicy(Path(bundle) / "order", **shape)


class PerfectArm:
    """An arm that is where it was told to be one control step ago, and a camera with a picture that always changes."""

    def __init__(self, width: int = 32, height: int = 24) -> None:
        self.joints = HOME.copy()
        self.width = 0.08
        self._shape = (height, width)
        self._random = np.random.default_rng(1)

    def picture(self) -> np.ndarray:
        return self._random.integers(0, 255, (*self._shape, 3), dtype=np.uint8)

    def depth(self) -> np.ndarray:
        return self._random.uniform(0.5, 1.5, self._shape).astype(np.float32)
