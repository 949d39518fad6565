"""Depth Anything (Yang et al. 2024, v1 and v2) as a baseline, through `transformers`, from a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
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

__all__ = ["SOURCE", "DepthAnythingModel"]

#: Where the weights can be had, for messages.
SOURCE = "hf download depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf --local-dir FOLDER"
_FILES = ("config.json", "preprocessor_config.json", "*.safetensors")


class DepthAnythingModel(MonocularModel):
    """Depth Anything.

    Args:
        network: transformers' DepthAnythingForDepthEstimation, on its device.
        processor: The image processor that belongs to it.
        parameters: Alignment.
        profile: Camera: its range limits.
        weights_sha256: Hash of the weights.

    Raises:
        ConfigError: A relative checkpoint without alignment.
    """

    name = "depth_anything"

    def __init__(
        self,
        network: Any,
        processor: Any,
        parameters: MonocularParameters,
        profile: CameraProfile,
        weights_sha256: str | None = None,
    ) -> None:
        """Keeps the network."""
        relative = network.config.depth_estimation_type == "relative"
        super().__init__(parameters, profile, relative=relative, weights_sha256=weights_sha256)
        self.network = network.eval().requires_grad_(False)
        self.processor = processor
        self.device = network.device

    @classmethod
    def from_folder(cls, folder: Path | None, profile: CameraProfile, device: str = "auto") -> DepthAnythingModel:
        """Loads a local folder as transformers writes it; nothing is ever downloaded.

        Args:
            folder: config.json, preprocessor_config.json and weights as safetensors.
            profile: Camera profile; its `noise.depth_anything` may change the parameters.
            device: "auto", "cpu" or "cuda".

        Raises:
            ConfigError: The folder lacks a file, a file doesn't fit, or the parameters or the device are wrong.
            RealdiffError: transformers is not installed.
        """
        root = weights_folder(folder, cls.name, _FILES, SOURCE)
        parameters = load_parameters(MonocularParameters, cls.name, profile)
        place = torch_device(device, cls.name)
        network, processor = _load(root)
        return cls(network.to(place), processor, parameters, profile, weights_sha256(root))

    def predict(self, colour: NDArray[np.uint8], camera: CameraModel) -> NDArray[np.float32]:
        """See `MonocularModel.predict`; the camera is not used."""
        import torch

        inputs = self.processor(images=colour, input_data_format="channels_last", return_tensors="pt").to(self.device)
        with torch.inference_mode():
            output = self.network(**inputs)
            sizes = [colour.shape[:2]]
            depth = self.processor.post_process_depth_estimation(output, target_sizes=sizes)[0]["predicted_depth"]
        return np.asarray(depth.float().cpu().numpy(), np.float32)


def _load(root: Path) -> tuple[Any, Any]:
    """The network and its image processor."""
    try:
        from transformers import AutoImageProcessor, DepthAnythingForDepthEstimation
        from transformers.utils import logging
    except (ImportError, OSError, RuntimeError) as error:
        next_step = "pip install -r requirements/monocular.txt"
        raise absent_package(DepthAnythingModel.name, "transformers", error, next_step) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what matters of its report is an error of ours
    local = {"local_files_only": True}
    try:
        processor = AutoImageProcessor.from_pretrained(str(root), backend="pil", **local)
        network, info = DepthAnythingForDepthEstimation.from_pretrained(
            str(root), use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **local
        )
    except Exception as error:  # of the files, of torch, of the libraries' own checks: all mean the same here
        raise _unusable(root, error) from error
    absent = [*sorted(info["missing_keys"]), *sorted(key for key, *_ in info["mismatched_keys"])]
    if absent:  # left at random values
        raise _unusable(root, f"weights that are missing or of another shape: {', '.join(absent[:3])}, …")
    return network, processor


def _unusable(root: Path, got: str | Exception) -> ConfigError:
    network = "transformers' DepthAnythingForDepthEstimation"
    return unusable_folder(DepthAnythingModel.name, root, network, got, SOURCE)
