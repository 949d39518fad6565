"""Random seeds that depend on what is computed, never on when or in which batch.

A frame's seed is BLAKE2b-64 (RFC 7693, 8-byte digest) over a canonical byte string, so that it is the same on every
platform, Python version and process: the ASCII tag ``realdiff.frame/1``, then seed, stamp and draw as 8-byte
big-endian two's complement, then the UTF-8 bytes of the topic's name. The digest is read as a big-endian unsigned
integer. A stream's seed, for what stays the same in all its frames, has the tag ``realdiff.stream/1`` and no stamp.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from realdiff_core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

FIRST_TRIAL_SEED = 1_000_000_000
"""Resets with seeds from here on are for trials of policies alone: recordings refuse them, so that no scene that a
policy is judged on can have been demonstrated to it."""

_TAG = b"realdiff.frame/1"
_STREAM_TAG = b"realdiff.stream/1"
_WORD = 1 << 64


def frame_seed(seed: int, topic: str, stamp_ns: int, draw: int = 0) -> int:
    """Return the 64-bit seed of one frame.

    Args:
        seed: The user's seed, 0 … 2⁶⁴ − 1.
        topic: Name of the depth image topic **as recorded**, so that a node and a bag give the same noise.
        stamp_ns: The image header's stamp [ns].
        draw: Index of the draw where several outputs are made from one input.

    Raises:
        ConfigError: `seed` or `draw` is outside 0 … 2⁶⁴ − 1.
    """
    _check(seed=seed, draw=draw)
    return _digest(_TAG, (seed, stamp_ns, draw), topic)


def stream_seed(seed: int, topic: str, draw: int = 0) -> int:
    """Return the 64-bit seed of what all frames of one depth stream have in common.

    Args:
        seed: The user's seed, 0 … 2⁶⁴ − 1.
        topic: Name of the depth image topic **as recorded**.
        draw: Index of the draw where several outputs are made from one input.

    Raises:
        ConfigError: `seed` or `draw` is outside 0 … 2⁶⁴ − 1.
    """
    _check(seed=seed, draw=draw)
    return _digest(_STREAM_TAG, (seed, draw), topic)


def _check(**values: int) -> None:
    for name, value in values.items():
        if not 0 <= value < _WORD:
            raise ConfigError(f"{name} is out of range", expected="0 … 18446744073709551615", got=value)


def _digest(tag: bytes, values: tuple[int, ...], topic: str) -> int:
    words = b"".join((value % _WORD).to_bytes(8, "big") for value in values)
    return int.from_bytes(blake2b(tag + words + topic.encode(), digest_size=8).digest(), "big")


def rng(seed: int) -> np.random.Generator:
    """Return NumPy's PCG64 generator for a 64-bit seed; its streams are stable across NumPy versions and platforms."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed))
