"""Small pictures of episodes for the index page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEIGHT_PX = 84
_JPEG_QUALITY = 72


def save_thumbnail(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Writes pictures side by side as one small JPEG file; nothing where there are none.

    Args:
        path: File to write; its folder is made.
        pictures: uint8[H, W, 3] each, RGB.
    """
    import cv2

    if not pictures:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    small = []
    for picture in pictures:
        width = max(1, round(picture.shape[1] * _HEIGHT_PX / picture.shape[0]))
        small.append(cv2.resize(picture, (width, _HEIGHT_PX), interpolation=cv2.INTER_AREA))
    strip = np.ascontiguousarray(np.concatenate(small, axis=1)[..., ::-1])
    data = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    path.write_bytes(data.tobytes())
