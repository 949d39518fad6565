"""Enhances the frames of one live depth stream, message in, message out; knows bytes and seeds, but no ROS node."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres, encode_like
from realdiff_core.errors import DepthError, RealdiffError
from realdiff_core.seeds import frame_seed, stream_seed

from realdiff_enhancer.models.base import DepthFrames, DepthModel
from realdiff_enhancer.serialized_image import SerializedImage

__all__ = ["StreamEnhancer", "StreamResult"]


@dataclass(frozen=True)
class StreamResult:
    """One enhanced frame.

    Attributes:
        image: The frame's header, size and encoding, as it was received.
        data: The message with enhanced pixels, serialised.
        discrepancy: float32 [H,W] in [0,1], or None if the model has none.
        hole_rate: Share of invalid pixels in the enhanced image.
    """

    image: SerializedImage
    data: bytes
    discrepancy: NDArray[np.float32] | None
    hole_rate: float


class StreamEnhancer:
    """Runs a model over the frames of a topic in the order in which they arrive.

    The noise of a frame depends on the seed, the topic and the stamps of this and earlier frames, exactly as for a bag:
    played through this class, a bag gives the bytes that the bag enhancer writes, as long as no frame is lost.

    Args:
        model: Enhancer model.
        topic: Name of the depth topic as recorded.
        seed: The user's seed.
    """

    def __init__(self, model: DepthModel, topic: str, seed: int) -> None:
        self.model = model
        self.topic = topic
        self.seed = seed
        self._stream_seed = stream_seed(seed, topic)
        self._seeds: deque[int] = deque(maxlen=model.history)

    def restart(self) -> None:
        """Forgets earlier frames: a new stream begins."""
        self._seeds.clear()

    def process(self, raw: bytes, camera: CameraModel) -> StreamResult:
        """Enhances one serialised depth image.

        Args:
            raw: CDR bytes of a sensor_msgs/Image.
            camera: Intrinsics of the stream, with its baseline.

        Raises:
            DepthError: Not an image, not a depth encoding, or a size that differs from the camera's.
            RealdiffError: The model can't do it: it needs colour, which a live topic comes without.
        """
        image = SerializedImage.parse(raw, where=self.topic)
        pixels = image.depth_pixels(self.topic)
        if (image.width, image.height) != (camera.width, camera.height):
            raise DepthError(
                "image and camera_info differ in size",
                where=self.topic,
                expected=f"{camera.width}×{camera.height}",
                got=f"{image.width}×{image.height}",
                next_step="check that the camera_info topic belongs to this image topic",
            )
        clean = depth_to_metres(pixels, image.encoding)
        seed = frame_seed(self.seed, self.topic, image.stamp_ns)
        frames = DepthFrames(
            depth=clean[np.newaxis],
            colour=None,
            camera=camera,
            seeds=(seed,),
            previous_seeds=tuple(self._seeds),
            stream_seed=self._stream_seed,
        )
        try:
            result = self.model.enhance(frames)
        except RealdiffError as error:
            raise error.at(f"topic {self.topic}") from None
        self._seeds.append(seed)
        noisy = result.depth[0]
        discrepancy = None if result.discrepancy is None else result.discrepancy[0]
        holes = float(np.count_nonzero(~np.isfinite(noisy)) / noisy.size)
        data = image.with_pixels(encode_like(pixels, image.encoding, clean, noisy))
        return StreamResult(image, data, discrepancy, holes)
