"""Interfaces by name, messages to YAML and back."""

from __future__ import annotations

import importlib
import sys
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import yaml

#: Lists and texts are cut at this length unless asked otherwise.
TRUNCATE_LENGTH = 128


def load_interface(name: str, kind: str) -> Any:
    """Return the class of an interface.

    Args:
        name: 'package/kind/Name', or 'package/Name'.
        kind: 'msg', 'srv' or 'action'.

    Raises:
        RuntimeError: If there is none of that name.
    """
    label = {"msg": "message", "srv": "service", "action": "action"}[kind]
    parts = name.split("/")
    if len(parts) == 2:
        parts.insert(1, kind)
    if len(parts) != 3 or not all(parts) or parts[1] != kind:
        raise RuntimeError(f"The passed {label} type is invalid")
    try:
        return getattr(importlib.import_module(f"{parts[0]}.{parts[1]}"), parts[2])
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"The passed {label} type is invalid") from error


def is_message(value: Any) -> bool:
    """Return whether a value is a ROS message."""
    return hasattr(value, "get_fields_and_field_types")


def to_plain(value: Any, *, limit: int | None = None, arrays: bool = True, texts: bool = True) -> Any:
    """Turn a message into dictionaries, lists, numbers and texts.

    Args:
        value: Message or field.
        limit: Cut lists and texts at this length; None keeps them whole.
        arrays: Keep the content of lists; otherwise only their type and length.
        texts: Keep the content of texts; otherwise only their length.
    """
    if is_message(value):
        return {
            name: _field(getattr(value, name), kind, limit, arrays, texts)
            for name, kind in value.get_fields_and_field_types().items()
        }
    return _field(value, type(value).__name__, limit, arrays, texts)


def _field(value: Any, kind: str, limit: int | None, arrays: bool, texts: bool) -> Any:
    if isinstance(value, str):
        if not texts:
            return f"<string length: <{len(value)}>>"
        return value if limit is None or len(value) <= limit else value[:limit] + "..."
    if isinstance(value, (bytes, bytearray)):
        value = list(value)
    elif isinstance(value, array) or hasattr(value, "tolist"):
        value = value[: limit + 1].tolist() if limit is not None and len(value) > limit else value.tolist()
    if isinstance(value, (list, tuple)):
        if not arrays:
            return f"<array type: {kind.split('[')[0]}>"
        cut = limit is not None and len(value) > limit
        items = [to_plain(item, limit=limit, arrays=arrays, texts=texts) for item in (value[:limit] if cut else value)]
        return [*items, "..."] if cut else items
    return to_plain(value, limit=limit, arrays=arrays, texts=texts) if is_message(value) else value


def to_yaml(value: Any, *, flow: bool = False, **options: Any) -> str:
    """Return a message or field as YAML, for people; options as of to_plain()."""
    plain = to_plain(value, **options)
    text: str = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=sys.maxsize, default_flow_style=flow)
    return text.removesuffix("...\n")


def to_csv(value: Any, **options: Any) -> str:
    """Return all values of a message or field, separated by commas; options as of to_plain()."""

    def flat(item: Any) -> list[str]:
        if isinstance(item, dict):
            return [text for child in item.values() for text in flat(child)]
        if isinstance(item, list):
            return [text for child in item for text in flat(child)]
        return [str(item)]

    return ",".join(flat(to_plain(value, **options)))


def fill(message: Any, values: Any) -> list[Callable[[Any], None]]:
    """Set the fields of a message.

    A header that is 'auto' and a time that is 'now' are set by the functions returned.

    Args:
        message: Message.
        values: Dictionary as read from YAML; None leaves the message as it is.

    Returns:
        Functions that set such times, each called with a builtin_interfaces/Time.

    Raises:
        ValueError: If a value does not fit.
    """
    stamps: list[Callable[[Any], None]] = []
    if values is None:
        return stamps
    if not isinstance(values, dict):
        raise ValueError(f"Value '{values}' is expected to be a dictionary but is a {type(values).__name__}")
    slots = dict(zip(message.get_fields_and_field_types(), message.SLOT_TYPES, strict=True))
    for name, value in values.items():
        if name not in slots:
            raise ValueError(f"'{type(message).__name__}' object has no attribute '{name}'")
        current = getattr(message, name)
        kind = "/".join(getattr(slots[name], "namespaces", ())) + "/" + getattr(slots[name], "name", "")
        if kind == "std_msgs/msg/Header" and value == "auto":
            stamps.append(partial(setattr, current, "stamp"))
        elif kind == "builtin_interfaces/msg/Time" and value == "now":
            stamps.append(partial(setattr, message, name))
        elif is_message(current):
            stamps += fill(current, value)
        else:
            setattr(message, name, _convert(current, slots[name], value, stamps))
    return stamps


def _convert(current: Any, slot: Any, value: Any, stamps: list[Callable[[Any], None]]) -> Any:
    if hasattr(slot, "value_type"):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"Value '{value}' is expected to be a list")
        item = slot.value_type
        if hasattr(item, "namespaces"):
            cls = getattr(importlib.import_module(".".join(item.namespaces)), item.name)
            items = [cls() for _ in value]
            for message, values in zip(items, value, strict=True):
                stamps += fill(message, values)
            return items
        return [_scalar(getattr(item, "typename", ""))(element) for element in value]
    if isinstance(current, bytes):
        return _octet(value)
    return type(current)(value)


def _scalar(typename: str) -> Callable[[Any], Any]:
    """Return the type of an array's items; texts have no basic type."""
    special: dict[str, Callable[[Any], Any]] = {
        "": str,
        "boolean": bool,
        "octet": _octet,
        "float": float,
        "double": float,
        "long double": float,
    }
    return special.get(typename, int)


def _octet(value: Any) -> bytes:
    return value if isinstance(value, bytes) else bytes([int(value)])
