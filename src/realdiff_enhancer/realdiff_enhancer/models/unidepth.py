"""UniDepth v2 (Piccinelli et al. 2025) as a baseline, through its authors' package, from a local folder."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from realdiff_core.errors import ConfigError

from realdiff_enhancer.models.monocular import (
    MonocularModel,
    MonocularParameters,
    absent_package,
    torch_device,
    unusable_folder,
    weights_folder,
    weights_sha256,
)
from realdiff_enhancer.models.parameters import load_parameters

if TYPE_CHECKING:
    from realdiff_core.camera import CameraModel
    from realdiff_core.config import CameraProfile

__all__ = ["PACKAGE", "SOURCE", "UniDepthModel", "UniDepthParameters"]

#: Where the weights and the package can be had, for messages. The package is on no registry.
SOURCE = "hf download lpiccinelli/unidepth-v2-vits14 --local-dir FOLDER"
PACKAGE = "pip install git+https://github.com/lpiccinelli-eth/UniDepth (CC BY-NC 4.0: not for commercial use)"
_FILES = ("config.json", "model.safetensors")


class UniDepthParameters(MonocularParameters):
    """Parameters of the model `unidepth`."""

    resolution_level: int = Field(ge=0, le=9, description="pixels that the network sees: 0 fewest (fast), 9 most")


class UniDepthModel(MonocularModel):
    """UniDepth v2; it is told the camera's intrinsics.

    Args:
        network: unidepth's UniDepthV2, on its device.
        parameters: Alignment and resolution.
        profile: Camera: its range limits.
        weights_sha256: Hash of the weights.
    """

    name = "unidepth"
    parameters: UniDepthParameters

    def __init__(
        self,
        network: Any,
        parameters: UniDepthParameters,
        profile: CameraProfile,
        weights_sha256: str | None = None,
    ) -> None:
        """Keeps the network."""
        super().__init__(parameters, profile, relative=False, weights_sha256=weights_sha256)
        self.network = network.eval().requires_grad_(False)
        self.network.resolution_level = parameters.resolution_level
        self.device = network.device

    @classmethod
    def from_folder(cls, folder: Path | None, profile: CameraProfile, device: str = "auto") -> UniDepthModel:
        """Loads a local folder as `UniDepthV2.from_pretrained` reads it; nothing is ever downloaded.

        Args:
            folder: config.json and model.safetensors.
            profile: Camera profile; its `noise.unidepth` may change the parameters.
            device: "auto", "cpu" or "cuda".

        Raises:
            ConfigError: The folder lacks a file, a file doesn't fit, or the parameters or the device are wrong.
            RealdiffError: unidepth is not installed.
        """
        root = weights_folder(folder, cls.name, _FILES, SOURCE)
        parameters = load_parameters(UniDepthParameters, cls.name, profile)
        place = torch_device(device, cls.name)
        _check_config(root)
        return cls(_load(root).to(place), parameters, profile, weights_sha256(root))

    def predict(self, colour: NDArray[np.uint8], camera: CameraModel) -> NDArray[np.float32]:
        """See `MonocularModel.predict`."""
        import torch

        image = torch.from_numpy(np.ascontiguousarray(colour)).permute(2, 0, 1)
        # A batch of one: unidepth scales the matrix in place, so it gets one of its own.
        matrix = torch.from_numpy(np.array(camera.K, np.float32))[None]
        with torch.inference_mode():
            depth = self.network.infer(image, matrix)["depth"]
        return np.asarray(depth.reshape(colour.shape[:2]).float().cpu().numpy(), np.float32)


def _check_config(root: Path) -> None:
    """Refuses a configuration that would make unidepth fetch or unpickle a backbone of its own.

    Raises:
        ConfigError: It would, or it isn't UniDepth's.
    """
    try:
        encoder = json.loads((root / "config.json").read_text(encoding="utf-8"))["model"]["pixel_encoder"]
        name, pretrained = str(encoder["name"]), encoder["pretrained"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(root, f"config.json: {type(error).__name__} {error}") from error
    if not name.startswith("dinov2") or pretrained is not None:
        raise _unusable(root, f"a backbone that is fetched elsewhere: {name}, pretrained {pretrained!r}")


def _load(root: Path) -> Any:
    try:
        from unidepth.models import UniDepthV2
    except (ImportError, OSError, RuntimeError) as error:  # torch and torchvision of different builds are the last
        raise absent_package(UniDepthModel.name, "unidepth", error, PACKAGE) from error
    from safetensors import safe_open

    try:
        with contextlib.redirect_stdout(sys.stderr):  # it talks
            network = UniDepthV2.from_pretrained(str(root), local_files_only=True)
        with safe_open(root / "model.safetensors", "pt") as file:
            there = set(file.keys())
    except Exception as error:  # of the files, of torch, of unidepth: all mean the same here
        raise _unusable(root, error) from error
    names: dict[int, set[str]] = {}  # a tensor that several layers share is stored once
    for name, tensor in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), set()).add(name)
    absent = sorted(min(group) for group in names.values() if not group & there)
    if absent:  # from_pretrained leaves these at random values
        raise _unusable(root, f"weights that are missing: {', '.join(absent[:3])}, …")
    return network


def _unusable(root: Path, got: str | Exception) -> ConfigError:
    return unusable_folder(UniDepthModel.name, root, "UniDepthV2", got, SOURCE)
