"""Journal of an enhancement: frames that are done survive a killed process.

The journal is a folder beside the output, `.NAME.job`, with `job.json` (what is being done) and `frames.bin` (the
enhanced pixels, appended frame by frame). A process that dies leaves at most one incomplete record at the end, which is
cut off.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from realdiff_core.errors import OutputError

__all__ = ["FrameKey", "Journal"]

FrameKey = tuple[int, int, int]  # stream, frame within the stream, draw

_RECORD = struct.Struct("<4sHQHBxIQ")  # magic, stream, frame, draw, unchanged, checksum, length
_MAGIC = b"RDF1"


def _in_use(folder: Path) -> OutputError:
    return OutputError(
        "another process is writing this output",
        where=folder,
        next_step="wait for it, or stop it and continue with --resume",
    )


def _differences(known: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Keys in which two descriptions differ, those of dictionaries in dictionaries with dots; and both values."""
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*known, *wanted}):
        theirs, mine = known.get(key), wanted.get(key)
        if isinstance(theirs, dict) and isinstance(mine, dict):
            found += _differences(theirs, mine, f"{prefix}{key}.")
        elif theirs != mine:
            found.append((f"{prefix}{key}", theirs, mine))
    return found


class Journal:
    """Frames of one job that are done; use it as a context manager.

    Args:
        folder: Folder of the journal.
        job: What is being done: anything that decides on the bytes of a frame. Values as JSON has them.
        resume: Continue the journal that is there.

    Attributes:
        resumed: Frames that were done before this process began.

    Raises:
        OutputError: A journal is there but may not be continued, is another job's, or is in use by another process.
    """

    def __init__(self, folder: Path, job: dict[str, object], *, resume: bool) -> None:
        """Checks what is there; `__enter__` opens it."""
        self.folder = folder
        self.job = job
        self._description = json.dumps(job, sort_keys=True, indent=1)
        self._index: dict[FrameKey, tuple[int, int, int]] = {}
        self._file = -1
        self._lock = -1
        self._end = 0
        self._appending = threading.Lock()
        self._continued = False
        self.resumed = 0
        frames = folder / "frames.bin"
        if (folder / "job.json").exists() and frames.exists() and frames.stat().st_size:
            self._check(resume)
            self._continued = True

    @staticmethod
    def folder_for(output: Path) -> Path:
        """The journal's folder for an output."""
        return output.with_name(f".{output.name}.job")

    def _check(self, resume: bool) -> None:
        if not resume:
            raise OutputError(
                "an interrupted run of this output is here",
                where=self.folder,
                expected="no unfinished work",
                next_step="continue it with --resume, or begin anew with --overwrite",
            )
        try:
            known = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise OutputError(
                "the interrupted run can't be read",
                where=self.folder / "job.json",
                got=str(error),
                next_step="begin anew with --overwrite",
            ) from error
        wanted = json.loads(self._description)
        different = _differences(known, wanted)
        if different:
            raise OutputError(
                "the interrupted run did something else: it can't be continued",
                where=self.folder,
                expected="; ".join(f"{key} {theirs}" for key, theirs, _ in different),
                got="; ".join(f"{key} {mine}" for key, _, mine in different),
                next_step="repeat the command with the same input and options, or begin anew with --overwrite",
            )

    def __enter__(self) -> Journal:
        """Opens the journal for this process alone."""
        with self._disk():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise _in_use(self.folder) from None
            self._file = os.open(self.folder / "frames.bin", os.O_CREAT | os.O_RDWR, 0o644)
            if self._continued:
                self._scan()
                self.resumed = len(self._index)
            os.ftruncate(self._file, self._end)
            temporary = self.folder / "job.json.new"
            temporary.write_text(self._description, encoding="utf-8")
            temporary.replace(self.folder / "job.json")
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the journal; what it holds stays."""
        os.close(self._file)
        os.close(self._lock)

    def _scan(self) -> None:
        """Finds the complete records, and where they end."""
        size = os.fstat(self._file).st_size
        while self._end + _RECORD.size <= size:
            head = os.pread(self._file, _RECORD.size, self._end)
            magic, stream, frame, draw, unchanged, checksum, length = _RECORD.unpack(head)
            start = self._end + _RECORD.size
            if magic != _MAGIC or start + length > size:
                break
            # Records were appended in order: only the last can be incomplete, and `get` checks every sum anyway.
            self._index[stream, frame, draw] = (start, -1 if unchanged else length, checksum)
            self._end = start + length

    def __len__(self) -> int:
        """Frames that are done."""
        return len(self._index)

    def __contains__(self, key: FrameKey) -> bool:
        """Whether the frame is done."""
        return key in self._index

    def get(self, key: FrameKey) -> bytes | None:
        """The pixels of a frame that is done; None where the model left it as it was.

        Raises:
            KeyError: The frame isn't done.
            OutputError: The record is damaged.
        """
        start, length, checksum = self._index[key]
        if length < 0:
            return None
        with self._disk():
            payload = os.pread(self._file, length, start)
        if len(payload) != length or zlib.crc32(payload) != checksum:
            raise OutputError(
                "the interrupted run's journal is damaged",
                where=self.folder / "frames.bin",
                got=f"a wrong checksum at byte {start}",
                next_step="begin anew with --overwrite",
            )
        return payload

    def add(self, key: FrameKey, payload: bytes | None) -> None:
        """Appends a frame; several threads may at once.

        Args:
            key: Stream, frame, draw.
            payload: Its pixels, or None where the model left it as it was.

        Raises:
            OutputError: The disk is full or fails.
        """
        data = payload or b""
        checksum = zlib.crc32(data)
        head = _RECORD.pack(_MAGIC, *key, payload is None, checksum, len(data))
        with self._appending, self._disk():
            written = os.pwritev(self._file, (head, data), self._end)
            if written != len(head) + len(data):
                raise OSError(errno.ENOSPC, "incomplete write", str(self.folder))
            self._index[key] = (self._end + len(head), -1 if payload is None else len(data), checksum)
            self._end += written

    def remove(self) -> None:
        """Deletes the journal: the outputs are complete."""
        shutil.rmtree(self.folder)

    @staticmethod
    def discard(folder: Path) -> None:
        """Deletes what an interrupted run left.

        Raises:
            OutputError: The run isn't interrupted: its process is at work.
        """
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            raise _in_use(folder) from None
        finally:
            os.close(lock)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise OutputError(
                "the disk is full" if full else "the journal can't be written",
                where=self.folder,
                expected="room for the enhanced depth once more while the output is being written" if full else None,
                got=str(error),
                next_step="free some space and continue with --resume" if full else "check the folder's permissions",
            ) from error
