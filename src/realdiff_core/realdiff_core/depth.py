"""Depth conventions of REP-117 and REP-118, and conversions that lose nothing they need not lose.

In memory depth is always ``float32`` metres along the optical axis, with NaN where nothing was measured. On the wire
it is either

* ``16UC1``: millimetres, 0 = invalid (what RealSense and OpenNI drivers publish), or
* ``32FC1``: metres, NaN = invalid; ±Inf mean too near or too far (REP-117) and count as invalid for processing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_core.errors import DepthError

DEPTH_ENCODINGS = ("16UC1", "32FC1")
MILLIMETRE = 0.001

_INFINITY_BITS = np.uint32(0x7F800000)

# Off by at most one unit in the last place, 4 µm at 65 m: the way back is exact for all 65536 values.
_METRES_OF_MILLIMETRES = np.arange(1 << 16, dtype=np.uint16) * np.float32(MILLIMETRE)
_METRES_OF_MILLIMETRES[0] = np.nan

_DTYPES: dict[str, type[np.generic]] = {"16UC1": np.uint16, "32FC1": np.float32}


def is_depth_encoding(encoding: str) -> bool:
    """Return whether images of this encoding can be depth images."""
    return encoding in DEPTH_ENCODINGS


def depth_to_metres(array: NDArray[Any], encoding: str, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Convert a depth image as published to metres.

    Args:
        array: [H, W], uint16 millimetres (16UC1) or float32 metres (32FC1).
        encoding: ROS image encoding of `array`.
        out: float32 [H, W], takes the result; None makes an array.

    Returns:
        float32 [H, W], metres, NaN where invalid (16UC1: 0; 32FC1: NaN, ±Inf, zero and below). Never `array` itself.

    Raises:
        DepthError: The encoding isn't a depth encoding or the array doesn't fit it.
    """
    _check(array, encoding)
    metres = np.empty(array.shape, np.float32) if out is None else out
    if encoding == "16UC1":
        # "clip" spares the check of every index: none can lie outside
        np.take(_METRES_OF_MILLIMETRES, array, out=metres, mode="clip")
    else:
        _valid_or_nan(array, metres)
    return metres


def metres_to_depth(depth_m: NDArray[np.floating[Any]], encoding: str) -> NDArray[Any]:
    """Convert metres to a depth image as published.

    16UC1 rounds to the nearest millimetre. What 16 bits can't hold (beyond 65.535 m) or what isn't a positive finite
    distance becomes invalid rather than a wrong distance.

    Args:
        depth_m: [H, W], metres, NaN where invalid.
        encoding: ``16UC1`` or ``32FC1``.

    Returns:
        uint16 [H, W] millimetres with 0 = invalid, or float32 [H, W] metres with NaN = invalid.

    Raises:
        DepthError: The encoding isn't a depth encoding.
    """
    if not is_depth_encoding(encoding):
        raise _unknown(encoding)
    if encoding == "32FC1":
        return _valid_or_nan(depth_m, np.empty(depth_m.shape, np.float32))
    with np.errstate(over="ignore"):
        millimetres: NDArray[Any] = np.rint(depth_m * 1000)
    representable = (millimetres >= 1) & (millimetres <= 65535)  # False for NaN
    np.copyto(millimetres, 0, where=~representable)
    return millimetres.astype(np.uint16)


def encode_like(
    original: NDArray[Any],
    encoding: str,
    clean_m: NDArray[np.float32],
    noisy_m: NDArray[np.float32],
) -> NDArray[Any]:
    """Encode changed depth, leaving every untouched pixel bit-identical to the original.

    Args:
        original: [H, W], the image as received (uint16 or float32).
        encoding: Its encoding, which is kept.
        clean_m: float32 [H, W], what `depth_to_metres(original, encoding)` gave, metres.
        noisy_m: float32 [H, W], the changed depth, metres, NaN where invalid.

    Returns:
        [H, W] of `original`'s dtype. Where `noisy_m` equals `clean_m`, or both are NaN, the original's bits are kept:
        NaN payloads, ±Inf, zeros and sub-millimetre digits included.

    Raises:
        DepthError: Shapes or encoding don't fit.
    """
    _check(original, encoding)
    if not (original.shape == clean_m.shape == noisy_m.shape):
        raise DepthError(
            "depth images of one frame differ in size",
            expected=original.shape,
            got=f"clean {clean_m.shape}, noisy {noisy_m.shape}",
        )
    untouched = (noisy_m == clean_m) | (np.isnan(noisy_m) & np.isnan(clean_m))
    encoded = metres_to_depth(noisy_m, encoding)
    # Copied as integers: moving floats may quieten a signalling NaN on some processors.
    bits = np.uint16 if encoding == "16UC1" else np.uint32
    np.copyto(encoded.view(bits), np.ascontiguousarray(original).view(bits), where=untouched)
    return encoded


def _valid_or_nan(metres: NDArray[np.floating[Any]], valid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Copies positive finite distances to `valid`, NaN for all others, and returns it."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(valid, metres, casting="same_kind")
    # Positive finite floats are the bit patterns from 1 up to, not including, that of +Inf: one comparison instead of
    # three. Zero wraps around to the top when one is subtracted.
    np.copyto(valid, np.nan, where=valid.view(np.uint32) - np.uint32(1) >= _INFINITY_BITS - 1)
    return valid


def _check(array: NDArray[Any], encoding: str) -> None:
    if not is_depth_encoding(encoding):
        raise _unknown(encoding)
    expected = np.dtype(_DTYPES[encoding])
    if array.ndim != 2 or array.dtype != expected:
        raise DepthError(
            f"array doesn't fit the depth encoding {encoding}",
            expected=f"{expected} [H, W]",
            got=f"{array.dtype} {list(array.shape)}",
        )


def _unknown(encoding: str) -> DepthError:
    return DepthError(
        "not a depth encoding",
        expected=" or ".join(DEPTH_ENCODINGS),
        got=encoding or "(empty)",
        next_step="choose a topic that carries raw depth, not colour, infrared or compressed images",
    )
