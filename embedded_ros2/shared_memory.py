"""Frees what killed processes left in shared memory.

Fast DDS gives every participant a segment under /dev/shm (70 MB with our profile) and removes it when the participant
ends; a process that is killed leaves it behind, and a few dozen of those fill a machine's memory. A living owner holds
a lock on `<segment>_el`, so a segment whose lock can be had belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

FOLDER = Path("/dev/shm")
_LOCK_SUFFIX = "_el"
_STARTING_S = 10.0
"""Younger segments are left alone: their owner may be about to take its lock."""


def remove_orphans(folder: Path = FOLDER) -> int:
    """Removes the segments and ports of Fast DDS participants whose process is gone.

    Args:
        folder: Where shared memory is mounted.

    Returns:
        The number of bytes freed. What belongs to other users is left alone.
    """
    freed = 0
    newest = time.time() - _STARTING_S
    for lock in folder.glob(f"fastrtps_*{_LOCK_SUFFIX}"):
        segment = lock.with_name(lock.name.removesuffix(_LOCK_SUFFIX))
        try:
            handle = os.open(lock, os.O_RDWR)
        except OSError:
            continue  # another user's, or gone since the listing
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = segment.stat()
            if state.st_mtime < newest and os.fstat(handle).st_mtime < newest:
                segment.unlink()
                lock.unlink()
                (folder / f"sem.{segment.name}_mutex").unlink(missing_ok=True)
                freed += state.st_size
        except OSError:
            continue  # in use, or gone
        finally:
            os.close(handle)
    return freed
