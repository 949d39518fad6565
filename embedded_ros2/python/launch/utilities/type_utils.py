"""Text of substitutions turned into typed values, by YAML's rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args, get_origin

import yaml

from ..substitution import Substitution
from . import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from ..launch_context import LaunchContext

_SCALARS = (int, float, str, bool)


def is_substitution(value: Any) -> bool:
    """Return whether a value is a substitution or a list that holds one."""
    if isinstance(value, Substitution):
        return True
    return (
        isinstance(value, Iterable)
        and not isinstance(value, (str, bytes, dict))
        and any(isinstance(item, Substitution) for item in value)
    )


def coerce_to_type(value: str, data_type: Any = None) -> Any:
    """Turn text into a value.

    Args:
        value: Text.
        data_type: int, float, str, bool, a list of one of these (``List[int]``), or None to
            let YAML decide.

    Raises:
        ValueError: If the text is no such value.
    """
    if data_type is str:
        return value
    if data_type in (int, float):
        return data_type(value)
    if data_type is bool:
        output = _from_yaml({"1": "true", "0": "false"}.get(value, value))
        if not isinstance(output, bool):
            raise ValueError(f"Cannot convert value '{value}' to '{bool}'")
        return output
    if data_type is None:
        return _from_yaml(value) if value else value
    if get_origin(data_type) is list and get_args(data_type)[0] in _SCALARS:
        item_type = get_args(data_type)[0]
        output = _from_yaml(value)
        if not isinstance(output, list) or not all(isinstance(item, item_type) for item in output):
            raise ValueError(f"Cannot convert value '{value}' to a list of '{item_type}'")
        return output
    raise ValueError(f"Unrecognized data type: {data_type}")


def _from_yaml(text: str) -> Any:
    try:
        output = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Failed to convert '{text}' using yaml rules: yaml.safe_load() failed\n{error}") from error
    items = output if isinstance(output, list) else [output]
    if not all(isinstance(item, _SCALARS) for item in items) or len({type(item) for item in items}) > 1:
        raise ValueError(f"Failed to convert '{text}' using yaml rules: output type is not allowed, got {type(output)}")
    return output


def normalize_typed_substitution(value: Any, data_type: Any = None) -> Any:
    """Turn what a launch file gives into a value or a list of substitutions.

    Lists of values stay lists; each item may be a value or a list of substitutions.

    Raises:
        TypeError: If a plain value does not have the wanted type.
    """
    if isinstance(value, Substitution) or (is_substitution(value) and all(_is_text(item) for item in value)):
        return normalize_to_list_of_substitutions(value)
    if isinstance(value, (list, tuple)):
        item_type = get_args(data_type)[0] if get_origin(data_type) is list else None
        return [normalize_typed_substitution(item, item_type) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and data_type is float:
        return float(value)
    if isinstance(value, str) and data_type not in (None, str):
        return normalize_to_list_of_substitutions(value)
    if data_type in _SCALARS and not isinstance(value, data_type):
        raise TypeError(f"Got value='{value}' of type '{type(value)}', expected '{data_type}'")
    if not isinstance(value, _SCALARS):
        raise TypeError(f"value='{value}' of type '{type(value)}' is not allowed")
    return value


def _is_text(item: Any) -> bool:
    return isinstance(item, (str, Substitution))


def perform_typed_substitution(context: LaunchContext, value: Any, data_type: Any = None) -> Any:
    """Return the value of what normalize_typed_substitution returned.

    Raises:
        ValueError: If the text of the substitutions is no such value.
    """
    if isinstance(value, list) and value and all(isinstance(item, Substitution) for item in value):
        return coerce_to_type(perform_substitutions(context, value), data_type)
    if isinstance(value, list):
        item_type = get_args(data_type)[0] if get_origin(data_type) is list else None
        return [perform_typed_substitution(context, item, item_type) for item in value]
    return value
