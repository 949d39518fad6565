"""Watch over what the policy sees: stale and frozen images, silent joints, a clock that jumps, depth of the wrong kind.

Times come in two kinds. `now_ns` is ROS time, which stands still or jumps with a simulation; `steady_s` is the
machine's monotonic clock, which tells whether ROS time itself still runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from realdiff_core.config import Strict
from realdiff_core.provenance import DepthKind
from realdiff_core.topics import ENHANCED_PREFIX

from realdiff_policy.safety.reasons import Fault, Reason

FloatArray = NDArray[np.float64]

_MOVED_RAD = 0.03
"""The arm has visibly moved: a picture of it must have changed."""


class WatchSettings(Strict):
    """When an input counts as lost."""

    image_timeout_s: float = Field(default=0.3, gt=0, description="age of the newest image")
    joints_timeout_s: float = Field(default=0.2, gt=0, description="age of the newest joint state")
    gripper_timeout_s: float = Field(default=1.0, gt=0, description="age of the newest gripper state")
    frozen_after_s: float = Field(default=0.4, gt=0, description="time without any change in the image")
    clock_timeout_s: float = Field(default=2.0, gt=0, description="wall time without progress of ROS time")
    clock_jump_s: float = Field(default=0.05, gt=0, description="smallest step back of ROS time that counts")


@dataclass
class _Stream:
    timeout_s: float
    reason: Reason
    newest_ns: int | None = None
    digest: int | None = None
    unchanged_since_ns: int = 0
    unchanged_arm: FloatArray | None = None
    frozen: bool = False


class InputWatch:
    """Remembers when each input came, and says what is wrong now.

    Args:
        settings: Time-outs.
        images: Names of the image streams to watch.
        noisy: The images come from a real sensor (or its stand-in) and never repeat exactly. A clean simulated image of
            a scene at rest does; there, a repeated image counts as frozen only once the arm has moved.
    """

    def __init__(self, settings: WatchSettings, images: Iterable[str], *, noisy: bool) -> None:
        """Begins with nothing seen."""
        self.settings = settings
        self.noisy = noisy
        self._image_names = tuple(images)
        self._arm: FloatArray | None = None
        self._last_now_ns: int | None = None
        self._progress_steady_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Forgets what came; the clock's last time stays."""
        settings = self.settings
        self._streams = {name: _Stream(settings.image_timeout_s, Reason.IMAGE_STALE) for name in self._image_names}
        self._streams["joint states"] = _Stream(settings.joints_timeout_s, Reason.JOINTS_STALE)
        self._streams["gripper states"] = _Stream(settings.gripper_timeout_s, Reason.GRIPPER_STALE)

    def image(self, name: str, stamp_ns: int, image: NDArray[Any]) -> None:
        """Takes note of an image."""
        stream = self._streams[name]
        stream.newest_ns = max(stamp_ns, stream.newest_ns or stamp_ns)
        # Every seventh row is enough to tell a new picture, and takes a tenth of a millisecond.
        digest = zlib.crc32(np.ascontiguousarray(image[::7]))
        if digest != stream.digest:
            stream.digest, stream.unchanged_since_ns = digest, stamp_ns
            stream.unchanged_arm, stream.frozen = self._arm, False
            return
        moved = self.noisy or (
            self._arm is not None
            and stream.unchanged_arm is not None
            and bool(np.max(np.abs(self._arm - stream.unchanged_arm)) > _MOVED_RAD)
        )
        stream.frozen = moved and (stamp_ns - stream.unchanged_since_ns) * 1e-9 > self.settings.frozen_after_s

    def joints(self, stamp_ns: int, positions: FloatArray) -> None:
        """Takes note of the arm's joint positions, float64[7] [rad]."""
        self._arm = positions
        self._seen("joint states", stamp_ns)

    def gripper(self, stamp_ns: int) -> None:
        """Takes note of a gripper state."""
        self._seen("gripper states", stamp_ns)

    def _seen(self, name: str, stamp_ns: int) -> None:
        stream = self._streams[name]
        stream.newest_ns = max(stamp_ns, stream.newest_ns or stamp_ns)

    def clock(self, now_ns: int, steady_s: float) -> int:
        """Looks at the clock; call it once per control step, before `faults`.

        Returns:
            By how much time jumped back [ns]; 0 if it didn't. Everything seen before is forgotten after a jump.
        """
        last, self._last_now_ns = self._last_now_ns, now_ns
        if last is None or now_ns != last:
            self._progress_steady_s = steady_s
        if last is not None and last - now_ns > self.settings.clock_jump_s * 1e9:
            self.reset()
            return last - now_ns
        return 0

    def faults(self, now_ns: int, steady_s: float) -> list[Fault]:
        """Lists what is wrong with the inputs now."""
        found = []
        if steady_s - self._progress_steady_s > self.settings.clock_timeout_s:
            still = steady_s - self._progress_steady_s
            found.append(Fault(Reason.CLOCK, f"time has stood still at {now_ns * 1e-9:.3f} s for {still:.1f} s"))
        for name, stream in self._streams.items():
            if stream.newest_ns is None:
                found.append(Fault(stream.reason, f"nothing has come from {name} yet"))
                continue
            age = (now_ns - stream.newest_ns) * 1e-9
            if age > stream.timeout_s:
                found.append(
                    Fault(stream.reason, f"{name}: the newest is {age:.2f} s old, allowed {stream.timeout_s:g} s")
                )
            elif stream.frozen:
                since = (stream.newest_ns - stream.unchanged_since_ns) * 1e-9
                found.append(Fault(Reason.IMAGE_FROZEN, f"{name}: the same picture for {since:.2f} s"))
        return found


def provenance_fault(kind: DepthKind | None, depth_topic: str, *, hardware: bool) -> Fault | None:
    """The other half of the double-noise guard: a policy on hardware sees the raw camera and nothing else.

    Args:
        kind: What the latched provenance says about the depth topic; None: nothing (real drivers don't).
        depth_topic: Depth image topic.
        hardware: Whether camera or robot are real.
    """
    if not hardware:
        return None
    if kind is None and depth_topic.startswith(f"{ENHANCED_PREFIX}/"):
        kind = DepthKind.ENHANCED
    if kind in (None, DepthKind.SENSOR):
        return None
    return Fault(
        Reason.PROVENANCE,
        f"{depth_topic} carries {kind} depth: on hardware a policy gets the raw camera's, which has its own noise",
    )
