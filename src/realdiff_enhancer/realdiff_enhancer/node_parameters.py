"""Parameters of the node `depth_enhancer`: one table for declaration, description and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from realdiff_core.topics import DEPTH_IMAGE

from realdiff_enhancer.models.registry import DEFAULT_MODEL, model_names

__all__ = ["PARAMETERS", "Parameter", "declare"]


@dataclass(frozen=True)
class Parameter:
    """One read-only parameter."""

    name: str
    default: str | int | bool
    description: str
    bounds: tuple[int, int] | None = None


PARAMETERS = (
    Parameter("input_topic", DEPTH_IMAGE, "clean depth image topic, 16UC1 or 32FC1"),
    Parameter("output_topic", "", "enhanced depth image topic; empty: /realdiff and the input's name"),
    Parameter("model", DEFAULT_MODEL, f"enhancer model: {', '.join(model_names())}"),
    Parameter("profile", "d435", "camera profile (config/cameras), or the path of a profile's .yaml file"),
    Parameter("weights", "", "folder of learned weights; empty: what ships for the profile"),
    Parameter("seed", 0, "seed of the noise; the same seed and stamps give the same noise", (0, 2**63 - 1)),
    Parameter("steps", 0, "sampling steps a stage; 0: the model's default", (0, 1000)),
    Parameter("device", "auto", "auto, cpu or cuda"),
    Parameter("queue_size", 30, "frames that may wait; older ones are dropped and counted", (1, 1000)),
    Parameter("override_provenance", False, "expert: enhance depth that is noisy or of unknown origin nevertheless"),
)


def declare(node: Any, parameter: Parameter) -> None:
    """Declares a parameter with its description and range."""
    descriptor = ParameterDescriptor(description=parameter.description, read_only=True)
    if parameter.bounds is not None:
        low, high = parameter.bounds
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    node.declare_parameter(parameter.name, parameter.default, descriptor)
