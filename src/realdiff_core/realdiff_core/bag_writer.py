"""Writing rosbag2 bags: complete under their final name, or not there at all."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.rosbag2.metadata import dump_qos_v8, dump_qos_v9

from realdiff_core.bag_mcap import FastMcapWriter
from realdiff_core.bag_sqlite import FastSqlite3Writer
from realdiff_core.bag_types import (
    STORAGES,
    SUFFIXES,
    Compression,
    QosPreset,
    Storage,
    TopicInfo,
    check_sqlite_path,
    qos,
)
from realdiff_core.errors import BagError, OutputError
from realdiff_core.output import StagedFolder
from realdiff_core.provenance import KEY as PROVENANCE_KEY
from realdiff_core.provenance import BagProvenance

_MAX_STAMP = (1 << 63) - 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Writer(Writer):
    STORAGE_PLUGINS = {StoragePlugin.MCAP: FastMcapWriter, StoragePlugin.SQLITE3: FastSqlite3Writer}  # noqa: RUF012


class BagWriter:
    """Write a bag; use it as a context manager.

    Everything is written into a hidden folder beside the bag's final name and renamed when it is complete. If the
    body raises, or the process is killed, nothing appears under the final name and what was there before stays. The
    remains of a killed process are cleared by the next writer of the same bag.

    Args:
        path: Bag folder to make.
        storage: ``mcap`` or ``sqlite3``.
        compression: ``zstd`` compresses mcap's chunks, or with sqlite3 each message.
        version: Metadata version: 9 (Jazzy), 8 (Iron) or 5 (Humble).
        overwrite: Replace an existing bag once the new one is complete.

    Raises:
        OutputError: The bag exists already, or can't be written there.
    """

    def __init__(
        self,
        path: str | Path,
        storage: Storage = "mcap",
        compression: Compression = "none",
        version: Literal[5, 8, 9] = 9,
        overwrite: bool = False,
    ) -> None:
        """Check the arguments; `__enter__` begins writing."""
        self.path = Path(path).absolute()
        if storage not in STORAGES:
            raise BagError("unknown bag storage", where=self.path, expected=" or ".join(STORAGES), got=storage)
        if compression not in ("none", "zstd"):
            raise BagError("unknown compression", where=self.path, expected="none or zstd", got=compression)
        if version not in (5, 8, 9):
            raise BagError("unknown metadata version", where=self.path, expected="5, 8 or 9", got=version)
        if storage == "sqlite3":
            check_sqlite_path(self.path, "writing a bag")
        self.storage, self.compression, self.version = storage, compression, version
        self.topics: dict[str, TopicInfo] = {}
        self._connections: dict[str, Connection] = {}
        self._last_stamp: dict[str, int] = {}
        self._writer: Writer | None = None
        self._staged = StagedFolder(self.path, overwrite=overwrite, suffixes=(*SUFFIXES, ".yaml", ".zstd"))

    def __enter__(self) -> BagWriter:
        """Begin the bag beside its final name."""
        with self._disk():
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the bag, or leave nothing behind if the body raised."""
        if kind is not None:
            self._abort()
            return
        try:
            with self._disk():
                self._complete()
        except BaseException:
            self._abort()
            raise

    def add_topic(self, name: str, msgtype: str, qos: QosPreset | Qos | Sequence[Qos] = "default") -> None:
        """Add a topic of a known type.

        Raises:
            BagError: The type is unknown, or the topic has been added before.
        """
        from realdiff_core.messages import typestore

        store = typestore()
        if msgtype not in store.fielddefs:
            raise BagError(
                "message type is unknown",
                where=f"{self.path}, topic {name}",
                expected="a type of ROS 2 Jazzy or realdiff_msgs",
                got=msgtype,
                next_step="copy the topic from a bag that defines the type",
            )
        definition, _ = store.generate_msgdef(msgtype, ros_version=2)
        self.copy_topic(TopicInfo(name, msgtype, _profiles(qos), msgdef=definition, digest=store.hash_rihs01(msgtype)))

    def copy_topic(self, info: TopicInfo) -> None:
        """Add a topic as another bag describes it; its type needn't be known.

        A definition that the other bag lacks (sqlite3 bags before Iron have none) is filled in where the type is known.

        Raises:
            BagError: The topic has been added before.
        """
        writer = self._open_writer
        if info.name in self.topics:
            raise BagError("topic has been added before", where=f"{self.path}, topic {info.name}", got=info.msgtype)
        info = _completed(info)
        connection = Connection(
            id=len(self.topics) + 1,
            topic=info.name,
            msgtype=info.msgtype,
            msgdef=MessageDefinition(
                MessageDefinitionFormat.IDL if info.msgdef_format == "ros2idl" else MessageDefinitionFormat.MSG,
                info.msgdef,
            ),
            digest=info.digest,
            msgcount=0,
            ext=ConnectionExtRosbag2(info.serialization_format, list(info.qos)),
            owner=writer,
        )
        # Writer.add_connection insists on a type hash; recordings of older distributions have none to give.
        with self._disk():
            storage = writer.storage
            assert storage is not None
            if info.msgtype not in writer.added_types:
                storage.add_msgtype(connection)
                writer.added_types.add(info.msgtype)
            storage.add_connection(connection, _qos_text(info.qos, self.version))
        writer.connections.append(connection)
        writer.counts[connection.id] = 0
        self.topics[info.name] = info
        self._connections[info.name] = connection

    def write(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """Write a message.

        Args:
            topic: A topic that has been added.
            stamp_ns: Record stamp [ns]; within a topic it must not decrease.
            data: CDR bytes.

        Raises:
            BagError: Unknown topic, or a stamp that is negative or goes backwards.
            OutputError: The disk is full or fails.
        """
        connection = self._connections.get(topic)
        if connection is None:
            raise BagError(
                "topic hasn't been added to the bag",
                where=f"{self.path}, topic {topic}",
                expected=f"one of: {', '.join(self.topics) or '(none)'}",
                next_step="call add_topic or copy_topic first",
            )
        if not 0 <= stamp_ns <= _MAX_STAMP:
            raise BagError(
                "record stamp is negative or out of range",
                where=f"{self.path}, topic {topic}",
                expected="0 … 9223372036854775807 ns",
                got=f"{stamp_ns} ns",
            )
        last = self._last_stamp.get(topic, 0)
        if stamp_ns < last:
            raise BagError(
                "stamps of a topic go backwards",
                where=f"{self.path}, topic {topic}",
                expected=f"a stamp of {last} ns or later",
                got=f"{stamp_ns} ns",
                next_step="write the messages of a topic in the order of their stamps",
            )
        self._last_stamp[topic] = stamp_ns
        with self._disk():
            self._open_writer.write(connection, stamp_ns, data)

    def write_message(self, topic: str, stamp_ns: int, msg: Any) -> None:
        """Serialise and write a message; see `write`."""
        from realdiff_core.messages import typestore

        info = self.topics.get(topic)
        self.write(topic, stamp_ns, typestore().serialize_cdr(msg, info.msgtype) if info else b"")

    def set_custom_data(self, key: str, value: str) -> None:
        """Set a text in the metadata's custom_data."""
        self._open_writer.set_custom_data(key, value)

    def set_provenance(self, provenance: BagProvenance) -> None:
        """Record where the bag's depth comes from."""
        self.set_custom_data(PROVENANCE_KEY, provenance.to_json())

    @property
    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise BagError("bag is not open", where=self.path, next_step="use the writer as a context manager")
        return self._writer

    def _begin(self) -> None:
        plugin = StoragePlugin.MCAP if self.storage == "mcap" else StoragePlugin.SQLITE3
        writer_version = cast("Literal[8, 9]", max(self.version, 8))
        folder = self._staged.begin()
        try:
            self._writer = _Writer(folder, version=writer_version, storage_plugin=plugin)
            if self.compression == "zstd":
                mode = CompressionMode.STORAGE if self.storage == "mcap" else CompressionMode.MESSAGE
                self._writer.set_compression(mode, CompressionFormat.ZSTD)
            self._writer.open()
        except BaseException:
            self._abort()
            raise

    def _complete(self) -> None:
        writer = self._open_writer
        writer.close()
        if self.version == 5:
            _write_humble_metadata(writer.metapath)
        self._staged.complete()
        self._writer = None

    def _abort(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            # The disk may be full or the file half written: what matters is that it goes.
            with suppress(OSError, sqlite3.Error):
                writer.abort()
        self._staged.abort()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name file and remedy when the disk is full or fails."""
        try:
            yield
        except (OSError, sqlite3.Error, WriterError) as error:
            code = getattr(error, "errno", None)
            full = code in _FULL or "full" in str(error)
            raise OutputError(
                "the disk is full" if full else "the bag can't be written",
                where=self.path,
                expected="room for the whole bag" if full else "a folder that can be written",
                got=str(error),
                next_step="free some space or choose another output folder; nothing that existed has been changed"
                if full
                else "check the folder's permissions and the disk, or choose another output folder",
            ) from error


def _profiles(value: QosPreset | Qos | Sequence[Qos]) -> tuple[Qos, ...]:
    if isinstance(value, str):
        return (qos(value),)
    return (value,) if isinstance(value, Qos) else tuple(value)


def _completed(info: TopicInfo) -> TopicInfo:
    if info.msgdef and info.digest:
        return info
    from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

    from realdiff_core.messages import typestore

    store = typestore()
    if not info.msgdef:
        if info.msgtype not in store.fielddefs or info.digest not in ("", store.hash_rihs01(info.msgtype)):
            return info
        definition, _ = store.generate_msgdef(info.msgtype, ros_version=2)
        return replace(info, msgdef=definition, digest=store.hash_rihs01(info.msgtype), msgdef_format="ros2msg")
    if info.msgdef_format == "ros2idl":
        return info
    # The hash follows from the definition, whether or not the type is known here.
    own = get_typestore(Stores.EMPTY)
    try:
        own.register(get_types_from_msg(info.msgdef, info.msgtype))
        return replace(info, digest=own.hash_rihs01(info.msgtype))
    except (TypesysError, KeyError):
        return info


def _qos_text(profiles: Sequence[Qos], version: int) -> str:
    if version < 9:
        return dump_qos_v8(list(profiles))
    return yaml.safe_dump(dump_qos_v9(list(profiles)), default_flow_style=False, sort_keys=False).strip()


def _write_humble_metadata(path: Path) -> None:
    """Bring metadata of version 8 down to version 5: without what rosbag2 added later, but for custom_data.

    Humble ignores that key; our own reader finds the provenance there.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    metadata = content["rosbag2_bagfile_information"]
    metadata["version"] = 5
    metadata.pop("ros_distro", None)
    if not metadata.get("custom_data"):
        metadata.pop("custom_data", None)
    for topic in metadata["topics_with_message_count"]:
        topic["topic_metadata"].pop("type_description_hash", None)
    path.write_text(yaml.safe_dump(content, default_flow_style=False, sort_keys=False), encoding="utf-8")
