"""The torch back end of the stereo camera: torch operations only, on any device; CUDA graphs on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from realdiff_sim_bridge.stereo.arrays import gaussian_kernel
from realdiff_sim_bridge.stereo.noise import MULTIPLIERS, NOISE_MEAN, NOISE_SIGMA, STEP, stream_words
from realdiff_sim_bridge.stereo.sgm_torch import SemiGlobalTorch

_WORD = 0xFFFFFFFF


class TorchArrays:
    """See `Arrays`.

    Args:
        device: torch device; None: CUDA where available, else CPU.
    """

    xp: Any = torch
    name = "torch"

    def __init__(self, device: str | None = None) -> None:
        """See the class."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda":
            # Rounded products would make the blurs differ from NumPy's in the fourth digit.
            torch.backends.cudnn.allow_tf32 = False
        self._kernels: dict[float, Tensor] = {}
        self._locked: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}
        self._matcher = SemiGlobalTorch()

    def upload(self, values: NDArray[Any]) -> Tensor:
        """See `Arrays`."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":  # from locked memory the GPU fetches by itself, while the CPU goes on
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def upload_images(self, images: Sequence[NDArray[Any]]) -> Tensor:
        """See `Arrays`."""
        locked = self.device.type == "cuda"  # copied once, to where the GPU fetches it from
        stacked = torch.empty((len(images), *images[0].shape), dtype=torch.float32, pin_memory=locked)
        for place, image in zip(stacked, images, strict=True):
            place.copy_(torch.from_numpy(np.ascontiguousarray(image)))
        return stacked.to(self.device, non_blocking=locked)

    def download(self, values: Tensor) -> NDArray[Any]:
        """See `Arrays`."""
        if self.device.type != "cuda":
            return np.asarray(values.cpu().numpy())
        key = tuple(values.shape), values.dtype
        if key not in self._locked:  # kept, and small in number: locking memory takes time
            self._locked[key] = torch.empty(key[0], dtype=key[1], pin_memory=True)
        return np.array(self._locked[key].copy_(values).numpy())

    def counting(self, count: int) -> Tensor:
        """See `Arrays`."""
        return torch.arange(count, dtype=torch.float32, device=self.device)

    def real(self, values: Tensor) -> Tensor:
        """See `Arrays`."""
        return values.to(torch.float32)

    def whole(self, values: Tensor) -> Tensor:
        """See `Arrays`."""
        return values.to(torch.int64)

    def byte(self, values: Tensor) -> Tensor:
        """See `Arrays`."""
        return values.to(torch.uint8)

    def blur(self, images: Tensor, sigma_x: float, sigma_y: float) -> Tensor:
        """See `Arrays`."""
        kernel_x, kernel_y = self._kernel(sigma_x), self._kernel(sigma_y)
        radius_x, radius_y = len(kernel_x) // 2, len(kernel_y) // 2
        padded = functional.pad(images[:, None], (radius_x, radius_x, radius_y, radius_y), mode="reflect")
        rows = functional.conv2d(padded, kernel_x[None, None, None, :])
        return functional.conv2d(rows, kernel_y[None, None, :, None])[:, 0]

    def _kernel(self, sigma: float) -> Tensor:
        if sigma not in self._kernels:
            self._kernels[sigma] = self.upload(gaussian_kernel(sigma))
        return self._kernels[sigma]

    def highest(self, images: Tensor, radius_x: int, radius_y: int) -> Tensor:
        """See `Arrays`."""
        window = (2 * radius_y + 1, 2 * radius_x + 1)
        return functional.max_pool2d(images[:, None], window, 1, (radius_y, radius_x))[:, 0]

    def bilinear(self, images: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """See `Arrays`."""
        height, width = images.shape[-2:]
        x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
        column, row = x.to(torch.int64), y.to(torch.int64)
        right, down = x - column.to(torch.float32), y - row.to(torch.float32)
        index = row * width + column
        if images.ndim == 3:
            index = index + torch.arange(len(images), device=images.device)[:, None, None] * (height * width)
        above = images.take(index) * (1 - right) + images.take(index + 1) * right
        below = images.take(index + width) * (1 - right) + images.take(index + width + 1) * right
        return above * (1 - down) + below * down

    def sample_rows(self, images: Tensor, disparity: Tensor) -> Tensor:
        """See `Arrays`."""
        count, height, width = images.shape
        columns = torch.arange(width, dtype=torch.float32, device=self.device)
        rows = torch.arange(count * height, device=self.device).reshape(count, height, 1) * width
        x = (columns - disparity).clip(1, width - 2.001)
        whole = x.to(torch.int64)
        t = x - whole.to(torch.float32)
        p0, p1, p2, p3 = (images.take(rows + whole + offset) for offset in (-1, 0, 1, 2))
        return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))

    def same_side(self, disparity: Tensor, valid: Tensor) -> Tensor:
        """See `Arrays`."""
        height, width = disparity.shape[1:]
        value = functional.pad(torch.where(valid, disparity, -1e4), (1, 1, 1, 1), value=-1e4)
        total, count = disparity, torch.ones_like(disparity)
        for dy in range(3):
            for dx in range(3):
                if (dy, dx) != (1, 1):
                    neighbour = value[:, dy : dy + height, dx : dx + width]
                    near = (neighbour - disparity).abs() < 1
                    total = total + torch.where(near, neighbour, 0.0)
                    count = count + near.to(torch.float32)
        return total / count

    def normals(self, seeds: NDArray[np.uint64], stream: int, height: int, width: int) -> Tensor:
        """See `Arrays`."""
        keys = self.upload(stream_words(seeds, stream).astype(np.int64))
        counter = torch.arange(height * width, dtype=torch.int64, device=self.device) * STEP
        total = torch.zeros((len(seeds), height * width), dtype=torch.int64, device=self.device)
        for word in (0, 1):
            h = (counter[None] + keys[:, word, None]) & _WORD
            h ^= h >> 16
            h = (h * MULTIPLIERS[0]) & _WORD  # the product may overflow 63 bits; its lower 32 stay right
            h ^= h >> 15
            h = (h * MULTIPLIERS[1]) & _WORD
            h ^= h >> 16
            total += (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
        numbers = (total.to(torch.float32) - NOISE_MEAN) * np.float32(1 / NOISE_SIGMA).item()
        return numbers.reshape(len(seeds), height, width)

    def semi_global(
        self,
        left: Tensor,
        right: Tensor,
        disparities: int,
        threshold: int,
        penalties: tuple[int, int],
        uniqueness: int,
        agreement: int,
    ) -> tuple[Tensor, Tensor]:
        """See `Arrays`."""
        return self._matcher(left, right, disparities, threshold, penalties, uniqueness, agreement)

    def islands(self, disparity: Tensor, valid: Tensor, largest: int) -> Tensor:
        """See `Arrays`."""
        fixed = torch.where(valid, torch.round(disparity * 16), -32).to(torch.int32)
        labels = connected_labels(fixed, valid)
        sizes = torch.zeros(labels.numel(), dtype=torch.int32, device=labels.device)
        sizes.scatter_add_(0, labels.flatten(), torch.ones_like(sizes))
        return valid & (sizes[labels] <= largest)


def connected_labels(fixed: Tensor, valid: Tensor) -> Tensor:
    """Label connected regions: int64 [B,H,W], the least flat index of the region; invalid pixels keep their own.

    Minimum labels are passed between neighbours, handed to the label's own pixel and followed to the root, until
    nothing changes: about a dozen rounds (after Zhang, Azad and Hu, "FastSV", 2020).

    Args:
        fixed: int32 [B,H,W]; neighbours that differ by at most 16 are connected.
        valid: bool [B,H,W].
    """
    shape = fixed.shape
    across = valid[:, :, 1:] & valid[:, :, :-1] & ((fixed[:, :, 1:] - fixed[:, :, :-1]).abs() <= 16)
    down = valid[:, 1:] & valid[:, :-1] & ((fixed[:, 1:] - fixed[:, :-1]).abs() <= 16)
    labels = torch.arange(fixed.numel(), device=fixed.device).reshape(shape)
    while True:
        least = labels.clone()
        least[:, :, 1:] = torch.where(across, torch.minimum(least[:, :, 1:], labels[:, :, :-1]), least[:, :, 1:])
        least[:, :, :-1] = torch.where(across, torch.minimum(least[:, :, :-1], labels[:, :, 1:]), least[:, :, :-1])
        least[:, 1:] = torch.where(down, torch.minimum(least[:, 1:], labels[:, :-1]), least[:, 1:])
        least[:, :-1] = torch.where(down, torch.minimum(least[:, :-1], labels[:, 1:]), least[:, :-1])
        roots = labels.flatten().scatter_reduce(0, labels.flatten(), least.flatten(), "amin")
        roots = torch.minimum(roots, least.flatten())
        for _ in range(3):
            roots = roots[roots]
        if torch.equal(roots, labels.flatten()):
            return labels
        labels = roots.reshape(shape)
