"""Parameters of our nodes: one table for declaration, launch file, help text and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from realdiff_core.errors import ConfigError

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True)
class Parameter:
    """A parameter of a node.

    Attributes:
        name: Its name.
        default: Its default; also gives the type.
        description: What it does.
        choices: Allowed values; empty if free.
        bounds: Lowest and highest value of a number.
    """

    name: str
    default: str | int | float | bool
    description: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None


def describe(parameters: Sequence[Parameter]) -> list[str]:
    """Describes parameters for a help text, one a line."""
    lines = []
    width = max(len(item.name) for item in parameters)
    for item in parameters:
        choices = f" ({' | '.join(item.choices)})" if item.choices else ""
        default = str(item.default).lower() if isinstance(item.default, bool) else item.default
        lines.append(f"  {item.name:<{width}}  {item.description}{choices} [{default}]")
    return lines


def declare(node: Node, item: Parameter) -> Any:
    """Declares a parameter.

    Returns:
        Its value.

    Raises:
        ConfigError: The value that was given has another type, or lies outside the choices or bounds.
    """
    import rclpy
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(description=item.description, read_only=True)
    if item.choices:
        descriptor.additional_constraints = f"one of {', '.join(item.choices)}"
    if item.bounds is not None and isinstance(item.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=item.bounds[0], to_value=item.bounds[1])]
    elif item.bounds is not None:
        lowest, highest = (int(bound) for bound in item.bounds)
        descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
    try:
        value = node.declare_parameter(item.name, item.default, descriptor).value
    except (rclpy.exceptions.InvalidParameterValueException, rclpy.exceptions.InvalidParameterTypeException) as error:
        raise ConfigError(
            f"parameter {item.name} is wrong",
            expected=f"{type(item.default).__name__} {item.bounds or ''}".strip(),
            got=str(error),
            next_step=f"{item.name}: {item.description}",
        ) from error
    if item.choices and value not in item.choices:
        raise ConfigError(f"parameter {item.name} is wrong", expected=" or ".join(item.choices), got=value)
    return value
