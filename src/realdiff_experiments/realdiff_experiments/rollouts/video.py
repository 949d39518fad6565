"""Videos of trials that a browser plays: colour beside coloured depth."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import OutputError

_NEAR_M, _FAR_M = 0.5, 2.0


class VideoWriter:
    """Writes a WebM file (VP8); use it as a context manager.

    Args:
        path: The file.
        rate_hz: Frames per second.
    """

    def __init__(self, path: Path, rate_hz: float = 10.0) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._writer: Any = None

    def __enter__(self) -> VideoWriter:
        """Opens nothing yet: the first frame says how large the video is."""
        return self

    def add(self, colour: NDArray[np.uint8], depth_m: NDArray[np.float32]) -> None:
        """Adds a frame: uint8[H, W, 3] RGB and float32[H, W] metres.

        Raises:
            OutputError: The file can't be written.
        """
        import cv2

        level = np.clip((np.nan_to_num(depth_m, nan=_FAR_M) - _NEAR_M) / (_FAR_M - _NEAR_M), 0, 1)
        shown = cv2.applyColorMap((255 - level * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        shown[~np.isfinite(depth_m)] = 0
        picture = np.hstack([colour[..., ::-1], shown])
        if self._writer is None:
            size = (picture.shape[1], picture.shape[0])
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"VP80"), self._rate_hz, size)
            if not self._writer.isOpened():
                raise OutputError(
                    "the video can't be written",
                    where=self._path,
                    next_step="leave -o out: without it there are no videos",
                )
        self._writer.write(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.release()
