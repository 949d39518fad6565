"""Serialised depth images: read and changed in place, without decoding and encoding the whole message.

Only the bytes of the pixels change; header, size, step, padding and byte order stay as they were, to the byte.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.depth import DEPTH_ENCODINGS, is_depth_encoding
from realdiff_core.errors import DepthError, ImageError
from realdiff_core.messages import NANOSECONDS

__all__ = ["RawDepthImage"]

_ENCAPSULATION = 4  # CDR begins with its representation; alignment counts from behind it
_DTYPES: dict[str, type[np.generic]] = {"16UC1": np.uint16, "32FC1": np.float32}


class _Cdr:
    """Reads the fields of a CDR message one after the other."""

    def __init__(self, data: bytes | memoryview) -> None:
        if len(data) < _ENCAPSULATION or data[0] != 0 or data[1] not in (0, 1):
            raise ImageError("message isn't plain CDR", got=f"{len(data)} bytes, {bytes(data[:4]).hex()} …")
        self._data = data
        self._order = "<" if data[1] else ">"
        self.position = _ENCAPSULATION

    def number(self, code: str) -> int:
        size = struct.calcsize(code)
        self.position += -(self.position - _ENCAPSULATION) % size
        (value,) = struct.unpack_from(self._order + code, self._data, self.position)
        self.position += size
        return int(value)

    def string(self) -> str:
        length = self.number("I")
        text = bytes(self._data[self.position : self.position + length])
        if len(text) != length:
            raise struct.error("string leaves the message")
        self.position += length
        return text.rstrip(b"\0").decode("utf-8", "replace")


@dataclass(frozen=True)
class RawDepthImage:
    """A serialised sensor_msgs/Image with depth.

    Attributes:
        data: The whole message, CDR.
        stamp_ns: Stamp of its header, ns; negative where the publisher wrote nonsense.
        frame_id: Frame of its header.
        height: Rows.
        width: Columns.
        encoding: `16UC1` or `32FC1`.
        big_endian: Byte order of the pixels.
        step: Bytes from row to row.
        offset: Where the pixels begin in `data`.
    """

    data: bytes | memoryview
    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    big_endian: bool
    step: int
    offset: int

    @classmethod
    def parse(cls, data: bytes | memoryview) -> RawDepthImage:
        """Reads the fields around the pixels.

        Raises:
            DepthError: The encoding isn't a depth encoding.
            ImageError: The message is damaged or contradicts itself.
        """
        reader = _Cdr(data)
        try:
            seconds, nanoseconds = reader.number("i"), reader.number("I")
            frame_id = reader.string()
            height, width = reader.number("I"), reader.number("I")
            encoding = reader.string()
            big_endian = bool(reader.number("B"))
            step, length = reader.number("I"), reader.number("I")
        except struct.error as error:
            raise ImageError("image message is truncated", got=f"{len(data)} bytes: {error}") from error
        if not is_depth_encoding(encoding):
            raise DepthError(
                "not a depth encoding",
                expected=" or ".join(DEPTH_ENCODINGS),
                got=encoding or "(empty)",
                next_step="choose a topic that carries raw depth, not colour, infrared or compressed images",
            )
        item = np.dtype(_DTYPES[encoding]).itemsize
        if height == 0 or width == 0:
            raise ImageError("image is empty", expected="height and width of at least 1", got=f"{width}×{height}")
        if step < width * item:
            raise ImageError(
                "image rows are longer than their step",
                expected=f"step ≥ {width * item} bytes for {width} pixels of {encoding}",
                got=f"step {step}",
            )
        if length != height * step or reader.position + length > len(data):
            raise ImageError(
                "image data has the wrong length",
                expected=f"{height * step} bytes ({height} rows × {step} bytes)",
                got=f"{min(length, len(data) - reader.position)} bytes",
                next_step="the recording or the publisher is broken: check the message with `ros2 topic echo --no-arr`",
            )
        return cls(
            data=data,
            stamp_ns=seconds * NANOSECONDS + nanoseconds,
            frame_id=frame_id,
            height=height,
            width=width,
            encoding=encoding,
            big_endian=big_endian,
            step=step,
            offset=reader.position,
        )

    @property
    def length(self) -> int:
        """Bytes of the pixels, row padding included."""
        return self.height * self.step

    def _grid(self, buffer: bytes | bytearray | memoryview) -> NDArray[np.uint8]:
        """Bytes of the pixels in a buffer like `data`, uint8 [H, step]; shares its memory."""
        return np.frombuffer(buffer, np.uint8, self.length, self.offset).reshape(self.height, self.step)

    @property
    def _row(self) -> int:
        return self.width * np.dtype(_DTYPES[self.encoding]).itemsize

    def pixels(self) -> NDArray[np.generic]:
        """Pixels as published, uint16 or float32 [H,W], in the machine's byte order; may be read-only."""
        rows = np.ascontiguousarray(self._grid(self.data)[:, : self._row])
        values = rows.view(_DTYPES[self.encoding])
        return values if self._native else values.byteswap()

    @property
    def _native(self) -> bool:
        return self.big_endian == (sys.byteorder == "big")

    def payload(self) -> memoryview:
        """Bytes of the pixels, row padding included."""
        return memoryview(self.data)[self.offset : self.offset + self.length]

    def encode(self, pixels: NDArray[np.generic]) -> bytes:
        """Bytes that other pixels take in this message, row padding kept as it is.

        Args:
            pixels: [H,W] of the dtype that `pixels()` has.
        """
        values = np.ascontiguousarray(pixels if self._native else pixels.byteswap())
        if self.step == self._row:
            return values.tobytes()
        grid = self._grid(self.data).copy()
        grid[:, : self._row] = values.view(np.uint8).reshape(self.height, self._row)
        return grid.tobytes()

    def with_payload(self, payload: bytes | memoryview) -> bytes:
        """The message with other bytes for its pixels.

        Args:
            payload: What `encode` gave.
        """
        whole = memoryview(self.data)
        return b"".join((whole[: self.offset], payload, whole[self.offset + self.length :]))
