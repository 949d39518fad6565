"""Fields → CDR bytes, several times as fast as making a message object and serialising it.

The messages of a stream are alike: the same names, the same lengths, other numbers. So the byte layout is worked out
once for each combination of lengths, as one `struct` format; a message then costs a walk over its fields and one call.
The bytes are those of `realdiff_core.messages.make` and rosbags' serialiser (little-endian XCDR version 1).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from realdiff_core.errors import RealdiffError

_HEADER = b"\x00\x01\x00\x00"  # encapsulation: CDR, little-endian
_FORMATS = {
    "bool": "?", "byte": "B", "octet": "B", "char": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
_DEFAULTS = {("geometry_msgs/msg/Quaternion", "w"): 1.0}  # as its .msg file says

_Values = list[Any]
_Lengths = list[int]
_Flatten = Callable[[Any, _Values, _Lengths], None]
"""Appends a field's numbers and bytes to the values, and the lengths of its strings and sequences to the lengths."""

_Layout = Callable[["_Format", Iterator[int]], None]
"""Appends a field to the format, given the lengths that `_Flatten` found."""


def encode(typestr: str, fields: Mapping[str, Any]) -> bytes:
    """Serialises a message.

    Args:
        typestr: Type name, e.g. ``sensor_msgs/msg/Image``.
        fields: Values by field name, as for `realdiff_core.messages.make`: nested messages as mappings, sequences of
            numbers as lists or arrays (bytes for uint8), zero or empty where nothing is given.

    Returns:
        CDR bytes.

    Raises:
        RealdiffError: Unknown type or field, an array of the wrong length, or a value that doesn't fit its type.
    """
    flatten, layout, packers = _codec(typestr)
    values: _Values = []
    lengths: _Lengths = []
    try:
        flatten(fields, values, lengths)
        key = tuple(lengths)
        packer = packers.get(key)
        if packer is None:
            form = _Format()
            layout(form, iter(key))
            packer = packers[key] = struct.Struct("".join(form.parts))
        return packer.pack(_HEADER, *values)
    except (struct.error, TypeError, AttributeError) as error:
        raise RealdiffError("message can't be encoded", where=typestr, got=str(error)) from error


class _Format:
    """A `struct` format under construction."""

    def __init__(self) -> None:
        self.parts = ["<4s"]
        self.position = 0

    def add(self, code: str, size: int, count: int = 1) -> None:
        """Adds `count` values of `size` bytes each, aligned to their size."""
        if count:
            padding = -self.position % size
            self.parts.append(f"{padding}x{count}{code}" if padding else f"{count}{code}")
            self.position += padding + size * count

    def add_bytes(self, length: int) -> None:
        """Adds bytes as they are."""
        self.parts.append(f"{length}s")
        self.position += length


@cache
def _codec(typestr: str) -> tuple[_Flatten, _Layout, dict[tuple[int, ...], struct.Struct]]:
    from realdiff_core.messages import typestore

    if typestr not in typestore().fielddefs:
        raise RealdiffError("message type is unknown", where=typestr, expected="a type of ROS 2 Jazzy or realdiff_msgs")
    return (*_message(typestr), {})


@cache
def _message(typestr: str) -> tuple[_Flatten, _Layout]:
    from realdiff_core.messages import typestore

    members = []
    for name, description in typestore().fielddefs[typestr][1]:
        flatten, layout = _member(f"{typestr}.{name}", description, _DEFAULTS.get((typestr, name)))
        members.append((name, flatten, layout))
    flattens = tuple((name, flatten) for name, flatten, _ in members)
    names = frozenset(name for name, _ in flattens)

    def flatten_all(fields: Any, values: _Values, lengths: _Lengths) -> None:
        fields = fields or {}
        if not fields.keys() <= names:
            known, unknown = ", ".join(name for name, _ in flattens), ", ".join(sorted(fields.keys() - names))
            raise RealdiffError("message has no such field", where=typestr, expected=known, got=unknown)
        get = fields.get
        for name, flatten in flattens:
            flatten(get(name), values, lengths)

    def layout_all(form: _Format, lengths: Iterator[int]) -> None:
        for _, _, layout in members:
            layout(form, lengths)

    return flatten_all, layout_all


def _member(where: str, description: Any, default: Any) -> tuple[_Flatten, _Layout]:
    from rosbags.interfaces import Nodetype

    kind, detail = description
    if kind == Nodetype.NAME:
        return _message(detail)
    if kind == Nodetype.BASE:
        return _string() if detail[0] == "string" else _number(_FORMATS[detail[0]], default)
    (item_kind, item), count = detail
    fixed = count if kind == Nodetype.ARRAY else None
    if item_kind == Nodetype.BASE and item[0] != "string":
        return _numbers(where, _FORMATS[item[0]], fixed)
    item_member = _string() if item_kind == Nodetype.BASE else _message(item)
    return _sequence(where, item_member, fixed)


def _number(code: str, default: Any) -> tuple[_Flatten, _Layout]:
    size, zero = struct.calcsize(code), 0 if default is None else default

    def flatten(value: Any, values: _Values, lengths: _Lengths) -> None:
        values.append(zero if value is None else value)

    return flatten, lambda form, lengths: form.add(code, size)


def _string() -> tuple[_Flatten, _Layout]:
    def flatten(value: Any, values: _Values, lengths: _Lengths) -> None:
        data = value.encode() if value else b""
        lengths.append(len(data) + 1)
        values.append(len(data) + 1)
        values.append(data)

    def layout(form: _Format, lengths: Iterator[int]) -> None:
        form.add("I", 4)
        form.add_bytes(next(lengths))  # the ending NUL is `struct`'s padding

    return flatten, layout


def _numbers(where: str, code: str, fixed: int | None) -> tuple[_Flatten, _Layout]:
    size = struct.calcsize(code)

    def flatten(value: Any, values: _Values, lengths: _Lengths) -> None:
        if value is None:
            value = (0,) * (fixed or 0)
        count = len(value)
        if fixed is None:
            lengths.append(count)
            values.append(count)
        elif count != fixed:
            raise RealdiffError("array has the wrong length", where=where, expected=fixed, got=count)
        if code == "B":
            if count:
                values.append(bytes(value))
        else:
            values.extend(value.tolist() if hasattr(value, "tolist") else value)

    def layout(form: _Format, lengths: Iterator[int]) -> None:
        count = fixed
        if count is None:
            form.add("I", 4)
            count = next(lengths)
        if code != "B":
            form.add(code, size, count)
        elif count:
            form.add_bytes(count)

    return flatten, layout


def _sequence(where: str, member: tuple[_Flatten, _Layout], fixed: int | None) -> tuple[_Flatten, _Layout]:
    flatten_item, layout_item = member

    def flatten(value: Any, values: _Values, lengths: _Lengths) -> None:
        items = [None] * (fixed or 0) if value is None else value
        lengths.append(len(items))
        if fixed is None:
            values.append(len(items))
        elif len(items) != fixed:
            raise RealdiffError("array has the wrong length", where=where, expected=fixed, got=len(items))
        for item in items:
            flatten_item(item, values, lengths)

    def layout(form: _Format, lengths: Iterator[int]) -> None:
        if fixed is None:
            form.add("I", 4)
        for _ in range(next(lengths)):
            layout_item(form, lengths)

    return flatten, layout
