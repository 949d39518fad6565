"""A policy's chunks on the clock: rows with their times, poses turned into joints, overlapping chunks averaged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.contract import PolicyContract
from realdiff_policy.runtime.inverse_kinematics import rotation_from_6d, solve
from realdiff_policy.runtime.settings import RuntimeSettings
from realdiff_policy.safety import Fault, MotionLimits, Reason

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Rows of joint positions and gripper widths.

    Attributes:
        stamp_ns: Stamp of the observation that they follow from.
        times_ns: int64[n], when each row is to be reached.
        joints: float64[n, 7] [rad].
        widths: float64[n] [m].
    """

    stamp_ns: int
    times_ns: NDArray[np.int64]
    joints: FloatArray
    widths: FloatArray

    def width_at(self, time_ns: int) -> float:
        """The width of the row that is being approached at a time [m]."""
        index = int(np.searchsorted(self.times_ns, time_ns))
        return float(self.widths[min(index, len(self.widths) - 1)])


class ChunkReader:
    """Turns what a policy returns into joint positions on the clock.

    Args:
        contract: The policy's action space and rate.
        limits: Joint ranges for inverse kinematics.
        posture: float64[7], preferred joint positions [rad].
    """

    def __init__(self, contract: PolicyContract, limits: MotionLimits, posture: FloatArray) -> None:
        """Keeps the contract."""
        self.contract = contract
        self._limits = limits
        self._posture = posture

    def read(self, actions: FloatArray, stamp_ns: int, start: FloatArray) -> Chunk | Fault:
        """Checks and converts a chunk.

        Args:
            actions: What the policy returned.
            stamp_ns: Stamp of its observation.
            start: float64[7], joint positions from which inverse kinematics begins [rad].
        """
        wanted = (self.contract.action.chunk, self.contract.action.size)
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != wanted:
            return Fault(Reason.MALFORMED, f"the policy returned an array of shape {actions.shape}, expected {wanted}")
        if not np.all(np.isfinite(actions)):
            row, column = (int(where[0]) for where in np.nonzero(~np.isfinite(actions)))
            return Fault(
                Reason.NOT_FINITE, f"row {row}, column {column} of the policy's action is {actions[row, column]}"
            )
        count = len(actions)
        times = stamp_ns + np.round(np.arange(1, count + 1) * (1e9 / self.contract.action.rate_hz)).astype(np.int64)
        joints = actions[:, :7]
        if self.contract.action.space == "end_effector":
            solved = self._solved(actions, start)
            if isinstance(solved, Fault):
                return solved
            joints = solved
            times, actions = times[: len(joints)], actions[: len(joints)]
        return Chunk(stamp_ns, times, joints, actions[:, -1])

    def _solved(self, actions: FloatArray, start: FloatArray) -> FloatArray | Fault:
        """Joints of the rows up to the first that can't be reached; a fault where that is the very first."""
        rows: list[FloatArray] = []
        joints = start
        for row in actions:
            found = solve(row[:3], rotation_from_6d(row[3:9]), joints, self._limits, self._posture)
            if found is None:
                break
            joints = found
            rows.append(found)
        if not rows:
            return Fault(
                Reason.UNREACHABLE, f"no joint positions bring fr3_hand_tcp to {actions[0, :3].round(3).tolist()} m"
            )
        return np.stack(rows)


class ChunkHistory:
    """Chunks that may still matter, and their average where several speak about the same moment.

    The weights are those of temporal ensembling (Zhao et al. 2023, ACT): exp(−decay·i), i = 0 for the oldest.

    Args:
        settings: Whether to average, and how.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        """Begins empty."""
        self._settings = settings
        self._chunks: deque[Chunk] = deque(maxlen=32)

    def clear(self) -> None:
        """Forgets all chunks."""
        self._chunks.clear()

    def add(self, chunk: Chunk) -> Chunk:
        """Takes the newest chunk and returns what to do: itself, or the average over all that overlap with it."""
        self._chunks.append(chunk)
        if self._settings.ensemble == "newest":
            return chunk
        while self._chunks[0].times_ns[-1] < chunk.times_ns[0]:
            self._chunks.popleft()
        total = np.zeros((len(chunk.times_ns), 8))
        weights = np.zeros((len(chunk.times_ns), 1))
        for index, older in enumerate(self._chunks):
            covered = (chunk.times_ns >= older.times_ns[0]) & (chunk.times_ns <= older.times_ns[-1])
            weight = np.exp(-self._settings.ensemble_decay * index) * covered[:, None]
            since = (chunk.times_ns - older.times_ns[0]) * 1e-9
            own = (older.times_ns - older.times_ns[0]) * 1e-9
            rows = np.column_stack([older.joints, older.widths])
            total += weight * np.stack([np.interp(since, own, column) for column in rows.T], axis=1)
            weights += weight
        average = total / weights
        return Chunk(chunk.stamp_ns, chunk.times_ns, average[:, :7], average[:, 7])
