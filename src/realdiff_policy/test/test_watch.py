"""The double-noise guard on hardware, and the gripper's hysteresis."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.provenance import DepthKind
from realdiff_policy.runtime.gripper import GripperSwitch
from realdiff_policy.safety import Reason, robot_config
from realdiff_policy.safety.watch import InputWatch, WatchSettings, provenance_fault

from realdiff_core import topics

MS = 1_000_000


@pytest.mark.parametrize(
    ("kind", "topic", "hardware", "refused"),
    [
        (None, topics.ALIGNED_DEPTH_IMAGE, True, False),  # real drivers say nothing
        (DepthKind.SENSOR, topics.ALIGNED_DEPTH_IMAGE, True, False),
        (DepthKind.ENHANCED, topics.ALIGNED_DEPTH_IMAGE, True, True),
        (None, "/realdiff" + topics.ALIGNED_DEPTH_IMAGE, True, True),  # the enhancer's name says it
        (DepthKind.CLEAN_SIM, topics.ALIGNED_DEPTH_IMAGE, True, True),
        (DepthKind.STEREO_SIM, topics.ALIGNED_DEPTH_IMAGE, True, True),
        *((kind, topics.ALIGNED_DEPTH_IMAGE, False, False) for kind in (None, *DepthKind)),
    ],
)
def test_hardware_gets_the_raw_camera_and_nothing_else(kind, topic: str, hardware: bool, refused: bool) -> None:
    fault = provenance_fault(kind, topic, hardware=hardware)
    assert (fault is not None) == refused
    if fault is not None:
        assert fault.reason is Reason.PROVENANCE
        assert topic in fault.text


def test_images_are_stale_by_their_stamps_also_when_they_keep_coming() -> None:
    """A camera whose clock is wrong delivers images from the past."""
    watch = InputWatch(WatchSettings(), ("colour",), noisy=True)
    random = np.random.default_rng(0)
    for step in range(20):
        now = 10_000 * MS + step * 50 * MS
        watch.clock(now, step * 0.05)
        watch.image("colour", now - 2_000 * MS, random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        watch.joints(now, np.zeros(7))
        watch.gripper(now)
    (fault,) = watch.faults(now, 1.0)
    assert fault.reason is Reason.IMAGE_STALE
    assert "2.00 s old" in fault.text


def test_the_gripper_changes_its_mind_only_for_good_reason() -> None:
    config = robot_config("fr3").gripper
    switch = GripperSwitch(config)
    between = (config.open_above + config.close_below) / 2
    assert switch.update(between, 0) is None
    assert switch.update(0.0, 1_000 * MS) == "close"
    assert switch.update(between, 2_000 * MS) is None
    assert switch.width == 0.0
    assert switch.update(0.08, 3_000 * MS) == "open"
    assert switch.update(0.0, 3_100 * MS) is None  # within the dwell time
    assert switch.update(0.0, 3_500 * MS) == "close"
    assert switch.update(0.0, 4_000 * MS) is None
