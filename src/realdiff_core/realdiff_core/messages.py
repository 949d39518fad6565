"""ROS 2 messages without rclpy: the types of ROS 2 Jazzy and of realdiff_msgs on `rosbags`' type system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realdiff_core.errors import RealdiffError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
NANOSECONDS = 1_000_000_000


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the type store that all packages share: ROS 2 Jazzy's common types plus realdiff_msgs.

    Raises:
        RealdiffError: The message files of realdiff_msgs are not found.
    """
    return new_typestore()


def new_typestore() -> Typestore:
    """Return a fresh type store, for a bag that brings types of its own."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for path in sorted(_message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"realdiff_msgs/msg/{path.stem}"))
    store.register(types)
    return store


def _message_folder() -> Path:
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates = [prefix / "share" / "realdiff_msgs" / "msg" for prefix in prefixes]
    candidates.append(Path(__file__).resolve().parents[2] / "realdiff_msgs" / "msg")  # the source tree
    for folder in candidates:
        if any(folder.glob("*.msg")):
            return folder
    raise RealdiffError(
        "the message files of realdiff_msgs are not found",
        expected="share/realdiff_msgs/msg in a prefix of AMENT_PREFIX_PATH",
        got=os.environ.get("AMENT_PREFIX_PATH") or "AMENT_PREFIX_PATH is not set",
        next_step="build the workspace and source its setup file",
    )


def make(typestr: str, **fields: Any) -> Any:
    """Make a message; fields that aren't given get ROS' defaults (zero, empty).

    Nested messages may be given as dictionaries, numeric sequences as anything NumPy understands, bytes included.

    Args:
        typestr: Type name, e.g. ``sensor_msgs/msg/Image``.
        **fields: Values by field name.

    Raises:
        RealdiffError: Unknown type or field, or an array of the wrong length.
    """
    store = typestore()
    if typestr not in store.fielddefs:
        raise RealdiffError("message type is unknown", where=typestr, expected="a type of ROS 2 Jazzy or realdiff_msgs")
    definitions = dict(store.fielddefs[typestr][1])
    if unknown := fields.keys() - definitions.keys():
        raise RealdiffError(
            "message has no such field",
            where=typestr,
            expected=", ".join(definitions),
            got=", ".join(sorted(unknown)),
        )
    if typestr == "geometry_msgs/msg/Quaternion":
        fields.setdefault("w", 1.0)  # its .msg file says so: an unset rotation is none
    values = {
        name: _value(f"{typestr}.{name}", description, fields.get(name)) for name, description in definitions.items()
    }
    return store.types[typestr](**values)


def _value(where: str, description: Any, value: Any) -> Any:
    from rosbags.interfaces import Nodetype

    kind, detail = description
    if kind == Nodetype.BASE:
        if value is not None:
            return value
        return "" if detail[0] == "string" else False if detail[0] == "bool" else 0.0 if "float" in detail[0] else 0
    if kind == Nodetype.NAME:
        if value is None or isinstance(value, Mapping):
            return make(detail, **(value or {}))
        return value
    (item_kind, item), count = detail
    numeric = item_kind == Nodetype.BASE and item[0] != "string"
    length = count if kind == Nodetype.ARRAY else 0
    if numeric:
        dtype = np.dtype({"byte": "uint8", "char": "uint8"}.get(item[0], item[0]))
        if value is None:
            return np.zeros(length, dtype)
        array = (
            np.frombuffer(value, np.uint8).view(dtype)
            if isinstance(value, (bytes, bytearray, memoryview))
            else np.ascontiguousarray(value, dtype).reshape(-1)
        )
        if kind == Nodetype.ARRAY and array.size != count:
            raise RealdiffError("array field has the wrong length", where=where, expected=count, got=array.size)
        return array
    items = [None] * length if value is None else list(value)
    return [_value(where, (item_kind, item), entry) for entry in items]


def serialize(msg: Any, typestr: str | None = None) -> bytes:
    """Return a message as CDR bytes, as rmw would put it on the wire.

    Args:
        msg: Message made by `make` or `deserialize`.
        typestr: Its type; taken from the message where omitted.
    """
    return bytes(typestore().serialize_cdr(msg, typestr or msg.__msgtype__))


def deserialize(data: bytes | memoryview, typestr: str) -> Any:
    """Return the message in CDR bytes.

    Raises:
        RealdiffError: The type is unknown or the bytes don't fit it.
    """
    return deserialize_with(typestore(), data, typestr)


def deserialize_with(store: Typestore, data: bytes | memoryview, typestr: str) -> Any:
    """Like `deserialize`, with a given type store."""
    from rosbags.serde import SerdeError

    if typestr not in store.fielddefs:
        raise RealdiffError(
            "message type is unknown",
            where=typestr,
            expected="a type of ROS 2 Jazzy or realdiff_msgs, or one that the bag defines",
        )
    try:
        return store.deserialize_cdr(data, typestr)
    except (SerdeError, AssertionError, IndexError, MemoryError) as error:
        raise RealdiffError(
            "message can't be decoded",
            where=typestr,
            expected=f"CDR bytes of {typestr}",
            got=f"{len(data)} bytes: {error or type(error).__name__}",
        ) from error


def to_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time (of rclpy or rosbags) as nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def from_ns(stamp_ns: int) -> Any:
    """Return nanoseconds as a builtin_interfaces/Time.

    Raises:
        RealdiffError: Time is negative or beyond what 32-bit seconds hold (the year 2038).
    """
    seconds, nanoseconds = divmod(int(stamp_ns), NANOSECONDS)
    if not 0 <= seconds < 1 << 31:
        raise RealdiffError("stamp is out of range", expected="0 … 2147483647.999999999 s", got=f"{stamp_ns} ns")
    return make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)


def make_header(stamp_ns: int, frame_id: str) -> Any:
    """Return a std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=from_ns(stamp_ns), frame_id=frame_id)
