"""The fast encoder against rosbags' serialiser."""

from __future__ import annotations

import numpy as np
import pytest
from realdiff_core.cdr import encode
from realdiff_core.errors import RealdiffError
from realdiff_core.messages import make, typestore
from rosbags.interfaces import Nodetype


def _reference(typestr: str, fields: dict) -> bytes:
    return bytes(typestore().serialize_cdr(make(typestr, **fields), typestr))


def _random_fields(typestr: str, random: np.random.Generator, depth: int = 0) -> dict:
    """Random values for every field of a type."""
    return {name: _random_value(description, random, depth) for name, description in typestore().fielddefs[typestr][1]}


def _random_value(description, random: np.random.Generator, depth: int):
    kind, detail = description
    if kind == Nodetype.NAME:
        return _random_fields(detail, random, depth + 1)
    if kind == Nodetype.BASE:
        return _random_base(detail[0], random)
    (item_kind, item), count = detail
    number = count if kind == Nodetype.ARRAY else int(random.integers(0, 4))
    items = [_random_value((item_kind, item), random, depth + 1) for _ in range(number)]
    if item_kind == Nodetype.BASE and item[0] != "string":
        return np.array(items, dtype={"byte": "uint8", "char": "uint8", "octet": "uint8"}.get(item[0], item[0]))
    return items


def _random_base(name: str, random: np.random.Generator):
    if name == "string":
        return "".join(random.choice(list("aé/_ ")) for _ in range(random.integers(0, 9)))
    if name == "bool":
        return bool(random.integers(2))
    if "float" in name:
        return float(np.float32(random.normal()))
    dtype = np.dtype({"byte": "uint8", "char": "uint8", "octet": "uint8"}.get(name, name))
    info = np.iinfo("int8" if name in ("byte", "octet") else dtype)  # the reference takes no octets above 127
    return int(random.integers(max(info.min, np.iinfo(dtype).min), info.max, dtype=dtype, endpoint=True))


@pytest.mark.parametrize(
    "typestr",
    [
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CameraInfo",
        "sensor_msgs/msg/JointState",
        "sensor_msgs/msg/PointCloud2",
        "sensor_msgs/msg/BatteryState",
        "tf2_msgs/msg/TFMessage",
        "trajectory_msgs/msg/JointTrajectory",
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "diagnostic_msgs/msg/DiagnosticArray",
        "realdiff_msgs/msg/ObjectPoses",
        "realdiff_msgs/msg/TaskStatus",
        "realdiff_msgs/msg/Provenance",
        "realdiff_msgs/msg/CommandedAction",
        "rosgraph_msgs/msg/Clock",
    ],
)
def test_same_bytes_as_the_serialiser(typestr: str) -> None:
    random = np.random.default_rng(1)
    for _ in range(12):
        fields = _random_fields(typestr, random)
        assert encode(typestr, fields) == _reference(typestr, fields)
    assert encode(typestr, {}) == _reference(typestr, {})


def test_array_kinds_are_alike() -> None:
    data = bytes(range(6))
    expected = _reference("sensor_msgs/msg/Image", {"data": data})
    for value in (data, list(data), np.frombuffer(data, np.uint8), memoryview(data)):
        assert encode("sensor_msgs/msg/Image", {"data": value}) == expected


@pytest.mark.parametrize(
    ("typestr", "fields", "message"),
    [
        ("no_msgs/msg/Thing", {}, "type is unknown"),
        ("sensor_msgs/msg/Image", {"widht": 3}, "no such field"),
        ("sensor_msgs/msg/CameraInfo", {"k": [1.0]}, "wrong length"),
        ("sensor_msgs/msg/Image", {"width": -1}, "can't be encoded"),
        ("sensor_msgs/msg/Image", {"header": {"frame_id": 5}}, "can't be encoded"),
    ],
)
def test_wrong_messages_are_refused(typestr: str, fields: dict, message: str) -> None:
    with pytest.raises(RealdiffError, match=message):
        encode(typestr, fields)
