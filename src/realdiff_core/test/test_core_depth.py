"""Depth conversions: exact where they can be, bit-identical where nothing changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from realdiff_core.depth import depth_to_metres, encode_like, is_depth_encoding, metres_to_depth
from realdiff_core.errors import DepthError

ANY_BITS = arrays(np.uint32, (5, 7), elements=st.integers(0, 2**32 - 1))
SPECIAL_BITS = [
    0x00000000,  # 0
    0x80000000,  # -0
    0x7F800000,  # +Inf
    0xFF800000,  # -Inf
    0x7FC00000,  # NaN
    0x7FC00001,  # NaN with a payload
    0xFFC12345,  # negative NaN with a payload
    0x7F800001,  # signalling NaN
    0x00000001,  # smallest subnormal
    0xBF800000,  # -1
    0x3F800000,  # 1
    0x7F7FFFFF,  # largest number
]


def test_all_16_bit_values_survive_metres_and_back():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    metres = depth_to_metres(values, "16UC1")
    assert metres.dtype == np.float32
    assert np.isnan(metres[0, 0])
    assert np.allclose(metres.ravel()[1:], np.arange(1, 65536) / 1000, rtol=2e-7)
    np.testing.assert_array_equal(metres_to_depth(metres, "16UC1"), values)
    # And by way of 32FC1, the encoding of the same image on another topic.
    np.testing.assert_array_equal(metres_to_depth(depth_to_metres(metres, "32FC1"), "16UC1"), values)


@given(arrays(np.float64, (4, 5), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_16uc1_is_the_nearest_millimetre_or_invalid(depth):
    encoded = metres_to_depth(depth, "16UC1")
    for metres, value in zip(depth.ravel(), encoded.ravel(), strict=True):
        if np.isfinite(metres) and 0.0005 < metres < 65.535:
            assert abs(int(value) - metres * 1000) <= 0.5 + 1e-6
        elif not np.isfinite(metres) or metres < 0.0005 or metres > 65.5355:
            assert value == 0


@given(ANY_BITS)
def test_32fc1_reads_every_bit_pattern_as_a_distance_or_nan(bits):
    depth = bits.view(np.float32)
    metres = depth_to_metres(depth, "32FC1")
    measured = np.isfinite(depth) & (depth > 0)
    np.testing.assert_array_equal(np.isnan(metres), ~measured)
    np.testing.assert_array_equal(metres[measured], depth[measured])


@given(ANY_BITS, st.integers(0, 2**35 - 1))
def test_untouched_floats_keep_their_bits(bits, mask_bits):
    bits.ravel()[: len(SPECIAL_BITS)] = SPECIAL_BITS
    original = bits.view(np.float32)
    clean = depth_to_metres(original, "32FC1")
    touched = np.array([mask_bits >> i & 1 for i in range(35)], bool).reshape(5, 7)
    noisy = np.where(touched, np.float32(1.25), clean)
    touched &= noisy != clean
    encoded = encode_like(original, "32FC1", clean, noisy)
    np.testing.assert_array_equal(encoded.view(np.uint32)[~touched], bits[~touched])
    assert (encoded[touched] == 1.25).all()


@given(arrays(np.uint16, (6, 4), elements=st.integers(0, 65535)), st.integers(0, 23))
def test_untouched_millimetres_are_kept_and_holes_are_made(original, hole):
    clean = depth_to_metres(original, "16UC1")
    noisy = clean.copy()
    noisy.ravel()[hole] = np.nan
    encoded = encode_like(original, "16UC1", clean, noisy)
    expected = original.copy()
    expected.ravel()[hole] = 0
    np.testing.assert_array_equal(encoded, expected)


def test_input_is_never_changed():
    original = np.array([[np.nan, 0.0, 1.0]], np.float32)
    before = original.view(np.uint32).copy()
    clean = depth_to_metres(original, "32FC1")
    metres_to_depth(clean, "32FC1")[:] = 5
    encode_like(original, "32FC1", clean, clean)[:] = 5
    np.testing.assert_array_equal(original.view(np.uint32), before)
    assert clean[0, 2] == 1.0


def test_too_far_for_16_bits_is_invalid_rather_than_wrong():
    depth = np.array([[65.535, 65.536, 100.0, 0.0004, -1.0, np.inf, np.nan]])
    assert metres_to_depth(depth, "16UC1").tolist() == [[65535, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("encoding", ["rgb8", "mono16", "", "64FC1"])
def test_other_encodings_are_refused(encoding):
    assert not is_depth_encoding(encoding)
    image = np.zeros((2, 2), np.uint16)
    with pytest.raises(DepthError, match="not a depth encoding"):
        depth_to_metres(image, encoding)
    with pytest.raises(DepthError, match="not a depth encoding"):
        metres_to_depth(image.astype(np.float32), encoding)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DepthError, match=r"expected:\s+uint16"):
        depth_to_metres(np.zeros((2, 2), np.float32), "16UC1")
    with pytest.raises(DepthError, match="differ in size"):
        encode_like(np.zeros((2, 2), np.uint16), "16UC1", np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32))
