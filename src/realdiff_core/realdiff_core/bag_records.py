"""Records of one storage file in the order of time. Import `BagReader` from `realdiff_core.bag`."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from typing import cast

from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, decompress
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from realdiff_core.errors import BagError

Record = tuple[int, int, str, bytes]  # stamp, position in the file, topic, data
_MAX_OVERLAP_BYTES = 256 << 20


def records(storage: McapReader | Sqlite3Reader, names: set[str]) -> Iterator[Record]:
    """Yield the records of some topics by stamp; equal stamps in the order of the file."""
    topics = {connection.id: connection.topic for connection in storage.connections if connection.topic in names}
    if not topics:
        return
    if isinstance(storage, Sqlite3Reader):
        yield from _sqlite_records(storage, topics)
    elif storage.chunks:
        yield from _mcap_records(storage, topics)
    else:
        # Without an index the file can only be read front to back; rosbags refuses it where that isn't the order of
        # time.
        connections = [connection for connection in storage.connections if connection.id in topics]
        for position, (connection, stamp, data) in enumerate(storage.messages(connections)):
            yield stamp, position, connection.topic, data


def _sqlite_records(storage: Sqlite3Reader, topics: dict[int, str]) -> Iterator[Record]:
    assert storage.dbconn is not None
    # Two queries, so that a bag without an index on time makes SQLite sort numbers and not images.
    marks = ",".join("?" * len(topics))
    order = f"SELECT id, topic_id, timestamp FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp, id"
    data_of = "SELECT data FROM messages WHERE id = ?"
    payload = storage.dbconn.cursor()
    for row_id, topic_id, stamp in storage.dbconn.cursor().execute(order, tuple(topics)):
        row = payload.execute(data_of, (row_id,)).fetchone()
        if row is None:
            raise ReaderError(f"Message {row_id} is in the index but not in the table.")
        yield cast("int", stamp), cast("int", row_id), topics[cast("int", topic_id)], cast("bytes", row[0])


def _mcap_records(storage: McapReader, topics: dict[int, str]) -> Iterator[Record]:
    """Read the chunks by their start times; a message waits until no later chunk can hold an earlier one."""
    chunks = sorted(
        (
            chunk
            for chunk in storage.chunks
            if not chunk.message_index_offsets or not topics.keys().isdisjoint(chunk.message_index_offsets)
        ),
        key=lambda chunk: (chunk.message_start_time, chunk.chunk_start_offset),
    )
    waiting: list[Record] = []
    waiting_bytes = 0
    for number, chunk in enumerate(chunks):
        for record in _chunk_records(storage, chunk, topics):
            heapq.heappush(waiting, record)
            waiting_bytes += len(record[3])
        horizon = chunks[number + 1].message_start_time if number + 1 < len(chunks) else None
        while waiting and (horizon is None or waiting[0][0] < horizon):
            record = heapq.heappop(waiting)
            waiting_bytes -= len(record[3])
            yield record
        if waiting_bytes > _MAX_OVERLAP_BYTES:
            raise BagError(
                "chunks of the bag overlap too much in time to be read in order",
                where=storage.path,
                expected=f"at most {_MAX_OVERLAP_BYTES >> 20} MiB of messages that have to wait",
                next_step="sort the bag first with `ros2 bag convert` or `mcap sort`",
            )


def _chunk_records(storage: McapReader, chunk: ChunkInfo, topics: dict[int, str]) -> Iterator[Record]:
    """Yield a chunk's messages in the order of the file."""
    assert storage.bio is not None
    # Chunk record: opcode and length (9 bytes), start and end time, uncompressed size (24), checksum (4), compression
    # (4 + n), size of the data (8), data.
    storage.bio.seek(chunk.chunk_start_offset + 9 + 24)
    head = storage.bio.read(4 + 4 + len(chunk.compression.encode()) + 8)
    (checksum,) = struct.unpack_from("<I", head)
    compressed = storage.bio.read(chunk.compressed_size)
    if len(compressed) != chunk.compressed_size:
        raise ReaderError(f"Chunk at byte {chunk.chunk_start_offset} ends before its {chunk.compressed_size} bytes.")
    content = memoryview(decompress(compressed, chunk.compression, chunk.uncompressed_size, checksum))
    position = 0
    while position < len(content):
        opcode, length = struct.unpack_from("<BQ", content, position)
        start, position = position + 9, position + 9 + length
        if position > len(content):
            raise ReaderError(f"Record in the chunk at byte {chunk.chunk_start_offset} leaves the chunk.")
        if opcode == 0x05:
            channel, _, log_time = struct.unpack_from("<HIQ", content, start)
            if channel in topics:
                where = (chunk.chunk_start_offset << 32) + start
                yield log_time, where, topics[channel], bytes(content[start + 22 : position])
