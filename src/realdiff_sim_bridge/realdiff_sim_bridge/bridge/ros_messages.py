"""Fills rclpy messages from the field dictionaries of `realdiff_sim_bridge.streams`."""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

_TYPECODES = {"double": "d", "float": "f", "uint8": "B", "octet": "B"}


@lru_cache(maxsize=64)
def message_class(msgtype: str) -> Any:
    """Returns the class of a message type such as "sensor_msgs/msg/Image" or "geometry_msgs/Pose"."""
    package, _, name = msgtype.partition("/")
    return getattr(importlib.import_module(f"{package}.msg"), name.rpartition("/")[2])


def to_message(msgtype: str, fields: Mapping[str, Any]) -> Any:
    """Makes a message; fields that aren't given keep their defaults.

    Args:
        msgtype: Message type.
        fields: Values by field name: numbers, texts, bytes, NumPy arrays, lists; dictionaries for nested messages.
    """
    return fill(message_class(msgtype)(), fields)


def fill(message: Any, fields: Mapping[str, Any]) -> Any:
    """Sets fields of a message and returns it; see `to_message`."""
    types = message.get_fields_and_field_types()
    for name, value in fields.items():
        setattr(message, name, _converted(types[name], value))
    return message


def _converted(fieldtype: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return to_message(fieldtype, value)
    if fieldtype.startswith("sequence<"):
        item = fieldtype.removeprefix("sequence<").rstrip(">")
        if item in _TYPECODES:
            # rclpy copies an array of the right type as a block, anything else element by element.
            data = value if isinstance(value, bytes) else np.asarray(value, dtype=np.dtype(_TYPECODES[item])).tobytes()
            return array(_TYPECODES[item], data)
        return [to_message(item, entry) if isinstance(entry, Mapping) else entry for entry in value]
    return value
