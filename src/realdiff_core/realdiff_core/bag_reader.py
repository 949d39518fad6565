"""Reading rosbag2 bags: mcap and sqlite3, compressed or not, metadata versions 1 to 9."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from realdiff_core.bag_files import bag_path, decompress_message, explained, storage_of
from realdiff_core.bag_records import Record, records
from realdiff_core.bag_types import RawMessage, Storage, TopicInfo
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.provenance import KEY as PROVENANCE_KEY
from realdiff_core.provenance import BagProvenance

_MAX_STAMP = (1 << 63) - 1


class BagReader:
    """Read a bag, message by message; use it as a context manager.

    Messages come in the order of their record stamps, as in ``ros2 bag play``; those with equal stamps in the order
    in which they were recorded.

    Args:
        path: Bag folder, or a single ``.mcap`` or ``.db3`` file.
        allow_empty: Open bags without messages, too.

    Raises:
        BagError: Missing, truncated, damaged, empty, or of an unknown storage or serialisation.
    """

    def __init__(self, path: str | Path, *, allow_empty: bool = False) -> None:
        """Check that the path holds a bag; `__enter__` opens it."""
        self.path = bag_path(Path(path))
        self.storage: Storage = storage_of(self.path)
        self.allow_empty = allow_empty
        self.topics: dict[str, TopicInfo] = {}
        self.custom_data: dict[str, str] = {}
        self.message_count = 0
        self.start_ns = 0
        self.end_ns = 0
        self._reader: Reader | None = None
        self._stores: dict[str, Any] = {}

    def __enter__(self) -> BagReader:
        """Open the bag."""
        reader = Reader(self.path)
        with explained(self.path):
            reader.open()
        self._reader = reader
        try:
            with explained(self.path):
                self._read_index(reader)
            if not self.message_count and not self.allow_empty:
                raise BagError(
                    "bag is empty",
                    where=self.path,
                    expected="at least one message",
                    got=f"{len(self.topics)} topics, no messages",
                    next_step="check that the publishers ran while it was recorded, and record again",
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the bag; allowed more than once."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Iterate over messages.

        Args:
            topics: Only these; None for all.

        Raises:
            BagError: A topic is absent, a stamp is negative, the stamps of a topic go backwards in the file, the file
                is damaged, or it
                holds fewer messages than its metadata says.
        """
        names = set(self.topics) if topics is None else set(topics)
        for name in sorted(names):
            self.require_topic(name)
        message_compression = self._open_reader.compression_mode == "message"
        count = 0
        expected = sum(self.topics[name].count for name in names)
        with explained(self.path):
            for stamp, _, topic, data in self._checked(self._merged(names)):
                count += 1
                yield RawMessage(topic, stamp, decompress_message(data) if message_compression else data)
        if count < expected:
            raise BagError(
                "bag holds fewer messages than its metadata says",
                where=self.path,
                expected=f"{expected} messages",
                got=f"{count} messages",
                next_step=f"the recording is incomplete; `ros2 bag reindex {self.path}` makes its metadata fit",
            )

    def first(self, topic: str) -> RawMessage | None:
        """Return the first message of a topic; None where it has none."""
        if not self.require_topic(topic).count:
            return None
        return next(self.messages([topic]), None)

    def require_topic(self, name: str) -> TopicInfo:
        """Return a topic's description.

        Raises:
            BagError: The bag has no such topic; lists those that it has.
        """
        try:
            return self.topics[name]
        except KeyError:
            raise BagError(
                "topic is absent from the bag",
                where=f"{self.path}, topic {name}",
                expected=f"one of: {', '.join(sorted(self.topics)) or '(the bag has no topics)'}",
                got=name,
                next_step="choose a topic of the bag: `ros2 bag info` lists them",
            ) from None

    def deserialize(self, raw: RawMessage) -> Any:
        """Return a message's content; types that only the bag defines are read from its definitions.

        Raises:
            BagError: The type is unknown or the bytes don't fit it.
        """
        from realdiff_core.messages import deserialize_with

        info = self.require_topic(raw.topic)
        store = self._stores.get(info.msgtype)
        if store is None:
            store = self._stores[info.msgtype] = _typestore_for(info)
        try:
            return deserialize_with(store, raw.data, info.msgtype)
        except RealdiffError as error:
            raise BagError(
                error.what,
                where=f"{self.path}, topic {raw.topic}, stamp {raw.stamp_ns} ns",
                expected=error.expected,
                got=error.got,
                next_step=error.next_step or "record the topic again, or leave it out",
            ) from error

    def provenance(self) -> BagProvenance | None:
        """Return what the bag says about its origin; None where it says nothing.

        Raises:
            ProvenanceError: The record is damaged or of a newer format.
        """
        text = self.custom_data.get(PROVENANCE_KEY)
        return BagProvenance.from_json(text, where=self.path) if text else None

    @property
    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise BagError("bag is not open", where=self.path, next_step="use the reader as a context manager")
        return self._reader

    @property
    def _storages(self) -> list[McapReader | Sqlite3Reader]:
        storage = self._open_reader.storage
        parts = storage.storages if isinstance(storage, DirectoryReader) else [storage]
        return cast("list[McapReader | Sqlite3Reader]", parts)

    def _read_index(self, reader: Reader) -> None:
        # The metadata's topics first: they carry hashes; then those that only the storage knows.
        for connection in [*reader.connections, *(c for part in self._storages for c in part.connections)]:
            info = _topic_info(connection)
            known = self.topics.setdefault(info.name, info)
            if known.msgtype != info.msgtype:
                raise BagError(
                    "topic has messages of two types",
                    where=f"{self.path}, topic {info.name}",
                    expected=known.msgtype,
                    got=info.msgtype,
                    next_step="split the bag by time with `ros2 bag convert`",
                )
        metadata = reader.storage.metadata
        self.custom_data = {str(key): str(value) for key, value in (metadata.custom or {}).items()}
        self.message_count = metadata.message_count
        if self.message_count:
            self.start_ns, self.end_ns = metadata.start_time, metadata.end_time - 1

    def _merged(self, names: set[str]) -> Iterator[Record]:
        """Merge the bag's files by stamp, opening each only when its time has come."""
        parts = self._storages
        if len(parts) == 1:
            yield from records(parts[0], names)
            return

        def part_records(index: int, part: McapReader | Sqlite3Reader) -> Iterator[tuple[int, int, Record | None]]:
            if part.metadata.message_count:
                yield part.metadata.start_time, index, None  # opens nothing yet
                for record in records(part, names):
                    yield record[0], index, record

        streams = [part_records(index, part) for index, part in enumerate(parts)]
        for _, index, record in heapq.merge(*streams, key=lambda item: item[:2]):
            if record is not None:
                # Positions of later files lie behind those of earlier ones.
                yield record[0], record[1] + (index << 80), record[2], record[3]

    def _checked(self, stream: Iterable[Record]) -> Iterator[Record]:
        positions: dict[str, int] = {}
        for record in stream:
            stamp, position, topic, _ = record
            if not 0 <= stamp <= _MAX_STAMP:
                raise BagError(
                    "record stamp is negative or out of range",
                    where=f"{self.path}, topic {topic}",
                    expected="0 … 9223372036854775807 ns",
                    got=f"{stamp if stamp < 0 else stamp - (1 << 64)} ns",
                    next_step="the recorder's clock was wrong: record again with a set clock (or `--use-sim-time`)",
                )
            # Sorted by stamp, a topic's messages must still be in the order in which they were recorded.
            if position <= positions.get(topic, -1):
                raise BagError(
                    "stamps of a topic go backwards",
                    where=f"{self.path}, topic {topic}",
                    expected="record stamps that don't decrease",
                    got=f"the message at {stamp} ns was recorded after a later one",
                    next_step="sort the bag with `ros2 bag convert`, or record again: the clock jumped",
                )
            positions[topic] = position
            yield record


def _topic_info(connection: Connection) -> TopicInfo:
    extension = cast("ConnectionExtRosbag2", connection.ext)
    definition: MessageDefinition = connection.msgdef
    return TopicInfo(
        name=connection.topic,
        msgtype=connection.msgtype,
        qos=tuple(extension.offered_qos_profiles),
        msgdef=definition.data if definition.format != MessageDefinitionFormat.NONE else "",
        digest=connection.digest or "",
        count=connection.msgcount,
        msgdef_format="ros2idl" if definition.format == MessageDefinitionFormat.IDL else "ros2msg",
        serialization_format=extension.serialization_format,
    )


def _typestore_for(info: TopicInfo) -> Any:
    """Return a type store in which the topic's type is defined as the bag defines it."""
    from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

    from realdiff_core.messages import typestore

    common = typestore()
    known = info.msgtype in common.fielddefs
    if not info.msgdef or (known and info.digest in ("", common.hash_rihs01(info.msgtype))):
        return common
    try:
        if info.msgdef_format == "ros2idl":
            types = get_types_from_idl(info.msgdef)
        else:
            types = get_types_from_msg(info.msgdef, info.msgtype)
        own = get_typestore(Stores.EMPTY)
        own.register(types)
    except TypesysError as error:
        raise BagError("message definition in the bag can't be read", where=info.name, got=str(error)) from error
    return own
