"""From streams with their own rates and stamps to the observations that a policy was trained on."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_policy.contract import Observation, PolicyContract
from realdiff_policy.images import fit_colour, fit_depth

FloatArray = NDArray[np.float64]

_STATE_GAP_S = 0.15
_GRIPPER_GAP_S = 1.0
"""How far the nearest joint or gripper state may be from an image: the real gripper reports at 15 Hz, when it moves."""


_REST_S, _REST_RAD_S = 0.15, 0.0267
"""An arm whose joints have moved no faster for so long is at rest: 1 % of the slowest joint's limit."""


class _Track:
    """Values of one stream in the order of their stamps."""

    def __init__(self, keep_s: float) -> None:
        self.stamps: deque[int] = deque()
        self.values: deque[Any] = deque()
        self._keep_ns = round(keep_s * 1e9)

    def add(self, stamp_ns: int, value: Any) -> bool:
        if self.stamps and stamp_ns <= self.stamps[-1]:
            return False
        self.stamps.append(stamp_ns)
        self.values.append(value)
        while stamp_ns - self.stamps[0] > self._keep_ns:
            self.stamps.popleft()
            self.values.popleft()
        return True

    def nearest(self, stamp_ns: int) -> int | None:
        """Index of the value nearest to a time."""
        if not self.stamps:
            return None
        after = bisect_left(self.stamps, stamp_ns)
        candidates = [index for index in (after - 1, after) if 0 <= index < len(self.stamps)]
        return min(candidates, key=lambda index: abs(self.stamps[index] - stamp_ns))

    def interpolated(self, stamp_ns: int, gap_s: float) -> FloatArray | None:
        """Value at a time, linear between neighbours; None where the nearest is too far away."""
        index = self.nearest(stamp_ns)
        if index is None or abs(self.stamps[index] - stamp_ns) > gap_s * 1e9:
            return None
        after = bisect_left(self.stamps, stamp_ns)
        if after in (0, len(self.stamps)):
            return np.atleast_1d(np.asarray(self.values[index], dtype=np.float64))
        first, last = self.stamps[after - 1], self.stamps[after]
        share = (stamp_ns - first) / (last - first)
        value = (1.0 - share) * np.asarray(self.values[after - 1]) + share * np.asarray(self.values[after])
        return np.atleast_1d(np.asarray(value, dtype=np.float64))


class ObservationBuffer:
    """Collects images and states and puts together what belongs to one moment.

    Args:
        contract: What the policy expects; images are brought to its size when they come.
        sync_tolerance_s: Largest distance between the stamps of colour and depth.
    """

    def __init__(self, contract: PolicyContract, sync_tolerance_s: float) -> None:
        """Begins empty."""
        self.contract = contract
        self._tolerance_ns = round(sync_tolerance_s * 1e9)
        self._spacing_ns = round(1e9 / contract.action.rate_hz)
        self._keep_s = contract.action.observation_steps / contract.action.rate_hz + 1.0
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._colour, self._depth = _Track(self._keep_s), _Track(self._keep_s)
        self._joints, self._gripper = _Track(self._keep_s), _Track(self._keep_s + 1.0)

    def add_colour(self, stamp_ns: int, image: NDArray[np.uint8]) -> bool:
        """Takes a colour image, uint8[H, W, 3] RGB; False if it isn't newer than the last."""
        size = self.contract.colour
        return self._colour.add(stamp_ns, fit_colour(image, size.width, size.height))

    def add_depth(self, stamp_ns: int, depth_m: NDArray[np.float32]) -> bool:
        """Takes a depth image, float32[H, W], metres, NaN invalid; False if it isn't newer than the last."""
        size = self.contract.depth
        if size is None:
            return True
        return self._depth.add(stamp_ns, fit_depth(depth_m, size.width, size.height))

    def add_joints(self, stamp_ns: int, positions: FloatArray) -> bool:
        """Takes the arm's joint positions, float64[7] [rad]; False if they aren't newer than the last."""
        return self._joints.add(stamp_ns, np.array(positions, dtype=np.float64))

    def add_gripper(self, stamp_ns: int, width: float) -> bool:
        """Takes the distance between the fingers [m]; False if it isn't newer than the last."""
        return self._gripper.add(stamp_ns, float(width))

    @property
    def joints(self) -> FloatArray | None:
        """float64[7], the newest joint positions [rad]."""
        return self._joints.values[-1] if self._joints.values else None

    @property
    def joints_ns(self) -> int:
        """Stamp of the newest joint positions; 0 before the first."""
        return self._joints.stamps[-1] if self._joints.stamps else 0

    @property
    def gripper_width(self) -> float | None:
        """The newest distance between the fingers [m]."""
        return self._gripper.values[-1] if self._gripper.values else None

    def at_rest(self) -> bool:
        """Whether joint states, at least two, tell that the arm has hardly moved during the last moments.

        Speed counts, not way: right after a start two states of an arm that still moves lie close together.
        """
        since = self.joints_ns - round(_REST_S * 1e9)
        recent = [(t, v) for t, v in zip(self._joints.stamps, self._joints.values, strict=True) if t >= since]
        if len(recent) < 2:
            return False
        travelled = np.max(np.ptp(np.stack([value for _, value in recent]), axis=0))
        return bool(travelled < _REST_RAD_S * 1e-9 * (recent[-1][0] - recent[0][0]))

    def newest_ns(self) -> int | None:
        """Stamp of the newest moment of which colour, depth and state are known; None if there is none."""
        for stamp in reversed(self._colour.stamps):
            if self._moment(stamp) is not None:
                return stamp
        return None

    def images_apart_s(self) -> float:
        """Distance of the newest colour image from the depth image nearest to it [s]; 0 where none is needed yet."""
        if self.contract.depth is None or not self._colour.stamps or not self._depth.stamps:
            return 0.0
        moments = [stamp for stamp in self._colour.stamps if stamp <= self._depth.stamps[-1] + self._tolerance_ns]
        if not moments:
            return (self._colour.stamps[0] - self._depth.stamps[-1]) * 1e-9
        nearest = self._depth.nearest(moments[-1])
        return abs(self._depth.stamps[nearest] - moments[-1]) * 1e-9 if nearest is not None else 0.0

    def _moment(self, stamp_ns: int) -> tuple[int, int | None, FloatArray] | None:
        """Indices of colour and depth, and the state float64[8], at a colour image's stamp."""
        colour = self._colour.nearest(stamp_ns)
        if colour is None:
            return None
        depth = None
        if self.contract.depth is not None:
            depth = self._depth.nearest(stamp_ns)
            if depth is None or abs(self._depth.stamps[depth] - stamp_ns) > self._tolerance_ns:
                return None
        joints = self._joints.interpolated(stamp_ns, _STATE_GAP_S)
        gripper = self._gripper.interpolated(stamp_ns, _GRIPPER_GAP_S)
        if joints is None or gripper is None:
            return None
        return colour, depth, np.concatenate([joints, gripper])

    def latest(self) -> Observation | None:
        """The newest observation with its history; None while something is missing.

        Steps before the first image repeat the oldest one, as in training.
        """
        newest = self.newest_ns()
        if newest is None:
            return None
        moments = [(newest, self._moment(newest))]
        for back in range(1, self.contract.action.observation_steps):
            index = self._colour.nearest(newest - back * self._spacing_ns)
            stamp = self._colour.stamps[index] if index is not None else newest
            moment = self._moment(stamp)
            moments.append((stamp, moment) if moment is not None else moments[-1])
        found = [moment for _, moment in reversed(moments) if moment is not None]
        depth = None
        if self.contract.depth is not None:
            depth = np.stack([self._depth.values[index] for _, index, _ in found if index is not None])
        return Observation(
            colour=np.stack([self._colour.values[index] for index, _, _ in found]),
            depth=depth,
            state=np.stack([state for _, _, state in found]),
            stamp_ns=newest,
        )
