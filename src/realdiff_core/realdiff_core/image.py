"""sensor_msgs/Image ↔ NumPy, for rclpy's and rosbags' messages alike (only attribute names are used)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_core.errors import ImageError

# encoding → (dtype, channels)
ENCODINGS: dict[str, tuple[type[np.generic], int]] = {
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "8UC3": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
}


def image_to_numpy(msg: Any) -> NDArray[Any]:
    """Return the pixels of an image message.

    Row padding (``step``) is removed and bytes are swapped to the machine's order where needed.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags.

    Returns:
        [H, W] or [H, W, channels] in the encoding's dtype. It may share memory with the message and be read-only.

    Raises:
        ImageError: Unknown encoding, or size, step and data contradict each other.
    """
    encoding = str(msg.encoding)
    dtype, channels = _layout(encoding)
    item = np.dtype(dtype).itemsize
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    data = np.frombuffer(msg.data, dtype=np.uint8)
    row = width * channels * item
    if height == 0 or width == 0:
        raise ImageError("image is empty", expected="height and width of at least 1", got=f"{width}×{height}")
    if step < row:
        raise ImageError(
            "image rows are longer than their step",
            expected=f"step ≥ {row} bytes for {width} pixels of {encoding}",
            got=f"step {step}",
        )
    if data.size != height * step:
        raise ImageError(
            "image data has the wrong length",
            expected=f"{height * step} bytes ({height} rows × {step} bytes)",
            got=f"{data.size} bytes",
            next_step="the recording or the publisher is broken: check the message with `ros2 topic echo --no-arr`",
        )
    wire = np.dtype(dtype).newbyteorder(">" if msg.is_bigendian else "<")
    if step == row:
        pixels = data.view(wire)
    elif step % item == 0:
        pixels = data.view(wire).reshape(height, step // item)[:, : width * channels]
    else:
        pixels = np.ascontiguousarray(data.reshape(height, step)[:, :row]).view(wire)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if not wire.isnative:
        pixels = pixels.astype(dtype)
    return pixels.reshape(shape)


def numpy_to_image_fields(array: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return the fields of a sensor_msgs/Image, header excepted.

    Args:
        array: [H, W] or [H, W, channels], of the encoding's dtype.
        encoding: ROS image encoding.

    Returns:
        ``height, width, encoding, is_bigendian, step, data`` (bytes, rows without padding, in the machine's byte
        order).

    Raises:
        ImageError: The array doesn't fit the encoding.
    """
    dtype, channels = _layout(encoding)
    expected_ndim = 2 if channels == 1 else 3
    if array.dtype != dtype or array.ndim != expected_ndim or (channels > 1 and array.shape[2] != channels):
        raise ImageError(
            f"array doesn't fit the encoding {encoding}",
            expected=f"{np.dtype(dtype)} [H, W{f', {channels}' if channels > 1 else ''}]",
            got=f"{array.dtype} {list(array.shape)}",
        )
    height, width = array.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(sys.byteorder == "big"),
        "step": width * channels * array.dtype.itemsize,
        "data": np.ascontiguousarray(array).tobytes(),
    }


def _layout(encoding: str) -> tuple[type[np.generic], int]:
    try:
        return ENCODINGS[encoding]
    except KeyError:
        raise ImageError(
            "image encoding isn't handled", expected=", ".join(ENCODINGS), got=encoding or "(empty)"
        ) from None
