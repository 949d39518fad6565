"""Image messages ↔ arrays: padding, byte order, contradictions."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realdiff_core.errors import ImageError
from realdiff_core.image import ENCODINGS, image_to_numpy, numpy_to_image_fields
from realdiff_core.messages import IMAGE, deserialize, make, serialize

SIZES = st.integers(1, 9)


def pixels_of(encoding: str, height: int, width: int, seed: int) -> np.ndarray:
    dtype, channels = ENCODINGS[encoding]
    shape = (height, width) if channels == 1 else (height, width, channels)
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(raw, dtype).reshape(shape)


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@given(st.sampled_from(sorted(ENCODINGS)), SIZES, SIZES, st.integers(0, 1000))
def test_round_trip_through_the_wire_format(encoding, height, width, seed):
    array = pixels_of(encoding, height, width, seed)
    message = make(IMAGE, **numpy_to_image_fields(array, encoding))
    again = image_to_numpy(deserialize(serialize(message), IMAGE))
    assert again.dtype == array.dtype and again.shape == array.shape
    assert bits(again) == bits(array)


@given(st.sampled_from(sorted(ENCODINGS)), SIZES, SIZES, st.integers(0, 7), st.booleans(), st.integers(0, 1000))
def test_padding_and_byte_order(encoding, height, width, padding, big_endian, seed):
    array = pixels_of(encoding, height, width, seed)
    rows = array.astype(array.dtype.newbyteorder(">" if big_endian else "<")).reshape(height, -1)
    step = rows.shape[1] * rows.itemsize + padding
    data = b"".join(row.tobytes() + b"\xee" * padding for row in rows)
    message = SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=int(big_endian), step=step, data=data
    )
    again = image_to_numpy(message)
    assert again.dtype == array.dtype and again.shape == array.shape
    assert bits(again) == bits(array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": b"\0" * 47}, "wrong length"),
        ({"data": b"\0" * 49}, "wrong length"),
        ({"data": b""}, "wrong length"),
        ({"step": 7}, "longer than their step"),
        ({"encoding": "yuv422"}, "isn't handled"),
        ({"encoding": ""}, r"\(empty\)"),
        ({"width": 0, "step": 0, "data": b""}, "image is empty"),
    ],
)
def test_contradictions_are_named(change, message):
    fields = {"height": 6, "width": 4, "encoding": "16UC1", "is_bigendian": 0, "step": 8, "data": b"\0" * 48}
    image_to_numpy(SimpleNamespace(**fields))
    with pytest.raises(ImageError, match=message) as caught:
        image_to_numpy(SimpleNamespace(**{**fields, **change}))
    assert caught.value.got is not None


def test_array_must_fit_the_encoding():
    with pytest.raises(ImageError, match="doesn't fit the encoding rgb8"):
        numpy_to_image_fields(np.zeros((4, 4), np.uint8), "rgb8")
    with pytest.raises(ImageError, match="doesn't fit the encoding 16UC1"):
        numpy_to_image_fields(np.zeros((4, 4), np.float32), "16UC1")


def test_strided_arrays_are_packed():
    array = np.arange(64, dtype=np.uint16).reshape(8, 8)[::2, ::2]
    fields = numpy_to_image_fields(array, "16UC1")
    assert fields["step"] == 8 and fields["data"] == array.tobytes()
