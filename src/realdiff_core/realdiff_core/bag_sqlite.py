"""sqlite3 storage for large messages: `rosbags`' writer with settings that suit images. Use `realdiff_core.bag`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

# An image fills hundreds of SQLite's usual pages of 4 KiB; each would be written by a call of its own. The journal
# guards a database that is changed in place: this one is new, out of sight until it is complete, and synced then.
_SETTINGS = "PRAGMA page_size = 65536; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;"


class FastSqlite3Writer(Sqlite3Writer):
    """Sqlite3Writer that writes images several times as fast; the tables are the same."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        """Create the database.

        Args:
            path: Bag folder.
            compression: None or per message, which the caller does.
        """
        self.path = path / f"{path.name}.db3"
        self.conn = sqlite3.connect(f"file:{self.path}", uri=True)
        self.conn.executescript(_SETTINGS + self.SQLITE_SCHEMA)
        self.cursor = self.conn.cursor()
