"""What bag reader and writer share: topics, messages, QoS presets. Import it from `realdiff_core.bag`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from realdiff_core.errors import BagError

Storage = Literal["mcap", "sqlite3"]
Compression = Literal["none", "zstd"]
QosPreset = Literal["default", "sensor", "latched"]

STORAGES: tuple[Storage, ...] = ("mcap", "sqlite3")
SUFFIXES: dict[str, Storage] = {".mcap": "mcap", ".db3": "sqlite3"}

# rmw's RMW_DURATION_INFINITE: no deadline, no lifespan, no lease.
_INFINITE = QosTime(9223372036, 854775807)


@dataclass(frozen=True)
class TopicInfo:
    """A topic of a bag.

    Args:
        name: Topic name.
        msgtype: Type name, e.g. ``sensor_msgs/msg/Image``.
        qos: QoS profiles that the recorded publishers offered.
        msgdef: Message definition with all types it needs; empty where the bag doesn't hold it.
        digest: REP-2011 type hash (``RIHS01_…``); empty where the bag doesn't hold it.
        count: Number of messages.
        msgdef_format: Language of `msgdef`: ``ros2msg`` or ``ros2idl``.
        serialization_format: ``cdr``.
    """

    name: str
    msgtype: str
    qos: tuple[Qos, ...] = ()
    msgdef: str = ""
    digest: str = ""
    count: int = 0
    msgdef_format: str = "ros2msg"
    serialization_format: str = "cdr"


class RawMessage(NamedTuple):
    """A message as recorded: topic, record stamp [ns since the epoch, of the bag's clock] and CDR bytes."""

    topic: str
    stamp_ns: int
    data: bytes


def qos(preset: QosPreset) -> Qos:
    """Return a QoS profile: ``default`` (reliable, last 10), ``sensor`` (best effort, last 5) or ``latched``.

    Latched means reliable and transient local with the last message kept: late subscribers get it.
    """
    reliability, durability, depth = {
        "default": (QosReliability.RELIABLE, QosDurability.VOLATILE, 10),
        "sensor": (QosReliability.BEST_EFFORT, QosDurability.VOLATILE, 5),
        "latched": (QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, 1),
    }[preset]
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=durability,
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )


def check_sqlite_path(path: object, what: str) -> None:
    """Refuse paths that SQLite would take for a URI with a query, a fragment or escapes.

    Raises:
        BagError: The path holds ``?``, ``#`` or ``%``.
    """
    if found := [character for character in "?#%" if character in str(path)]:
        raise BagError(
            f"{what} in this folder isn't possible with SQLite",
            where=path,
            expected="a path without ? # %",
            got=" ".join(found),
            next_step="rename the folder, or use mcap storage",
        )
