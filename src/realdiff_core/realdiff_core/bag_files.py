"""Is this path a bag, and if not, why? Import `BagReader` from `realdiff_core.bag`."""

from __future__ import annotations

import lzma
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import apsw
import yaml
from rosbags.rosbag2 import ReaderError

from realdiff_core.bag_types import STORAGES, SUFFIXES, Storage, check_sqlite_path
from realdiff_core.errors import BagError, RealdiffError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What the storage libraries raise on damaged files; none of them says it in a way that helps a user.
DAMAGE = (
    ReaderError,
    apsw.Error,
    zstd.ZstdError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def decompress_message(data: bytes) -> bytes:
    """Undo rosbag2's per-message compression."""
    return zstd.decompress(data)


_SAFE_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C where PyYAML was built so: a folder may hold a thousand bags."""

_RESCUE = "rescue what is left: `mcap recover` (mcap) or `sqlite3 FILE .recover` (sqlite3), then `ros2 bag reindex`"


def bag_path(path: Path) -> Path:
    """Return the folder of a bag, or a storage file that stands alone."""
    if not path.exists():
        raise BagError("bag doesn't exist", where=path, next_step="check the path")
    if path.is_file() and path.name == "metadata.yaml":
        return path.parent
    if path.suffix in SUFFIXES and path.is_file() and (path.parent / "metadata.yaml").is_file():
        # The only file of a bag is the bag: provenance and QoS are in its metadata.
        only = len(list(path.parent.glob(f"*{path.suffix}*"))) == 1
        return path.parent if only else path
    return path


def storage_of(path: Path) -> Storage:
    """Return the storage plugin's name after checks whose failure can be explained better than the libraries do."""
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(
                "this is a ROS 1 bag",
                where=path,
                expected="a rosbag2 folder, .mcap or .db3",
                next_step=f"convert it: `rosbags-convert --src {path} --dst {path.with_suffix('')}`",
            )
        if path.suffix not in SUFFIXES:
            raise BagError("unknown bag storage", where=path, expected="a bag folder, .mcap or .db3", got=path.suffix)
        _check_file(path)
        storage = SUFFIXES[path.suffix]
        if storage == "sqlite3":
            check_sqlite_path(path, "reading a bag")
        return storage
    metadata_path = path / "metadata.yaml"
    if not metadata_path.is_file():
        found = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
        plugin = SUFFIXES[found[0].suffix] if found else None
        raise BagError(
            "metadata.yaml is missing",
            where=path,
            expected="a bag folder with metadata.yaml",
            got=f"{len(found)} storage files and no metadata.yaml" if found else "no bag",
            next_step=f"the recorder was killed? Rebuild it: `ros2 bag reindex {path} -s {plugin}`" if plugin else None,
        )
    metadata = _metadata(metadata_path)
    storage_name = metadata.get("storage_identifier")
    if storage_name not in STORAGES:
        raise BagError(
            "unknown bag storage",
            where=metadata_path,
            expected=" or ".join(STORAGES),
            got=storage_name,
            next_step="convert the bag with `ros2 bag convert` on a machine that has this storage plugin",
        )
    for name in metadata.get("relative_file_paths") or []:
        file = path / Path(str(name)).name
        if not file.is_file():
            raise BagError(
                "a file of the bag is missing",
                where=file,
                expected="what metadata.yaml lists",
                next_step="copy it, too",
            )
        _check_file(file)
    if storage_name == "sqlite3":
        check_sqlite_path(path, "reading a bag")
    return cast("Storage", storage_name)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_SAFE_LOADER)
        metadata = content["rosbag2_bagfile_information"]
        if not isinstance(metadata, dict):
            raise TypeError("rosbag2_bagfile_information is not a mapping")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BagError(
            "metadata.yaml is damaged",
            where=path,
            expected="rosbag2 metadata",
            got=f"{type(error).__name__}: {error}",
            next_step=f"move it away and rebuild it: `ros2 bag reindex {path.parent}`",
        ) from error
    return metadata


def _check_file(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise BagError(
            "storage file of the bag is empty",
            where=path,
            expected="recorded data",
            got="0 bytes",
            next_step="record again: the recorder was killed or the disk was full",
        )
    if path.suffix == ".db3" and size < (expected := _sqlite_size(path)):
        # SQLite itself reads zeros where a page has been cut off: wrong images instead of an error.
        raise BagError(
            "bag is truncated or damaged",
            where=path,
            expected=f"{expected} bytes",
            got=f"{size} bytes",
            next_step=_RESCUE,
        )


def _sqlite_size(path: Path) -> int:
    """Return the size that an SQLite file's header promises; 0 where it promises nothing."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or header[24:28] != header[92:96]:  # by old versions of SQLite: the page count isn't kept
        return 0
    page_size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    return (65536 if page_size == 1 else page_size) * pages


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the storage libraries raise on a damaged file into an error that helps."""
    try:
        yield
    except RealdiffError:
        raise
    except DAMAGE as error:
        detail = str(error) or type(error).__name__
        raise BagError(
            "bag is truncated or damaged",
            where=path,
            expected="a complete bag",
            got=detail,
            next_step=_RESCUE,
        ) from error
