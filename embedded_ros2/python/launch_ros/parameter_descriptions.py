"""Parameters of nodes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from launch._gaps import module_gaps
from launch.launch_context import LaunchContext
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from launch.utilities.type_utils import (
    coerce_to_type,
    is_substitution,
    normalize_typed_substitution,
    perform_typed_substitution,
)

from .parameter_file_substitutions import parse_substitution

__getattr__ = module_gaps("launch_ros.parameter_descriptions", ())

_SCALARS = (bool, int, float, str)


class ParameterValue:
    """A value with a type: a text that YAML would take for a number, say."""

    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        """Keep the value.

        Args:
            value: Value or substitutions.
            value_type: int, float, str, bool, a list of one of these, or None for YAML's rules.
        """
        self.__value = normalize_typed_substitution(value, value_type)
        self.value_type = value_type

    @property
    def value(self) -> Any:
        """Value, or list of substitutions."""
        return self.__value

    def evaluate(self, context: LaunchContext) -> Any:
        """Return the value in this context.

        Raises:
            ValueError: If the text is no value of the type.
        """
        return perform_typed_substitution(context, self.__value, self.value_type)


class Parameter:
    """One parameter, passed on the command line of the node."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, *, value_type: Any = None) -> None:
        """Keep name and value; see ParameterValue for the type."""
        self.name = normalize_to_list_of_substitutions(name)
        self.__value = ParameterValue(value, value_type=value_type)

    def evaluate(self, context: LaunchContext) -> tuple[str, Any]:
        """Return name and value in this context."""
        return perform_substitutions(context, self.name), self.__value.evaluate(context)


class ParameterFile:
    """A YAML file of parameters."""

    def __init__(self, param_file: Any, *, allow_substs: bool | SomeSubstitutionsType = False) -> None:
        """Keep the path.

        Args:
            param_file: Path, text or substitutions.
            allow_substs: The file holds substitutions in the form of XML launch files:
                ``$(var name)``, ``$(find-pkg-share package)``.
        """
        self.param_file = (
            [Path(os.fsdecode(param_file))]
            if isinstance(param_file, (os.PathLike, bytes))
            else normalize_to_list_of_substitutions(param_file)
        )
        self.allow_substs = normalize_typed_substitution(allow_substs, bool)

    def evaluate(self, context: LaunchContext) -> Path:
        """Return the path, of a temporary file if there were substitutions.

        Raises:
            SubstitutionFailure: If the file is no YAML after that.
        """
        first = self.param_file[0] if self.param_file else ""
        path = first if isinstance(first, Path) else Path(perform_substitutions(context, self.param_file))  # type: ignore[arg-type]
        if not perform_typed_substitution(context, self.allow_substs, bool):
            return path
        text = perform_substitutions(context, parse_substitution(path.read_text()))
        try:
            yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SubstitutionFailure("The substituted parameter file is not a valid yaml file") from error
        return write_parameter_file(context, text)


def write_parameter_file(context: LaunchContext, text: str) -> Path:
    """Write parameters to a file that lives as long as the launch."""
    directory = context.get_locals_as_dict().get("parameter_directory")
    if directory is None:
        # The object removes the directory when the launch is over.
        directory = tempfile.TemporaryDirectory(prefix="launch_params_")
        context.extend_globals({"parameter_directory": directory})
    descriptor, name = tempfile.mkstemp(prefix="launch_params_", dir=directory.name)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return Path(name)


def flatten(parameters: Mapping[Any, Any], prefix: Sequence[Substitution] = ()) -> list[tuple[list[Substitution], Any]]:
    """Return (name, value) of nested parameters, names joined by dots.

    Raises:
        TypeError: If this is no dictionary.
    """
    if not isinstance(parameters, Mapping):
        raise TypeError("expected dict")
    result: list[tuple[list[Substitution], Any]] = []
    for key, value in parameters.items():
        separator = normalize_to_list_of_substitutions(".") if prefix else []
        name = [*prefix, *separator, *normalize_to_list_of_substitutions(key)]
        if isinstance(value, Mapping):
            result += flatten(value, name)
        else:
            result.append((name, value))
    return result


def evaluate_value(context: LaunchContext, name: str, value: Any) -> Any:
    """Return a parameter's value.

    Substitutions become values by YAML's rules; plain text stays text.

    Raises:
        TypeError: If it is no value that a parameter can have.
    """
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    if isinstance(value, Substitution):
        value = [value]
    if isinstance(value, (*_SCALARS, bytes)):
        return value
    if not isinstance(value, Sequence):
        raise TypeError(f"Unexpected type for parameter value {value!r}")
    if is_substitution(value) and all(isinstance(item, (str, Substitution)) for item in value):
        # Text and substitutions in a list are one value; items of a list of values are lists themselves.
        return _from_yaml(name, perform_substitutions(context, normalize_to_list_of_substitutions(value)))
    items = []
    for item in value:
        if not isinstance(item, _SCALARS):
            item = _from_yaml(name, perform_substitutions(context, normalize_to_list_of_substitutions(item)))
        items.append(item)
    return _uniform(name, items)


def _uniform(name: str, items: list[Any]) -> list[Any]:
    kinds = {type(item) for item in items}
    if kinds == {int, float}:
        return [float(item) for item in items]
    if len(kinds) != 1:
        raise TypeError(
            "Expected a non-empty sequence, with items of uniform type. Allowed sequence item types are "
            f'bool, int, float, str. Got inconsistent input for "{name}"'
        )
    return items


def _from_yaml(name: str, text: str) -> Any:
    if not text:
        return ""
    try:
        value = coerce_to_type(text)
    except ValueError as error:
        raise TypeError(
            f"Unable to parse the value of parameter {name} as yaml. If the parameter is meant to be a string, "
            "try wrapping it in launch_ros.parameter_descriptions.ParameterValue(value, value_type=str)"
        ) from error
    return _uniform(name, value) if isinstance(value, list) else value
