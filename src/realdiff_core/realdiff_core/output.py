"""Output folders that are complete under their final name, or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection
from glob import escape
from pathlib import Path

from realdiff_core.errors import OutputError

_LOCK = "lock"
_PREVIOUS = "previous"


class StagedFolder:
    """A folder that is filled out of sight, beside its final name, and renamed when it is complete.

    Nothing appears under the final name before, and what was there stays, whatever kills the process. The remains of
    killed processes are cleared by the next `begin` for the same name; folders in use are locked, and left alone.

    Args:
        path: Final name.
        overwrite: Replace an existing folder at the end, if it holds nothing but files with `suffixes`.
        suffixes: Kinds of files that may be overwritten.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, suffixes: Collection[str] = ()) -> None:
        """Remember the arguments; `begin` does the work."""
        self.path = path
        self.overwrite = overwrite
        self.suffixes = suffixes
        self._work: Path | None = None
        self._lock = -1

    def begin(self) -> Path:
        """Return the name under which the folder must be made and filled.

        Raises:
            OutputError: The final name is taken.
            OSError: The file system refuses.
        """
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._clear_remains()
        # The folder gets its telling name only once it is locked, so that no other process takes it for remains.
        nameless = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.begin-", dir=self.path.parent))
        self._lock = os.open(nameless / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._work = nameless.with_name(f".{self.path.name}.partial-{nameless.name.rpartition('-')[2]}")
        nameless.rename(self._work)
        return self._work / self.path.name

    def complete(self) -> None:
        """Give the folder its final name.

        Raises:
            OutputError: The final name has been taken meanwhile.
            OSError: The file system refuses.
        """
        work = self._work
        assert work is not None
        fresh = work / self.path.name
        for file in fresh.iterdir():
            _sync(file)
        self.check()
        if self.path.exists():
            self.path.rename(work / _PREVIOUS)
        fresh.rename(self.path)
        _sync(self.path.parent)
        self._clear(work)

    def abort(self) -> None:
        """Leave nothing behind; allowed at any time."""
        if self._work is not None:
            _put_back(self._work, self.path)
            self._clear(self._work)

    def check(self) -> None:
        """Refuse a final name that is taken; with `overwrite` still refuse what holds other files.

        Raises:
            OutputError: See above.
        """
        if not os.path.lexists(self.path):
            return
        if not self.overwrite:
            raise OutputError(
                "output exists already",
                where=self.path,
                expected="a name that is free",
                next_step="choose another name, remove it, or ask for it to be overwritten",
            )
        content = list(self.path.iterdir()) if self.path.is_dir() and not self.path.is_symlink() else None
        if content is None or any(item.is_dir() or item.suffix not in self.suffixes for item in content):
            raise OutputError(
                "output exists already and holds something else: it won't be overwritten",
                where=self.path,
                expected=f"a folder with nothing but {', '.join(sorted(self.suffixes))} files",
                next_step="choose another name",
            )

    def _clear(self, work: Path) -> None:
        self._work = None
        shutil.rmtree(work, ignore_errors=True)
        os.close(self._lock)

    def _clear_remains(self) -> None:
        for work in self.path.parent.glob(f".{escape(self.path.name)}.partial-*"):
            try:
                lock = os.open(work / _LOCK, os.O_RDWR)
            except OSError:
                continue  # not ours
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # in use
            else:
                _put_back(work, self.path)
                shutil.rmtree(work, ignore_errors=True)
            finally:
                os.close(lock)


def _put_back(work: Path, path: Path) -> None:
    """Restore the previous folder where a process died between moving it away and putting the new one in its place."""
    if (work / _PREVIOUS).exists() and not path.exists():
        (work / _PREVIOUS).rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
