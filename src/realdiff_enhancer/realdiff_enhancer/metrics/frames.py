"""One frame under measurement: what follows from its clean depth, and one depth image measured against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.errors import DepthError

#: A depth step between neighbouring pixels is an edge where it exceeds this share of the nearer depth. At 3 % a plane
#: seen by a 640×480 camera is no edge up to an incidence of about 87°, and the hole rates of the public clean/noisy
#: pairs by distance to an edge come out the same for 2 % and for 5 %.
EDGE_RELATIVE_STEP = 0.03

#: Pixels farther than this from every edge are "away from edges" (beyond a stereo window and its shadow), pixels.
AWAY_FROM_EDGES_PX = 12.0

#: Half width of the central differences from which surface normals are computed, pixels.
_NORMAL_HALF_WIDTH = 2


def clean_edges(clean_m: NDArray[np.floating], relative_step: float = EDGE_RELATIVE_STEP) -> NDArray[np.bool_]:
    """Mark the pixels on both sides of a depth step.

    A border between known and unknown depth is no edge: nothing is known about the step there.

    Args:
        clean_m: clean depth, [H, W], metres, NaN where unknown.
        relative_step: a step counts where it exceeds this share of the nearer depth.

    Returns:
        Boolean edge mask, [H, W].
    """
    known = np.isfinite(clean_m)
    log_depth = np.log(np.where(known, clean_m, 1.0))
    limit = np.log1p(relative_step)
    edges = np.zeros(clean_m.shape, dtype=bool)
    down = (np.abs(np.diff(log_depth, axis=0)) > limit) & known[1:] & known[:-1]
    edges[1:] |= down
    edges[:-1] |= down
    right = (np.abs(np.diff(log_depth, axis=1)) > limit) & known[:, 1:] & known[:, :-1]
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


@dataclass(frozen=True)
class CleanContext:
    """What the clean depth of a frame says about its pixels; computed once and used for every model.

    Attributes:
        clean: float32 [H, W], metres, NaN where unknown. Unknown pixels take part in no metric.
        camera: model of the depth image, with ``baseline_m`` set (residuals are compared in disparity pixels).
    """

    clean: NDArray[np.float32]
    camera: CameraModel

    def __post_init__(self) -> None:
        """Refuse what can't be measured.

        Raises:
            DepthError: the image is not 2-D, its size is not the camera's, or the baseline is absent.
        """
        expected = (self.camera.height, self.camera.width)
        if self.clean.shape != expected:
            raise DepthError("clean depth does not fit its camera", expected=str(expected), got=str(self.clean.shape))
        if not self.camera.baseline_m:
            raise DepthError(
                "camera model has no baseline, so residuals can't be compared in disparity",
                next_step="name the camera's profile (it states the baseline)",
            )

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Pixels whose clean depth is known, [H, W]."""
        return np.isfinite(self.clean)

    @cached_property
    def disparity(self) -> NDArray[np.float32]:
        """Clean disparity fx·baseline/z, float32 [H, W], pixels; 0 where unknown."""
        return disparity_px(self.clean, self.camera)

    @cached_property
    def edge_distance(self) -> NDArray[np.float32]:
        """Distance to the nearest clean-depth edge pixel, float32 [H, W], pixels; ``inf`` without any edge."""
        import cv2

        edges = clean_edges(self.clean)
        if not edges.any():
            return np.full(self.clean.shape, np.inf, dtype=np.float32)
        distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(distance, dtype=np.float32)

    @cached_property
    def away_from_edges(self) -> NDArray[np.bool_]:
        """Known pixels farther than :data:`AWAY_FROM_EDGES_PX` from every edge, [H, W]."""
        return self.known & (self.edge_distance > AWAY_FROM_EDGES_PX)

    @cached_property
    def cos_incidence(self) -> NDArray[np.float32]:
        """Cosine between viewing ray and surface normal, float32 [H, W]; NaN where no normal can be computed."""
        height, width = self.clean.shape
        step = _NORMAL_HALF_WIDTH
        points = np.asarray(self.camera.back_project(self.clean), dtype=np.float64)
        cosine = np.full((height, width), np.nan, dtype=np.float32)
        inner = (slice(step, -step), slice(step, -step))
        along_u = points[step:-step, 2 * step :] - points[step:-step, : -2 * step]
        along_v = points[2 * step :, step:-step] - points[: -2 * step, step:-step]
        normal = np.cross(along_u, along_v)
        ray = points[inner]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.abs((normal * ray).sum(-1)) / (np.linalg.norm(normal, axis=-1) * np.linalg.norm(ray, axis=-1))
        # A difference taken across an edge is no surface normal.
        usable = self.edge_distance[inner] > step + 1
        cosine[inner] = np.where(usable, value, np.nan)
        return cosine


@dataclass(frozen=True)
class Measurement:
    """A depth image, real or generated, measured against the clean depth of its frame.

    Attributes:
        context: the frame.
        depth: float32 [H, W], metres, NaN in holes. What it says where the clean depth is unknown is ignored.
    """

    context: CleanContext
    depth: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse another size than the frame's.

        Raises:
            DepthError: the shapes differ.
        """
        if self.depth.shape != self.context.clean.shape:
            raise DepthError(
                "depth image does not have the size of its clean depth",
                expected=str(self.context.clean.shape),
                got=str(self.depth.shape),
            )

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Pixels with a measured and a clean depth, [H, W]."""
        return self.context.known & np.isfinite(self.depth) & (self.depth > 0)

    @cached_property
    def hole(self) -> NDArray[np.bool_]:
        """Pixels with a clean but no measured depth, [H, W]."""
        return self.context.known & ~self.valid

    @cached_property
    def residual(self) -> NDArray[np.float32]:
        """Measured minus clean depth, float32 [H, W], metres; 0 where not :attr:`valid`."""
        difference = np.zeros(self.depth.shape, dtype=np.float32)
        np.subtract(self.depth, self.context.clean, out=difference, where=self.valid)
        return difference

    @cached_property
    def residual_px(self) -> NDArray[np.float32]:
        """Measured minus clean disparity, float32 [H, W], pixels; 0 where not :attr:`valid`."""
        difference = disparity_px(self.depth, self.context.camera) - self.context.disparity
        return np.where(self.valid, difference, np.float32(0)).astype(np.float32)

    @cached_property
    def smooth(self) -> NDArray[np.bool_]:
        """Valid pixels away from edges and off by at most 5 cm: where structure is measured, [H, W].

        A single flying pixel would otherwise outweigh thousands of pixels in every second moment.
        """
        return self.valid & self.context.away_from_edges & (np.abs(self.residual) <= 0.05)


def disparity_px(depth_m: NDArray[np.floating], camera: CameraModel) -> NDArray[np.float32]:
    """Convert depth to disparity.

    Args:
        depth_m: depth, [H, W], metres; NaN or ≤ 0 is invalid.
        camera: supplies fx and the baseline.

    Returns:
        float32 [H, W], pixels, 0 where the depth is invalid.
    """
    usable = np.isfinite(depth_m) & (depth_m > 0)
    return np.where(usable, camera.disparity_factor / np.where(usable, depth_m, 1.0), 0.0).astype(np.float32)
