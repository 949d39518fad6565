"""A serialised sensor_msgs/Image whose pixels can be replaced without touching another byte.

Bags and raw subscriptions hand over messages as CDR bytes. Depth is enhanced in there: header, size, encoding and even
padding stay what they were, and a 640×480 image costs a memory copy instead of a deserialisation and a serialisation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.depth import is_depth_encoding
from realdiff_core.errors import DepthError, ImageError
from realdiff_core.image import image_to_numpy

__all__ = ["SerializedImage"]

_ENCAPSULATION = 4  # bytes before the CDR stream; alignment counts from after them


@dataclass(frozen=True)
class SerializedImage:
    """What the bytes of an Image say, with the names of the message's fields.

    Attributes:
        stamp_ns: Header stamp [ns].
        frame_id: Header frame.
        height: Rows.
        width: Columns.
        encoding: Pixel encoding.
        is_bigendian: 1 if pixels are big-endian.
        step: Bytes a row.
        data: The pixels' bytes, a view into `raw`.
        raw: The whole message.
        offset: Where the pixels start in `raw`.
    """

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview
    raw: bytes
    offset: int

    @classmethod
    def parse(cls, raw: bytes, where: object = None) -> SerializedImage:
        """Reads a serialised Image.

        Args:
            raw: CDR bytes with their encapsulation header.
            where: Topic or file, for the error.

        Raises:
            DepthError: The bytes are not an Image.
        """
        try:
            order = {0: ">", 1: "<"}[raw[1] & 1]
            position = _ENCAPSULATION
            seconds, nanoseconds = struct.unpack_from(f"{order}iI", raw, position)
            frame_id, position = _string(raw, position + 8, order)
            position = _aligned(position)
            height, width = struct.unpack_from(f"{order}II", raw, position)
            encoding, position = _string(raw, position + 8, order)
            is_bigendian = raw[position]
            position = _aligned(position + 1)
            step, size = struct.unpack_from(f"{order}II", raw, position)
            position += 8
            if len(raw) < position + size:
                raise ValueError(f"{size} bytes of pixels announced, {len(raw) - position} there")
        except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
            raise DepthError(
                "message isn't a readable image",
                where=where,
                expected="a serialised sensor_msgs/msg/Image",
                got=f"{len(raw)} bytes: {error}",
                next_step="the bag or the publisher is damaged; record again",
            ) from error
        stamp = seconds * 1_000_000_000 + nanoseconds
        data = memoryview(raw)[position : position + size]
        return cls(stamp, frame_id, height, width, encoding, is_bigendian, step, data, raw, position)

    def pixels(self) -> NDArray[np.generic]:
        """The image as [H,W] in the encoding's type, in this machine's byte order.

        Raises:
            ImageError: Unknown encoding, or size, step and data contradict each other.
        """
        return image_to_numpy(self)

    def depth_pixels(self, where: object = None) -> NDArray[np.generic]:
        """Like `pixels`, for depth only.

        Args:
            where: Topic or file, for the error.

        Raises:
            DepthError: The encoding isn't a depth encoding.
            ImageError: Size, step and data contradict each other.
        """
        if not is_depth_encoding(self.encoding):
            raise DepthError(
                "encoding isn't depth",
                where=where,
                expected="16UC1 or 32FC1",
                got=self.encoding,
                next_step="choose a topic that carries raw depth, not colour, infrared or compressed images",
            )
        try:
            return self.pixels()
        except ImageError as error:
            raise (error if where is None else error.at(where)) from None

    def data_of(self, message: bytes) -> bytes:
        """The pixels' bytes of a message that `with_pixels` made of this one."""
        return message[self.offset : self.offset + len(self.data)]

    def with_data(self, data: bytes) -> bytes:
        """The same message with other bytes for the pixels, row padding included.

        Args:
            data: As many bytes as `data` has, e.g. from `data_of`.
        """
        return b"".join((self.raw[: self.offset], data, self.raw[self.offset + len(self.data) :]))

    def with_pixels(self, pixels: NDArray[np.generic]) -> bytes:
        """The same message with other pixels.

        Args:
            pixels: [H,W] of the image's own type.

        Returns:
            CDR bytes that differ from the original in the pixels alone; row padding is kept.
        """
        result = bytearray(self.raw)
        item = pixels.dtype.newbyteorder(">" if self.is_bigendian else "<")
        rows = np.frombuffer(result, np.uint8, self.height * self.step, self.offset).reshape(self.height, self.step)
        used = self.width * item.itemsize
        rows[:, :used] = np.ascontiguousarray(pixels.astype(item, copy=False)).view(np.uint8).reshape(self.height, used)
        return bytes(result)


def _aligned(position: int) -> int:
    return position + (-(position - _ENCAPSULATION) % 4)


def _string(raw: bytes, position: int, order: str) -> tuple[str, int]:
    position = _aligned(position)
    (length,) = struct.unpack_from(f"{order}I", raw, position)
    start = position + 4
    if length < 1 or start + length > len(raw):
        raise ValueError(f"a text of {length} bytes")
    return raw[start : start + length - 1].decode(), start + length
