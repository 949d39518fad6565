"""Pinhole camera with plumb_bob distortion: project, back-project, align depth to colour.

Pixel coordinates follow OpenCV and ROS: (0, 0) is the centre of the top left pixel, x to the right, y down, z along
the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from realdiff_core.errors import CameraError

_UNDISTORT_ITERATIONS = 20


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one image stream.

    Args:
        width: Image width [px].
        height: Image height [px].
        fx: Focal length along x [px].
        fy: Focal length along y [px].
        cx: Principal point, x [px].
        cy: Principal point, y [px].
        distortion: plumb_bob coefficients k1, k2, p1, p2, k3.
        frame_id: Optical frame (REP-103: x right, y down, z forward).
        baseline_m: Distance between the stereo imagers [m], where depth comes from stereo and it is known.

    Raises:
        CameraError: A value makes no sense.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    frame_id: str = ""
    baseline_m: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if self.width <= 0 or self.height <= 0:
            raise CameraError("camera has no pixels", expected="positive width and height", got=self._size())
        if not np.all(np.isfinite(numbers)) or self.fx <= 0 or self.fy <= 0:
            raise CameraError(
                "camera intrinsics make no sense",
                expected="finite numbers, fx > 0 and fy > 0",
                got=f"fx {self.fx}, fy {self.fy}, cx {self.cx}, cy {self.cy}, distortion {self.distortion}",
                next_step="the camera may be uncalibrated: check its camera_info",
            )
        if len(self.distortion) != 5:
            raise CameraError("wrong number of distortion coefficients", expected=5, got=len(self.distortion))
        if self.baseline_m is not None and not self.baseline_m > 0:
            raise CameraError(
                "stereo baseline makes no sense", expected="a positive length in metres", got=self.baseline_m
            )

    @classmethod
    def from_camera_info(cls, msg: Any, baseline_m: float | None = None) -> CameraModel:
        """Read a sensor_msgs/CameraInfo of rclpy or rosbags.

        Raises:
            CameraError: Uncalibrated camera, or a distortion model other than plumb_bob with coefficients that aren't
                zero.
        """
        k = [float(value) for value in msg.k]
        d = [float(value) for value in msg.d]
        model = str(msg.distortion_model)
        if model not in ("", "plumb_bob", "rational_polynomial") or any(d[5:]):
            if any(d):
                raise CameraError(
                    "distortion model isn't handled",
                    where=msg.header.frame_id,
                    expected="plumb_bob",
                    got=f"{model} {d}",
                    next_step="rectify the images first (image_proc)",
                )
            d = []
        return cls(
            width=int(msg.width),
            height=int(msg.height),
            fx=k[0],
            fy=k[4],
            cx=k[2],
            cy=k[5],
            distortion=tuple((d + [0.0] * 5)[:5]),
            frame_id=str(msg.header.frame_id),
            baseline_m=baseline_m,
        )

    @classmethod
    def from_fov(
        cls, width: int, height: int, hfov_deg: float, frame_id: str = "", baseline_m: float | None = None
    ) -> CameraModel:
        """Make a distortion-free camera with square pixels from its horizontal field of view [°]."""
        if not 0 < hfov_deg < 180:
            raise CameraError("field of view makes no sense", expected="0 … 180°", got=hfov_deg)
        focal = width / 2 / float(np.tan(np.radians(hfov_deg) / 2))
        return cls(
            width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, frame_id=frame_id, baseline_m=baseline_m
        )

    def _size(self) -> str:
        return f"{self.width}×{self.height}"

    @property
    def K(self) -> NDArray[np.float64]:  # noqa: N802 (the literature's name)
        """float64 [3, 3], the camera matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view [°], by the pixels' outer edges."""
        left = np.arctan2(self.cx + 0.5, self.fx)
        right = np.arctan2(self.width - 0.5 - self.cx, self.fx)
        return float(np.degrees(left + right))

    @property
    def disparity_factor(self) -> float:
        """fx · baseline [px·m]: disparity [px] = disparity_factor / depth [m].

        Raises:
            CameraError: The baseline isn't known.
        """
        if self.baseline_m is None:
            raise CameraError(
                "the camera's stereo baseline isn't known",
                where=self.frame_id or None,
                next_step="name a camera profile that has baseline_m",
            )
        return self.fx * self.baseline_m

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Project points of the optical frame to pixels.

        Args:
            points: [..., 3], metres.

        Returns:
            float64 [..., 2], pixels; NaN for points that aren't in front of the camera.
        """
        points = np.asarray(points, np.float64)
        z = points[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(z > 0, points[..., 0] / z, np.nan)
            y = np.where(z > 0, points[..., 1] / z, np.nan)
        if any(self.distortion):
            x, y = self._distort(x, y)
        return np.stack([x * self.fx + self.cx, y * self.fy + self.cy], axis=-1)

    def back_project(self, depth_m: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Turn a depth image into points of the optical frame.

        Args:
            depth_m: [H, W], metres along z, NaN where invalid.

        Returns:
            float32 [H, W, 3], metres, NaN where invalid.

        Raises:
            CameraError: The image's size isn't the camera's.
        """
        if depth_m.shape != (self.height, self.width):
            raise CameraError(
                "depth image and camera differ in size",
                where=self.frame_id or None,
                expected=f"[{self.height}, {self.width}]",
                got=list(depth_m.shape),
            )
        rays = _rays(self)
        points = np.empty((*depth_m.shape, 3), np.float32)
        points[..., :2] = rays * depth_m[..., None]
        points[..., 2] = depth_m
        return points

    def rays(self) -> NDArray[np.float64]:
        """float64 [H, W, 2], x/z and y/z of every pixel's ray, undistorted; read-only."""
        return _rays(self)

    def scaled(self, width: int, height: int) -> CameraModel:
        """Return the camera of the image resized to width × height (the same field of view)."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def to_camera_info_fields(self) -> dict[str, Any]:
        """Return the fields of a sensor_msgs/CameraInfo, header excepted."""
        zero = 0.0
        return {
            "height": self.height,
            "width": self.width,
            "distortion_model": "plumb_bob",
            "d": list(self.distortion),
            "k": [self.fx, zero, self.cx, zero, self.fy, self.cy, zero, zero, 1.0],
            "r": [1.0, zero, zero, zero, 1.0, zero, zero, zero, 1.0],
            "p": [self.fx, zero, self.cx, zero, zero, self.fy, self.cy, zero, zero, zero, 1.0, zero],
        }

    def _distort(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def undistort(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Return x/z and y/z, float64 [..., 2], of the rays through pixels [..., 2]."""
        pixels = np.asarray(pixels, np.float64)
        xd = (pixels[..., 0] - self.cx) / self.fx
        yd = (pixels[..., 1] - self.cy) / self.fy
        x, y = xd, yd
        if any(self.distortion):
            # The usual fixed-point iteration: it converges for the mild distortion of depth cameras.
            for _ in range(_UNDISTORT_ITERATIONS):
                xi, yi = self._distort(x, y)
                x, y = x + (xd - xi), y + (yd - yi)
        return np.stack([x, y], axis=-1)


@lru_cache(maxsize=8)
def _rays(camera: CameraModel) -> NDArray[np.float64]:
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = camera.undistort(np.stack([columns, rows], axis=-1))
    rays.flags.writeable = False  # shared by all callers of the cache
    return rays


@lru_cache(maxsize=8)
def _corner_rays(camera: CameraModel, offset: float) -> NDArray[np.float64]:
    columns, rows = np.meshgrid(np.arange(camera.width) + offset, np.arange(camera.height) + offset)
    rays = camera.undistort(np.stack([columns, rows], axis=-1))
    rays.flags.writeable = False
    return rays


@lru_cache(maxsize=4)
def _rotated_rays(camera: CameraModel, offset: float, rotation: bytes) -> NDArray[np.float64]:
    """float64 [3, H·W], the rays through the pixels' corners, turned by a rotation (the bytes of a float64 [3, 3])."""
    corners = _corner_rays(camera, offset).reshape(-1, 2)
    rays = np.column_stack((corners, np.ones(len(corners)))) @ np.frombuffer(rotation, np.float64).reshape(3, 3).T
    rays = np.ascontiguousarray(rays.T)
    rays.flags.writeable = False  # shared by all callers of the cache
    return rays


def align_depth_to_colour(
    depth_m: NDArray[np.floating[Any]],
    depth_camera: CameraModel,
    colour_camera: CameraModel,
    T_colour_depth: ArrayLike,
) -> NDArray[np.float32]:
    """Resample depth to the colour camera's pixels as the RealSense driver does.

    The corners of each valid depth pixel are moved into the colour image; the rectangle between them takes that
    pixel's depth, and where rectangles overlap the nearest wins. As in librealsense the value is the depth **in the
    depth camera's frame** (the imagers are parallel, the difference is well under a millimetre), and footprints that
    leave the image are dropped.

    Args:
        depth_m: [H, W] of the depth camera, metres, NaN where invalid.
        depth_camera: The depth camera.
        colour_camera: The colour camera.
        T_colour_depth: [4, 4], takes points of the depth frame to the colour frame, metres.

    Returns:
        float32 [H, W] of the colour camera, metres, NaN where nothing lands.

    Raises:
        CameraError: Sizes don't fit.
    """
    if depth_m.shape != (depth_camera.height, depth_camera.width):
        raise CameraError(
            "depth image and camera differ in size",
            expected=f"[{depth_camera.height}, {depth_camera.width}]",
            got=list(depth_m.shape),
        )
    transform = np.asarray(T_colour_depth, np.float64)
    if transform.shape != (4, 4):
        raise CameraError("transform has the wrong shape", expected="[4, 4]", got=list(transform.shape))
    z = np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.nan).astype(np.float64).ravel()
    if not any(colour_camera.distortion) and find_spec("numba") is not None:
        from realdiff_core.alignment_compiled import spread

        first, last = (_rotated_rays(depth_camera, offset, transform[:3, :3].tobytes()) for offset in (-0.5, 0.5))
        intrinsics = (colour_camera.fx, colour_camera.fy, colour_camera.cx, colour_camera.cy)
        size = (colour_camera.height, colour_camera.width)
        shift = np.ascontiguousarray(transform[:3, 3])
        return spread(z, first, last, shift, intrinsics, size[1], size[0]).reshape(size)
    return _align_with_numpy(z, depth_camera, colour_camera, transform)


def _align_with_numpy(
    z: NDArray[np.float64], depth_camera: CameraModel, colour_camera: CameraModel, transform: NDArray[np.float64]
) -> NDArray[np.float32]:
    """`align_depth_to_colour` for any colour camera, of depth [H·W] with NaN where invalid."""

    def corner(offset: float) -> NDArray[np.int32]:
        """int32 [2, H·W]: columns and rows of the pixels' corners in the colour image, negative where there is none."""
        x, y, w = _rotated_rays(depth_camera, offset, transform[:3, :3].tobytes())
        point = [ray * z + shift for ray, shift in zip((x, y, w), transform[:3, 3], strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):
            if any(colour_camera.distortion):
                pixels = colour_camera.project(np.stack(point, axis=-1)).T
            else:
                # Spelt out: on whole images `project` takes twice the time, and drivers align at 30 Hz.
                point[2][point[2] <= 0] = np.nan
                pixels = np.stack(
                    (
                        point[0] / point[2] * colour_camera.fx + colour_camera.cx,
                        point[1] / point[2] * colour_camera.fy + colour_camera.cy,
                    )
                )
            # Truncation after adding a half is librealsense's rounding; points behind the camera fall outside the
            # image.
            pixels += 0.5
            pixels[~((pixels > -1.0) & (pixels < 1 << 20))] = -2.0
        return pixels.astype(np.int32)

    first, last = corner(-0.5), corner(0.5)
    inside = np.flatnonzero(
        (first >= 0).all(axis=0)
        & (last >= 0).all(axis=0)
        & (last[0] < colour_camera.width)
        & (last[1] < colour_camera.height)
    )
    first, last, values = first[:, inside], last[:, inside], z[inside].astype(np.float32)
    aligned = np.full(colour_camera.height * colour_camera.width, np.inf, np.float32)
    start = first[1] * colour_camera.width + first[0]
    extent = last - first
    for dy in range(int(extent[1].max(initial=-1)) + 1):
        for dx in range(int(extent[0].max(initial=-1)) + 1):
            covered = (extent[0] >= dx) & (extent[1] >= dy)
            np.minimum.at(aligned, start[covered] + (dy * colour_camera.width + dx), values[covered])
    aligned[np.isinf(aligned)] = np.nan
    return aligned.reshape(colour_camera.height, colour_camera.width)
