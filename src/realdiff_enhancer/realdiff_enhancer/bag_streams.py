"""The depth streams of a bag on their way to a model: camera, colour, seeds, batches."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader, RawMessage
from realdiff_core.camera import CameraModel
from realdiff_core.depth import depth_to_metres, encode_like
from realdiff_core.episode import image_topics, read_camera
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_core.seeds import frame_seed
from realdiff_core.topics import camera_info_topic

from realdiff_enhancer.serialized_image import SerializedImage

__all__ = ["Batch", "DepthStream", "Frame", "colour_topic_for", "rgb_pixels"]

_RGB: dict[str, tuple[int, ...]] = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "8UC3": (2, 1, 0),
    "rgba8": (0, 1, 2),
    "bgra8": (2, 1, 0),
}

_STAMP, _STAMP_BYTES = 4, 8  # where the stamp is in a serialised message that begins with a header


def rgb_pixels(message: Any) -> NDArray[np.uint8] | None:
    """Pixels of a colour image, uint8 [H,W,3] RGB; None for an encoding without colour."""
    order = _RGB.get(str(message.encoding))
    if order is None:
        return None
    return np.ascontiguousarray(image_to_numpy(message)[..., list(order)])


def colour_topic_for(reader: BagReader, depth_topic: str, frame_id: str, size: tuple[int, int]) -> str | None:
    """The colour topic whose pixels are registered to a depth topic: same optical frame, same size.

    Args:
        reader: An open bag.
        depth_topic: The depth topic.
        frame_id: Frame of its images.
        size: Its height and width.

    Returns:
        The first such topic by name; None where there is none (depth that isn't aligned to colour).
    """
    for name in image_topics(reader):
        first = reader.first(name) if name != depth_topic else None
        if first is None:
            continue
        message = reader.deserialize(first)
        registered = message.header.frame_id == frame_id and (int(message.height), int(message.width)) == size
        if registered and message.encoding in _RGB:
            return name
    return None


@dataclass
class Frame:
    """A depth image that waits for its noise."""

    image: SerializedImage
    pixels: NDArray[np.generic]
    index: int
    previous_stamps: tuple[int, ...]
    colour: NDArray[np.uint8] | None = None

    def enhanced(self, clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> bytes:
        """The image's message with noise: both [H,W], metres; see `encode_like`."""
        return self.image.with_pixels(encode_like(self.pixels, self.image.encoding, clean, noisy))


@dataclass
class Batch:
    """Consecutive frames of one stream with the same camera."""

    stream: int
    topic: str
    camera: CameraModel
    frames: list[Frame] = field(default_factory=list)

    def seeds(self, seed: int, draw: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Seeds of the frames, and of those before the first."""
        stamps = tuple(frame.image.stamp_ns for frame in self.frames)
        return (
            tuple(frame_seed(seed, self.topic, stamp, draw) for stamp in stamps),
            tuple(frame_seed(seed, self.topic, stamp, draw) for stamp in self.frames[0].previous_stamps),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """[N,H,W] of its depth."""
        height, width = self.frames[0].pixels.shape
        return len(self.frames), height, width

    def convert(self, positions: range, clean: NDArray[np.float32]) -> None:
        """Puts the clean depth of some frames into an array for all, float32 [N,H,W], metres, NaN where invalid."""
        for position in positions:
            frame = self.frames[position]
            depth_to_metres(frame.pixels, frame.image.encoding, clean[position])

    def colour(self) -> NDArray[np.uint8] | None:
        """Colour of the frames, uint8 [N,H,W,3]; None where one lacks it."""
        colours = [frame.colour for frame in self.frames if frame.colour is not None]
        return np.stack(colours) if len(colours) == len(self.frames) else None


class DepthStream:
    """Gathers the images of one depth topic into batches.

    Args:
        reader: An open bag.
        topic: The depth topic.
        number: Number of the stream in the job.
        baseline_m: Stereo baseline, from the camera profile.
        history: Seeds of earlier frames that the model uses.
        use_colour: The model makes use of colour.

    Raises:
        BagError: The topic's camera_info is missing.
    """

    def __init__(
        self, reader: BagReader, topic: str, number: int, baseline_m: float, history: int, *, use_colour: bool
    ) -> None:
        """Finds the stream's camera and colour."""
        self.topic = topic
        self.info_topic = camera_info_topic(topic)
        self.colour_topic: str | None = None
        self._reader = reader
        self._number = number
        self._baseline_m = baseline_m
        self._camera = read_camera(reader, topic, baseline_m)
        self._info = b""  # the camera_info that it is from, without its stamp
        self._colour: NDArray[np.uint8] | None = None
        self._stamps: deque[int] = deque(maxlen=history)
        self._count = 0
        self._layout: tuple[int, int, str] | None = None
        self._batch: Batch | None = None
        if use_colour:
            first = reader.first(topic)
            if first is not None:
                image = SerializedImage.parse(first.data, self._where(first))
                self.colour_topic = colour_topic_for(reader, topic, image.frame_id, (image.height, image.width))
                colour = reader.first(self.colour_topic) if self.colour_topic else None
                if colour is not None:
                    self.see_colour(colour)  # for images before it, as with camera_info

    def _where(self, raw: RawMessage) -> str:
        return f"{self._reader.path}, topic {raw.topic}, stamp {raw.stamp_ns} ns"

    def see_camera_info(self, raw: RawMessage) -> None:
        """Takes the intrinsics for the images that follow."""
        info = raw.data[:_STAMP] + raw.data[_STAMP + _STAMP_BYTES :]
        if info == self._info:
            return
        try:
            self._camera = CameraModel.from_camera_info(self._reader.deserialize(raw), self._baseline_m)
        except RealdiffError as error:
            raise error.at(self._where(raw)) from None
        self._info = info

    def see_colour(self, raw: RawMessage) -> None:
        """Takes the colour for the images that follow; an image of another size is no longer registered."""
        try:
            self._colour = rgb_pixels(self._reader.deserialize(raw))
        except RealdiffError as error:
            raise error.at(self._where(raw)) from None

    def frame(self, raw: RawMessage) -> Frame:
        """Checks the next image of the stream and numbers it.

        Raises:
            BagError: Size or encoding differ from the images before, or from camera_info.
            DepthError, ImageError: The image is damaged or isn't depth.
        """
        image = SerializedImage.parse(raw.data, self._where(raw))
        pixels = image.depth_pixels(self._where(raw))
        layout = (image.width, image.height, image.encoding)
        if self._layout is None:
            self._layout = layout
        if layout != self._layout:
            raise BagError(
                "depth images of one topic differ in size or encoding",
                where=self._where(raw),
                expected="{}×{} {}".format(*self._layout),
                got="{}×{} {}".format(*layout),
                next_step="split the bag by time with `ros2 bag convert`",
            )
        if (image.width, image.height) != (self._camera.width, self._camera.height):
            raise BagError(
                "depth image and camera_info differ in size",
                where=self._where(raw),
                expected=f"{self._camera.width}×{self._camera.height}, as in {self.info_topic}",
                got=f"{image.width}×{image.height}",
                next_step="record the camera_info that belongs to this stream",
            )
        colour = self._colour
        if colour is not None and colour.shape[:2] != (image.height, image.width):
            colour = None
        frame = Frame(image, pixels, self._count, tuple(self._stamps), colour)
        self._count += 1
        self._stamps.append(image.stamp_ns)
        return frame

    def add(self, frame: Frame, size: int) -> list[Batch]:
        """Adds a frame to the stream's batch.

        Args:
            frame: What `frame` gave.
            size: How many frames a batch holds at most.

        Returns:
            The batches that are ready now, in order.
        """
        ready = []
        batch = self._batch
        fits = (
            batch is not None
            and batch.camera == self._camera
            and batch.frames[-1].index + 1 == frame.index
            and (batch.frames[0].colour is None) == (frame.colour is None)
        )
        if batch is not None and not fits:
            ready += self.flush()
        if self._batch is None:
            self._batch = Batch(self._number, self.topic, self._camera)
        self._batch.frames.append(frame)
        if len(self._batch.frames) >= size:
            ready += self.flush()
        return ready

    def flush(self) -> list[Batch]:
        """Returns the batch as it is, if there is one, and begins the next."""
        batch, self._batch = self._batch, None
        return [batch] if batch is not None else []
