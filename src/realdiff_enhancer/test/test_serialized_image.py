"""Serialised images against rosbags' own CDR code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realdiff_core.errors import DepthError
from realdiff_enhancer.serialized_image import SerializedImage
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE = "sensor_msgs/msg/Image"


def image(
    pixels: np.ndarray, encoding: str, frame: str = "camera", padding: int = 0, big: bool = False, stamp: int = 5
) -> bytes:
    types = STORE.types
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = rows.view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=stamp, nanosec=123), frame_id=frame
    )
    message = types[IMAGE](
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.ravel(),
    )
    return bytes(STORE.serialize_cdr(message, IMAGE))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "dtype"), [("16UC1", np.uint16), ("32FC1", np.float32)])
@given(frame=st.text(max_size=9), padding=st.integers(0, 5), stamp=st.integers(-5, 2**31 - 1))
def test_fields_and_pixels_match_rosbags(encoding, dtype, big, frame, padding, stamp) -> None:
    frame = frame.replace("\0", "")
    pixels = np.arange(12, dtype=dtype).reshape(3, 4)
    raw = image(pixels, encoding, frame, padding, big, stamp)
    parsed = SerializedImage.parse(raw)
    assert (parsed.frame_id, parsed.encoding, parsed.width, parsed.height) == (frame, encoding, 4, 3)
    assert parsed.stamp_ns == stamp * 1_000_000_000 + 123
    np.testing.assert_array_equal(parsed.pixels(), pixels)
    assert parsed.with_pixels(parsed.pixels()) == raw
    changed = parsed.with_pixels(pixels[::-1])
    assert changed == image(pixels[::-1], encoding, frame, padding, big, stamp)


@pytest.mark.parametrize("cut", [3, 20, 60])
def test_truncated_message_is_refused(cut: int) -> None:
    raw = image(np.zeros((8, 8), np.uint16), "16UC1")
    with pytest.raises(DepthError, match="readable image"):
        SerializedImage.parse(raw[:cut], where="/depth")
