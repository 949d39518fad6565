"""Monocular baselines: depth predicted from the colour image, in place of the clean depth.

A metric checkpoint is taken as it is. A relative one predicts inverse depth up to an unknown scale and shift; both are
fitted to every frame's clean depth, in inverse depth, by robust least squares: the usual protocol for such models
(Ranftl et al., "Towards Robust Monocular Depth Estimation", 2022, section 5).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from realdiff_core.errors import ConfigError, RealdiffError

from realdiff_enhancer.models.base import DepthFrames, EnhancedFrames, require_colour
from realdiff_enhancer.models.stereo import disparity_to_depth, keep_range

if TYPE_CHECKING:
    import torch
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import CameraProfile

__all__ = [
    "MonocularModel",
    "MonocularParameters",
    "absent_package",
    "fit_scale_shift",
    "torch_device",
    "unusable_folder",
    "weights_folder",
    "weights_sha256",
]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_FITTED_PIXELS = 20_000  # scale and shift of a frame are sharp with far fewer
_FITS = 4  # each with the size of error of the one before; the fourth changes little
_EXACT = 1e-9  # relative error below which there is nothing left to fit


class MonocularParameters(BaseModel):
    """Parameters that all monocular models have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alignment: Literal["auto", "none", "scale_shift"] = Field(
        description="fit scale and shift to the clean depth; auto: only for a relative checkpoint"
    )


class MonocularModel(ABC):
    """Replaces clean depth by what a network predicts from colour.

    Args:
        parameters: Alignment.
        profile: Camera: its range limits where depth is replaced.
        relative: The network predicts inverse depth up to scale and shift; otherwise depth in metres.
        weights_sha256: Hash of the weights.

    Raises:
        ConfigError: A relative network without alignment.
    """

    name: str
    history = 0
    uses_colour = True

    def __init__(
        self, parameters: MonocularParameters, profile: CameraProfile, *, relative: bool, weights_sha256: str | None
    ) -> None:
        """Keeps the parts."""
        if relative and parameters.alignment == "none":
            raise ConfigError(
                "the checkpoint predicts relative depth, which means nothing without alignment",
                where=f"model {self.name!r}, key alignment",
                expected="auto or scale_shift",
                got="none",
                next_step="correct the key, or take a metric checkpoint",
            )
        self.parameters = parameters
        self.profile = profile
        self.relative = relative
        self.weights_sha256 = weights_sha256

    @abstractmethod
    def predict(self, colour: NDArray[np.uint8], camera: CameraModel) -> NDArray[np.float32]:
        """What the network makes of one image.

        Args:
            colour: uint8 [H,W,3] RGB.
            camera: Its intrinsics.

        Returns:
            float32 [H,W]: metres, or inverse depth up to scale and shift where `relative`.
        """

    def enhance(self, frames: DepthFrames) -> EnhancedFrames:
        """Returns the predicted depth: nearer than the near limit becomes a hole, beyond the far limit is left alone.

        Raises:
            ImageError: The frames have no colour.
        """
        colours = require_colour(frames, self.name)
        # One by one, so that a frame's result can't depend on what comes with it.
        depth = np.empty_like(frames.depth)
        for number, (clean, colour) in enumerate(zip(frames.depth, colours, strict=True)):
            depth[number] = self._depth(clean, self.predict(colour, frames.camera))
        keep_range(frames.depth, depth, self.profile)
        return EnhancedFrames(depth=depth)

    def _depth(self, clean: NDArray[np.float32], predicted: NDArray[np.float32]) -> NDArray[np.float32]:
        """Metres, float32 [H,W]; NaN where the prediction isn't a distance (at or behind infinity after alignment)."""
        if self.parameters.alignment == "none" or (self.parameters.alignment == "auto" and not self.relative):
            return np.where(np.isfinite(predicted) & (predicted > 0), predicted, np.float32(np.nan))
        inverse = predicted if self.relative else disparity_to_depth(predicted, 1.0)
        with np.errstate(invalid="ignore"):
            usable = (clean >= self.profile.near_m) & (clean <= self.profile.far_m) & np.isfinite(inverse)
        if not usable.any():
            return np.full_like(clean, np.nan)
        scale, shift = fit_scale_shift(inverse[usable], 1.0 / clean[usable])
        return disparity_to_depth((scale * inverse + shift).astype(np.float32), 1.0)


def fit_scale_shift(predicted: NDArray[np.floating], target: NDArray[np.floating]) -> tuple[float, float]:
    """Fits target ≈ scale · predicted + shift, robust to outliers.

    Least squares with the Cauchy loss on evenly spread pixels. The size of error from which on a pixel counts less
    follows from the median absolute deviation of the fit before, plain least squares at first.

    Args:
        predicted: [N], any unit; at least one value.
        target: [N], 1/m.

    Returns:
        Scale and shift. A prediction that is the same everywhere gives scale 0.
    """
    from scipy.optimize import least_squares

    step = -(-len(predicted) // _FITTED_PIXELS)
    x, y = np.asarray(predicted[::step], np.float64), np.asarray(target[::step], np.float64)
    centre, spread = float(x.mean()), float(x.std())
    if spread == 0.0:
        return 0.0, float(np.median(y))
    jacobian = np.stack([(x - centre) / spread, np.ones_like(x)], axis=1)
    fit = np.linalg.lstsq(jacobian, y, rcond=None)[0]
    for _ in range(_FITS):
        sigma = _MAD_TO_SIGMA * float(np.median(np.abs(jacobian @ fit - y)))
        if sigma <= _EXACT * float(np.abs(y).max()):
            break
        fit = least_squares(lambda p: jacobian @ p - y, fit, jac=lambda _: jacobian, loss="cauchy", f_scale=sigma).x
    return float(fit[0] / spread), float(fit[1] - fit[0] * centre / spread)


def torch_device(device: str, model: str) -> torch.device:
    """The torch device of a name.

    Raises:
        ConfigError: It is unknown, absent, or not torch's.
    """
    from realdiff_enhancer.models.device import pick_device

    place, backend = pick_device(device)
    if backend != "torch":
        raise ConfigError(
            f"the model {model!r} runs in torch", expected="auto, cpu or cuda", got=device, next_step="choose one"
        )
    return place


def weights_folder(folder: Path | None, model: str, files: tuple[str, ...], source: str) -> Path:
    """Checks that a local folder holds a checkpoint as safetensors.

    Args:
        folder: What the user gave as weights.
        model: Name of the model.
        files: Names or patterns of the files that must be there.
        source: How to get the folder.

    Raises:
        ConfigError: No folder, a file is missing, or the weights are a pickle, which could run anything when read.
    """
    expected = f"a local folder with {' and '.join(files)}"
    next_step = f"get it with: {source}; then give FOLDER as the weights"
    if folder is None:
        raise ConfigError(
            f"the model {model!r} has no shipped weights", expected=expected, got="none", next_step=next_step
        )
    missing = [name for name in files if not any(folder.glob(name))]
    if missing:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        got = "no folder" if not folder.is_dir() else f"no {missing[0]}"
        if pickles and any(name.endswith(".safetensors") for name in missing):
            got = f"weights as a pickle only ({pickles[0]}), which isn't read: it can run any program"
        raise ConfigError(
            f"the weights of {model!r} are not there", where=folder, expected=expected, got=got, next_step=next_step
        )
    return folder


def absent_package(model: str, package: str, error: Exception, next_step: str) -> RealdiffError:
    """The error for a library that can't be imported."""
    return RealdiffError(
        f"the model {model!r} needs {package}, which can't be imported",
        expected=f"{package} and what it needs",
        got=str(error),
        next_step=next_step,
    )


def unusable_folder(model: str, folder: Path, network: str, got: str | Exception, source: str) -> ConfigError:
    """The error for a folder that holds all files and can't be loaded nevertheless."""
    if isinstance(got, Exception):
        got = f"{type(got).__name__}: {str(got).strip().splitlines()[0][:200]}"
    return ConfigError(
        f"the weights of {model!r} can't be loaded",
        where=folder,
        expected=f"a checkpoint of {network}",
        got=got,
        next_step=f"get it again with: {source}",
    )


def weights_sha256(folder: Path) -> str:
    """Hash of a folder's safetensors and of the settings beside them, in the order of their names; hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
