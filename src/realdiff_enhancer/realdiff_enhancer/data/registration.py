"""Camera motion from depth alone: alignment of inverse-depth images.

A stereo camera's error is close to uniform in disparity, so frames are aligned where the error is uniform too. A point
of frame i seen at pixel u of frame j gives the residual ``w_j(u) - 1/z`` (inverse depths, in px of disparity after
scaling by fx·baseline): the projective point-to-plane residual, weighted as the sensor's noise demands. Metres would
let far, noisy surfaces drown near ones. A plane's inverse depth is linear in the pixel, so bilinear sampling is exact
on planes.

Poses are 4x4 float64 ``T_world_camera`` (camera: optical frame, x right, y down, z forward; metres).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

FloatArray = npt.NDArray[np.floating]


class RegistrationConfig(BaseModel):
    """How frames are aligned; every length is in the unit its name ends with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    near_m: float = Field(default=0.15, gt=0, description="depth under which a pixel is ignored")
    far_m: float = Field(default=6.0, gt=0, description="depth over which a pixel is ignored")
    smooth_px: int = Field(
        default=5, ge=1, description="side of the box filter applied to inverse depth before alignment"
    )
    edge_px: float = Field(
        default=1.0, gt=0, description="disparity range over the box above which a pixel counts as an edge"
    )
    strides: tuple[int, ...] = Field(default=(12, 6, 4), description="pixel step of the sampled points, coarse to fine")
    gates_px: tuple[float, ...] = Field(
        default=(4.0, 1.5, 0.6), description="disparity residual over which a match is dropped"
    )
    iterations: tuple[int, ...] = Field(default=(12, 10, 8), description="Gauss-Newton steps a level")
    prior: float = Field(default=30.0, ge=0, description="what leaving the predicted motion costs, px² per m² and rad²")
    search_deg: float = Field(
        default=8.0, ge=0, description="half-width of the rotations tried about the vertical image axis"
    )
    search_steps: int = Field(default=5, ge=1, description="number of rotations tried (1: only the prediction)")
    links: int = Field(default=6, ge=1, description="joint refinement: a frame is linked with this many earlier frames")
    joint_iterations: int = Field(
        default=12, ge=0, description="Gauss-Newton steps of the joint refinement of a window"
    )
    min_overlap: float = Field(default=0.25, ge=0, le=1, description="share of points that must match to link a pair")


@dataclass(frozen=True)
class InverseDepthFrame:
    """One frame prepared for alignment.

    Attributes:
        disparity: float32 [H,W], px, smoothed; NaN at holes and depth edges.
        gradient: float32 [2,H,W], px per px along columns (u) and rows (v); NaN where unknown.
        factor: fx·baseline in px·m, so that depth = factor / disparity.
        K: float64 [3,3].
    """

    disparity: npt.NDArray[np.float32]
    gradient: npt.NDArray[np.float32]
    factor: float
    K: npt.NDArray[np.float64]

    def points(self, stride: int) -> npt.NDArray[np.float64]:
        """Points of every ``stride``-th pixel that has a depth: float64 [N,3], m, camera frame."""
        rows, cols = np.mgrid[
            stride // 2 : self.disparity.shape[0] : stride, stride // 2 : self.disparity.shape[1] : stride
        ]
        d = self.disparity[rows, cols].astype(np.float64).ravel()
        keep = np.isfinite(d)
        z = self.factor / d[keep]
        x = (cols.ravel()[keep] - self.K[0, 2]) / self.K[0, 0] * z
        y = (rows.ravel()[keep] - self.K[1, 2]) / self.K[1, 1] * z
        return np.stack([x, y, z], axis=1)


@dataclass(frozen=True)
class Alignment:
    """Result of aligning one frame with another or with a rendered model.

    Attributes:
        T: float64 [4,4], source camera → target camera.
        overlap: share of the source points that found a match within the gate, 0 to 1.
        rms_px: root mean square residual of those matches, px of disparity.
        cost: mean truncated squared residual relative to the gate, 0 (perfect) to 1 (nothing matches).
    """

    T: npt.NDArray[np.float64]
    overlap: float
    rms_px: float
    cost: float


def prepare(depth_m: FloatArray, K: FloatArray, baseline_m: float, config: RegistrationConfig) -> InverseDepthFrame:
    """Smooth a depth map in inverse depth and mark its edges.

    Args:
        depth_m: float [H,W], m, NaN or 0 = hole.
        K: float [3,3], px.
        baseline_m: stereo baseline; only scales residuals to px of disparity.
        config: ranges and filter sizes.
    """
    import cv2

    factor = float(K[0, 0]) * baseline_m
    valid = np.isfinite(depth_m) & (depth_m >= config.near_m) & (depth_m <= config.far_m)
    raw = np.where(valid, factor / np.where(valid, depth_m, 1.0), 0.0).astype(np.float32)
    box = (config.smooth_px, config.smooth_px)
    weight = cv2.boxFilter(valid.astype(np.float32), -1, box, borderType=cv2.BORDER_CONSTANT)
    smooth = cv2.boxFilter(raw, -1, box, borderType=cv2.BORDER_CONSTANT) / np.maximum(weight, 1e-6)
    kernel = np.ones(box, np.uint8)
    high = cv2.dilate(np.where(valid, raw, -1e9).astype(np.float32), kernel)
    low = cv2.erode(np.where(valid, raw, 1e9).astype(np.float32), kernel)
    # A box that is not nearly full is off-centre: its mean is biased on slopes.
    good = valid & (weight > 0.95) & (high - low < config.edge_px)
    disparity = np.where(good, smooth, np.nan).astype(np.float32)
    gradient = np.full((2, *disparity.shape), np.nan, np.float32)
    gradient[0, :, 1:-1] = (disparity[:, 2:] - disparity[:, :-2]) / 2
    gradient[1, 1:-1, :] = (disparity[2:, :] - disparity[:-2, :]) / 2
    return InverseDepthFrame(disparity, gradient, factor, np.asarray(K, np.float64))


def se3_exp(xi: FloatArray) -> npt.NDArray[np.float64]:
    """Exponential of a twist [6] (translation m, rotation rad) as a 4x4 transform."""
    from scipy.spatial.transform import Rotation

    v, w = np.asarray(xi[:3], np.float64), np.asarray(xi[3:], np.float64)
    theta = float(np.linalg.norm(w))
    W = np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
    if theta < 1e-8:
        V = np.eye(3) + W / 2
    else:
        V = np.eye(3) + (1 - np.cos(theta)) / theta**2 * W + (theta - np.sin(theta)) / theta**3 * (W @ W)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(w).as_matrix()
    T[:3, 3] = V @ v
    return T


@dataclass(frozen=True)
class _Linearised:
    """Residuals of one pair: J [M,6] px per twist applied on the left of T, r [M] px, weights [M]; counts and cost."""

    J: npt.NDArray[np.float64]
    r: npt.NDArray[np.float64]
    w: npt.NDArray[np.float64]
    seen: int
    cost: float


def _linearise(points: FloatArray, target: InverseDepthFrame, T: FloatArray, gate_px: float) -> _Linearised:
    q = points @ T[:3, :3].T + T[:3, 3]
    q = q[q[:, 2] > 0.05]
    K, factor = target.K, target.factor
    iz = 1.0 / q[:, 2]
    u, v = K[0, 0] * q[:, 0] * iz + K[0, 2], K[1, 1] * q[:, 1] * iz + K[1, 2]
    h, w = target.disparity.shape
    inside = (u >= 1) & (u < w - 2) & (v >= 1) & (v < h - 2)
    q, u, v, iz = q[inside], u[inside], v[inside], iz[inside]
    col, row = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - col, v - row
    D = target.disparity
    d = (D[row, col] * (1 - fu) + D[row, col + 1] * fu) * (1 - fv) + (
        D[row + 1, col] * (1 - fu) + D[row + 1, col + 1] * fu
    ) * fv
    near_row, near_col = np.rint(v).astype(np.int64), np.rint(u).astype(np.int64)
    gu, gv = target.gradient[0, near_row, near_col], target.gradient[1, near_row, near_col]
    r = d - factor * iz
    known = np.isfinite(d) & np.isfinite(gu) & np.isfinite(gv)
    matched = known & (np.abs(r) < gate_px)
    seen = int(known.sum())
    # Truncated cost: pixels that see something else count fully, so that a wrong pose with few matches can't win.
    cost = float(np.minimum((r[known] / gate_px) ** 2, 1.0).mean()) if seen else 1.0
    q, iz, gu, gv, r = (
        q[matched],
        iz[matched],
        gu[matched].astype(np.float64),
        gv[matched].astype(np.float64),
        r[matched],
    )
    a = gu * K[0, 0] * iz
    b = gv * K[1, 1] * iz
    c = -(a * q[:, 0] + b * q[:, 1]) * iz + factor * iz**2
    # d(residual)/d(point) = (a, b, c); d(point)/d(twist) = [I, -[q]x].
    J = np.stack([a, b, c, c * q[:, 1] - b * q[:, 2], a * q[:, 2] - c * q[:, 0], b * q[:, 0] - a * q[:, 1]], axis=1)
    weights = (1 - (r / gate_px) ** 2) ** 2  # Tukey
    return _Linearised(J, r, weights, seen, cost)


def align(
    source: InverseDepthFrame,
    target: InverseDepthFrame,
    initial: FloatArray,
    config: RegistrationConfig,
    *,
    levels: Sequence[int] | None = None,
) -> Alignment:
    """Align ``source`` with ``target`` from an initial guess.

    Directions that the scene does not determine (sliding along a plane) stay at the guess, held by a weak prior.

    Args:
        source: frame to move.
        target: frame, or rendered model, that stays.
        initial: [4,4], source camera → target camera.
        config: levels, gates and prior.
        levels: which of the config's levels to run, all by default.
    """
    T = np.array(initial, np.float64)
    gate = config.gates_px[-1]
    points = source.points(config.strides[-1])
    for level in levels if levels is not None else range(len(config.strides)):
        points, gate = source.points(config.strides[level]), config.gates_px[level]
        anchor = T.copy()
        damping = np.full(6, config.prior * (config.strides[-1] / config.strides[level]) ** 2)
        for _ in range(config.iterations[level]):
            lin = _linearise(points, target, T, gate)
            if lin.r.size < 50:
                break
            A = (lin.J * lin.w[:, None]).T @ lin.J + np.diag(damping)
            offset = T @ np.linalg.inv(anchor)
            drift = np.concatenate([offset[:3, 3], _rotation_vector(offset[:3, :3])])
            g = lin.J.T @ (lin.w * lin.r) + damping * drift
            step = -np.linalg.solve(A, g)
            T = se3_exp(step) @ T
            if float(np.abs(step).max()) < 1e-5:
                break
    lin = _linearise(points, target, T, gate)
    overlap = lin.r.size / max(len(points), 1)
    rms = float(np.sqrt(np.mean(lin.r**2))) if lin.r.size else float("inf")
    return Alignment(T, overlap, rms, lin.cost)


def _rotation_vector(R: FloatArray) -> npt.NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(R).as_rotvec())


def track(frames: Sequence[InverseDepthFrame], config: RegistrationConfig) -> list[npt.NDArray[np.float64]]:
    """First poses of a sequence: each frame against the one before, constant velocity plus a search over rotations.

    Returns:
        T_world_camera of each frame, the first one the identity.
    """
    poses = [np.eye(4)]
    velocity = np.eye(4)
    angles = np.zeros(1)
    if config.search_steps > 1:
        angles = np.radians(np.linspace(-config.search_deg, config.search_deg, config.search_steps))
    for previous, frame in zip(frames[:-1], frames[1:], strict=True):
        guesses = [velocity, np.eye(4)] + [
            se3_exp(np.array([0, 0, 0, 0, a, 0])) @ velocity for a in angles if abs(a) > 1e-9
        ]
        coarse = [align(frame, previous, guess, config, levels=[0]) for guess in guesses]
        coarse.sort(key=lambda c: c.cost + (1 - c.overlap))
        fine = [align(frame, previous, c.T, config, levels=range(1, len(config.strides))) for c in coarse[:2]]
        motion = min(fine, key=lambda c: c.cost + (1 - c.overlap)).T
        velocity = motion
        poses.append(poses[-1] @ motion)
    return poses


def refine_jointly(
    frames: Sequence[InverseDepthFrame], poses: Sequence[FloatArray], config: RegistrationConfig
) -> list[npt.NDArray[np.float64]]:
    """Refine all poses of a window together over many pairs, so that errors do not add up along the chain.

    Every frame is aligned with up to ``links`` earlier frames at growing distances; one Gauss-Newton system over all
    pairs and all poses (the first one fixed) is solved repeatedly.
    """
    n = len(frames)
    T = [np.array(p, np.float64) for p in poses]
    if n < 2:
        return T
    offsets = sorted({max(1, round(1.6**k)) for k in range(config.links + 2)})[: config.links]
    pairs = [(i, i - o) for i in range(n) for o in offsets if i - o >= 0]
    points = [f.points(config.strides[-1]) for f in frames]
    for iteration in range(config.joint_iterations):
        gate = config.gates_px[min(3 * iteration // config.joint_iterations, len(config.gates_px) - 1)]
        A, g = np.zeros((6 * n, 6 * n)), np.zeros(6 * n)
        for i, j in pairs:
            world_to_j = np.linalg.inv(T[j])
            lin = _linearise(points[i], frames[j], world_to_j @ T[i], gate)
            if lin.r.size < max(200, config.min_overlap * len(points[i])):
                continue
            # Steps are twists in the world frame, exp(x_i) T_i: map the pair's left twist (frame j) by the adjoint.
            J = lin.J @ _adjoint(world_to_j)
            H = (J * lin.w[:, None]).T @ J
            b = J.T @ (lin.w * lin.r)
            si, sj = slice(6 * i, 6 * i + 6), slice(6 * j, 6 * j + 6)
            A[si, si] += H
            A[sj, sj] += H
            A[si, sj] -= H
            A[sj, si] -= H
            g[si] += b
            g[sj] -= b
        A[np.diag_indices(6 * n)] += config.prior
        step = np.zeros(6 * n)
        step[6:] = -np.linalg.solve(A[6:, 6:], g[6:])
        T = [se3_exp(step[6 * k : 6 * k + 6]) @ T[k] for k in range(n)]
        if float(np.abs(step).max()) < 2e-5:
            break
    return T


def _adjoint(T: FloatArray) -> npt.NDArray[np.float64]:
    """Adjoint [6,6] for twists (translation, rotation)."""
    R, t = T[:3, :3], T[:3, 3]
    tx = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    out = np.zeros((6, 6))
    out[:3, :3] = out[3:, 3:] = R
    out[:3, 3:] = tx @ R
    return out
