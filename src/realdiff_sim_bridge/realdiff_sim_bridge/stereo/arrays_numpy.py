"""The NumPy back end of the stereo camera: OpenCV for filters, numba for the paths of the matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.stereo import compiled
from realdiff_sim_bridge.stereo.arrays import gaussian_kernel
from realdiff_sim_bridge.stereo.noise import NOISE_MEAN, NOISE_SIGMA, stream_words


class NumpyArrays:
    """See `Arrays`."""

    xp: Any = np
    name = "numpy"

    def upload(self, values: NDArray[Any]) -> NDArray[Any]:
        """See `Arrays`."""
        return values

    def upload_images(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """See `Arrays`."""
        return np.stack(images).astype(np.float32, copy=False)

    def download(self, values: NDArray[Any]) -> NDArray[Any]:
        """See `Arrays`."""
        return values

    def counting(self, count: int) -> NDArray[np.float32]:
        """See `Arrays`."""
        return np.arange(count, dtype=np.float32)

    def real(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """See `Arrays`."""
        return values.astype(np.float32)

    def whole(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """See `Arrays`."""
        return values.astype(np.int64)

    def byte(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """See `Arrays`."""
        return values.astype(np.uint8)

    def blur(self, images: NDArray[np.float32], sigma_x: float, sigma_y: float) -> NDArray[np.float32]:
        """See `Arrays`."""
        kernel_x, kernel_y = gaussian_kernel(sigma_x), gaussian_kernel(sigma_y)
        out = np.empty_like(images)
        compiled.for_each(lambda i: cv2.sepFilter2D(images[i], cv2.CV_32F, kernel_x, kernel_y, out[i]), len(images))
        return out

    def highest(self, images: NDArray[np.float32], radius_x: int, radius_y: int) -> NDArray[np.float32]:
        """See `Arrays`."""
        kernel = np.ones((2 * radius_y + 1, 2 * radius_x + 1), np.uint8)
        out = np.empty_like(images)
        compiled.for_each(lambda i: cv2.dilate(images[i], kernel, out[i]), len(images))
        return out

    def bilinear(
        self, images: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Arrays`."""
        if images.ndim == 3:
            frames = range(len(images))
            return np.stack([self.bilinear(images[i], x[i % len(x)], y[i % len(y)]) for i in frames])
        out = np.empty(x.shape, np.float32)
        compiled.bilinear(images, x.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out

    def sample_rows(self, images: NDArray[np.float32], disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Arrays`."""
        out = np.empty_like(images)
        for image, places, into in zip(images, disparity, out, strict=True):
            compiled.sample_rows(image, places, into)
        return out

    def same_side(self, disparity: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `Arrays`."""
        out = np.empty_like(disparity)
        for image, known, into in zip(disparity, valid, out, strict=True):
            compiled.same_side(image, known, into)
        return out

    def normals(self, seeds: NDArray[np.uint64], stream: int, height: int, width: int) -> NDArray[np.float32]:
        """See `Arrays`."""
        out = np.empty((len(seeds), height * width), np.float32)
        for row, (first, second) in zip(out, stream_words(seeds, stream), strict=True):
            compiled.hashed_sums(np.uint32(first), np.uint32(second), row)
        out -= np.float32(NOISE_MEAN)
        out *= np.float32(1 / NOISE_SIGMA)
        return out.reshape(len(seeds), height, width)

    def semi_global(
        self,
        left: NDArray[np.uint8],
        right: NDArray[np.uint8],
        disparities: int,
        threshold: int,
        penalties: tuple[int, int],
        uniqueness: int,
        agreement: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See `Arrays`."""
        disparity = np.empty(left.shape, np.float32)
        valid = np.empty(left.shape, np.bool_)
        for index in range(len(left)):
            result = disparity[index], valid[index]
            compiled.semi_global(
                left[index], right[index], disparities, threshold, penalties, uniqueness, agreement, *result
            )
        return disparity, valid

    def islands(self, disparity: NDArray[np.float32], valid: NDArray[np.bool_], largest: int) -> NDArray[np.bool_]:
        """See `Arrays`."""
        fixed = np.where(valid, np.rint(disparity * 16), -32).astype(np.int16)
        for image in fixed:
            cv2.filterSpeckles(image, -32, largest, 16)
        return np.asarray(valid & (fixed < 0))
