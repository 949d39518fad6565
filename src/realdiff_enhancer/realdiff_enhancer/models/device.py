"""Which device evaluates a model's networks."""

from __future__ import annotations

from typing import Literal

import torch
from realdiff_core.errors import ConfigError

__all__ = ["Backend", "pick_device"]

#: "torch"; for the two-stage model's networks also "openvino" on a CPU (requirements/openvino.txt) and "compiled" on a
#: GPU (torch.compile: it takes a while to start, then one frame alone is faster).
Backend = Literal["torch", "openvino", "compiled"]

_COMPILED = "cuda-compiled"


def pick_device(device: str) -> tuple[torch.device, Backend]:
    """The device of a name and what evaluates the networks there.

    Args:
        device: a name of torch's; "auto" takes a GPU where there is one; "openvino" is the CPU with OpenVINO,
            "cuda-compiled" the GPU with compiled networks.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu"), "torch"
    if device == "openvino":
        return torch.device("cpu"), "openvino"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device", got=device, next_step="use --device cpu, or install a CUDA build of torch")
    if device == _COMPILED:
        return torch.device("cuda"), "compiled"
    try:
        return torch.device(device), "torch"
    except RuntimeError as error:
        raise ConfigError(
            "unknown device",
            expected=f"auto, cpu, cuda, cuda:N, {_COMPILED} or openvino",
            got=repr(device),
            next_step="choose one",
        ) from error
