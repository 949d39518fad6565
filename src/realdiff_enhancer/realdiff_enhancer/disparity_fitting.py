"""The parameters of the model `disparity`, measured on pairs: the model without learning, given the data of the others.

Each is a statistic of the training pairs, by the model's own definitions: hole rates by distance to an edge and by
incidence (`DisparityModel.hole_causes`), the residual's strength by disparity, its correlation between neighbours. What
single pairs can't say (edges, size of holes, behaviour over time) stays as it was. Two limits: the outline of unknown
clean depth counts as an edge, as in the model; and a grain near the cells on which the model draws (4 and 16 px of the
image) comes out weaker than measured, by 12 % at widths of 3 and 12 px and 25 % at 2 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile
from realdiff_core.errors import ConfigError
from scipy.optimize import least_squares, nnls

from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.models.disparity import EDGE_ALONE_PX, DisparityModel, DisparityParameters, HoleCauses

__all__ = ["fit_disparity"]

_FAR_PX = 20.0  # of the reference: where the residual is the surface's own
_LARGE_PX = 2.0  # of the image: outliers don't belong to the error that sigma describes
_LAGS = (1, 2, 4, 8, 16, 32)  # px of the image
_LEAST_PIXELS = 2000


def fit_disparity(
    packs: Sequence[PairPack],
    start: DisparityParameters,
    profile: CameraProfile,
    on_frame: Callable[[], None] = lambda: None,
) -> DisparityParameters:
    """Measures the parameters on the training pairs of some packs.

    Args:
        packs: Pairs; their validation pairs are left out.
        start: Gives the nodes of the hole tables and what isn't measured.
        profile: Camera of the pairs.
        on_frame: Called after every pair.

    Returns:
        The parameters; a node of a hole table that fewer than 2000 pixels belong to lies between its neighbours.

    Raises:
        ConfigError: There is too little depth to measure.
    """
    model = DisparityModel(start, profile)
    holes = _Holes(start)
    error = _Error()
    for pack in packs:
        height, width = pack.clean_01mm.shape[1:]
        fx, fy, cx, cy = (float(pack.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        camera = CameraModel(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy, baseline_m=pack.baseline_m)
        for index in pack.training_indices():
            clean, noisy = pack.clean_m(int(index)), pack.noisy_m(int(index))
            causes = model.hole_causes(clean, camera)
            # beyond the camera's range the model leaves depth alone
            clean = np.where((clean >= profile.near_m) & (clean <= profile.far_m), clean, np.float32(np.nan))
            holes.add(clean, noisy, causes, start.scale(camera))
            error.add(clean, noisy, causes, camera, start.scale(camera))
            on_frame()
    return DisparityParameters.model_validate({**start.model_dump(), **holes.rates(), **error.parameters(start)})


class _Holes:
    """Counts holes by their causes."""

    def __init__(self, parameters: DisparityParameters) -> None:
        self._parameters = parameters
        self._by_distance = _Rates(parameters.hole_edge_distance_px, parameters.hole_edge_rate)
        self._by_cosine = _Rates(parameters.hole_incidence_cos, parameters.hole_incidence_rate)
        self._shadow = _Rates([0.0], [parameters.shadow_rate])

    def add(self, clean: NDArray[np.float32], noisy: NDArray[np.float32], causes: HoleCauses, scale: float) -> None:
        """Counts a frame."""
        known, hole = np.isfinite(clean), ~np.isfinite(noisy)
        lit = known & ~causes.shadow
        edge = max(_FAR_PX, EDGE_ALONE_PX / scale)
        frontal = causes.cosine >= self._parameters.hole_incidence_cos[-2:][0]
        self._by_distance.add(causes.distance_px, hole, lit & (frontal | (causes.distance_px < EDGE_ALONE_PX / scale)))
        self._by_cosine.add(causes.cosine, hole, lit & (causes.distance_px > edge))
        self._shadow.add(np.zeros_like(clean), hole, known & causes.shadow)

    def rates(self) -> dict[str, Any]:
        """The parameters that say how many holes there are."""
        return {
            "hole_edge_rate": self._by_distance.measured(),
            "hole_incidence_rate": self._by_cosine.measured(),
            "shadow_rate": self._shadow.measured()[0],
        }


class _Rates:
    """Share of holes at the nodes of a table: of the pixels that are nearest to each."""

    def __init__(self, nodes: Sequence[float], rates: Sequence[float]) -> None:
        self._nodes, self._before = nodes, rates
        self._between = [(a + b) / 2 for a, b in zip(nodes[:-1], nodes[1:], strict=True)]
        self._holes, self._all = np.zeros(len(nodes)), np.zeros(len(nodes))

    def add(self, cause: NDArray[np.float32], hole: NDArray[np.bool_], counted: NDArray[np.bool_]) -> None:
        node = np.digitize(cause[counted], self._between)
        self._all += np.bincount(node, minlength=len(self._all))
        self._holes += np.bincount(node, weights=hole[counted], minlength=len(self._all))

    def measured(self) -> list[float]:
        enough = self._all >= _LEAST_PIXELS
        if not enough.any():
            return list(self._before)
        shares = self._holes[enough] / self._all[enough]
        return [round(float(r), 4) for r in np.interp(self._nodes, np.asarray(self._nodes)[enough], shares)]


class _Error:
    """Gathers the residual's strength and its correlation, in pixels of disparity."""

    def __init__(self) -> None:
        self._strength: list[tuple[float, float, float, float]] = []  # disparity, σ, scale, pixels
        self._correlation: list[tuple[float, float, float, float]] = []  # lag in x, in y, correlation, pairs

    def add(
        self,
        clean: NDArray[np.float32],
        noisy: NDArray[np.float32],
        causes: HoleCauses,
        camera: CameraModel,
        scale: float,
    ) -> None:
        """Measures a frame."""
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.float32(camera.disparity_factor) / clean
            residual = np.float32(camera.disparity_factor) / noisy - disparity
        mask = np.isfinite(residual) & (causes.distance_px > _FAR_PX) & ~causes.shadow & (np.abs(residual) < _LARGE_PX)
        if mask.sum() < _LEAST_PIXELS:
            return
        values, at = residual[mask], disparity[mask]
        centre = np.median(values)
        for low, high in zip(*(np.quantile(at, q) for q in ((0, 0.25, 0.5, 0.75), (0.25, 0.5, 0.75, 1))), strict=True):
            inside = (at >= low) & (at <= high)
            # robust: 1.4826 · median absolute deviation is σ of a normal distribution
            sigma = 1.4826 * float(np.median(np.abs(values[inside] - centre)))
            self._strength.append((float(at[inside].mean()), sigma, scale, float(inside.sum())))
        centred = np.where(mask, residual - centre, 0).astype(np.float64)
        for lag in _LAGS:
            for x, y in ((lag, 0), (0, lag)):
                here, there = (slice(y, None), slice(x, None)), (slice(None, -y or None), slice(None, -x or None))
                both = mask[here] & mask[there]
                a, b = centred[here][both], centred[there][both]
                power = float(np.sqrt((a @ a) * (b @ b)))
                if both.sum() >= _LEAST_PIXELS and power > 0:
                    self._correlation.append((x / scale, y / scale, float(a @ b) / power, float(both.sum())))

    def parameters(self, start: DisparityParameters) -> dict[str, Any]:
        """The parameters that describe the error away from edges."""
        if not self._strength or not self._correlation:
            raise ConfigError(
                "the pairs hold too little depth to measure its noise",
                expected=f"pairs with {_LEAST_PIXELS} measured pixels farther than {_FAR_PX:g} px from depth edges",
                next_step="give pairs of larger surfaces",
            )
        at, sigma, scale, count = np.array(self._strength).T
        weight = np.sqrt(count)
        # σ = sigma_px · scale + sigma_relative · disparity
        (constant, relative), _ = nnls(np.stack([scale, at], axis=1) * weight[:, None], sigma * weight)
        x, y, measured, pairs = np.array(self._correlation).T

        def model(values: NDArray[np.float64]) -> NDArray[np.float64]:
            fine, coarse, share, anisotropy = values
            # white noise blurred by a Gaussian of width w has the correlation exp(−lag² / 4w²)
            squares = x**2 / anisotropy + y**2 * anisotropy
            return share * np.exp(-squares / (4 * fine**2)) + (1 - share) * np.exp(-squares / (4 * coarse**2))

        bounds = ((2, 4, 0, 0.25), (32, 64, 1, 4))
        first = (start.fine_scale_px, start.coarse_scale_px, start.fine_share, start.anisotropy)
        fitted = least_squares(
            lambda values: (model(values) - measured) * np.sqrt(pairs / pairs.max()),
            np.clip(first, *bounds),
            bounds=bounds,
        ).x
        names = ("fine_scale_px", "coarse_scale_px", "fine_share", "anisotropy")
        shape = {name: round(float(value), 3) for name, value in zip(names, fitted, strict=True)}
        strength = {
            "sigma_px": round(min(float(constant), 5.0), 5),
            "sigma_relative": round(min(float(relative), 0.1), 6),
        }
        return strength | shape
