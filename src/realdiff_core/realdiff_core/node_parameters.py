"""Parameters of our nodes: one table a node for declaration, help text and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realdiff_core.errors import ConfigError


@dataclass(frozen=True)
class Parameter:
    """A read-only parameter of a node.

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


def check_choice(item: Parameter, value: object) -> None:
    """Refuses a value that isn't among a parameter's choices.

    Raises:
        ConfigError: It isn't.
    """
    if item.choices and value not in item.choices:
        raise ConfigError(
            f"parameter {item.name} is wrong",
            expected=" or ".join(item.choices),
            got=value,
            next_step=f"{item.name}: {item.description}",
        )
