"""Declares the parameters of this package's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from realdiff_core.errors import ConfigError
from realdiff_core.node_parameters import Parameter, check_choice

if TYPE_CHECKING:
    from rclpy.node import Node


def declare(node: Node, item: Parameter) -> Any:
    """Declares a parameter.

    Returns:
        Its value.

    Raises:
        ConfigError: The value that was given has another type, or lies outside the choices or bounds.
    """
    try:
        value = node.declare_parameter(item.name, item.default, _descriptor(item)).value
    except (InvalidParameterValueException, InvalidParameterTypeException) as error:
        raise ConfigError(
            f"parameter {item.name} is wrong",
            expected=f"{type(item.default).__name__} {item.bounds or ''}".strip(),
            got=str(error),
            next_step=f"{item.name}: {item.description}",
        ) from error
    check_choice(item, value)
    return value


def _descriptor(item: Parameter) -> ParameterDescriptor:
    """Describes a parameter to ROS 2: read-only, with its bounds or choices."""
    result = ParameterDescriptor(description=item.description, read_only=True)
    if item.choices:
        result.additional_constraints = f"one of {', '.join(item.choices)}"
    if item.bounds is not None and isinstance(item.default, float):
        result.floating_point_range = [FloatingPointRange(from_value=item.bounds[0], to_value=item.bounds[1])]
    elif item.bounds is not None:
        lowest, highest = (int(bound) for bound in item.bounds)
        result.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
    return result
