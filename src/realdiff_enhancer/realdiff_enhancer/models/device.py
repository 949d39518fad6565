"""Which device evaluates a model's networks."""

from __future__ import annotations

from typing import Literal

import torch
from realdiff_core.errors import ConfigError

__all__ = ["Backend", "pick_device"]

#: "torch"; "openvino": on a CPU the two-stage model's networks run in OpenVINO (requirements/openvino.txt).
Backend = Literal["torch", "openvino"]


def pick_device(device: str) -> tuple[torch.device, Backend]:
    """The device of a name and what evaluates the networks there.

    Args:
        device: a name of torch's; "auto" takes a GPU where there is one; "openvino" is the CPU with OpenVINO.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu"), "torch"
    if device == "openvino":
        return torch.device("cpu"), "openvino"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device", got=device, next_step="use --device cpu, or install a CUDA build of torch")
    try:
        return torch.device(device), "torch"
    except RuntimeError as error:
        raise ConfigError(
            "unknown device", expected="auto, cpu, cuda, cuda:N or openvino", got=repr(device), next_step="choose one"
        ) from error
