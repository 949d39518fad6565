"""What every command line shares: one way to fail, one way to show progress."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

from realdiff_core.errors import RealdiffError

EXIT_INTERRUPTED = 130


def parser(description: str, examples: str = "", prog: str | None = None) -> argparse.ArgumentParser:
    """Return an argument parser whose help ends with `examples`, printed as written."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit with its code.

    A `RealdiffError` is printed on stderr without a traceback (exit code 2), a full disk and a denied permission are
    named with the file, Ctrl-C exits with 130. Anything else is a defect and keeps its traceback.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except RealdiffError as error:
        code = _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone: not an error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        hint = {
            errno.ENOSPC: "the disk is full: free some space or choose another output folder",
            errno.EDQUOT: "the disk quota is used up: free some space or choose another output folder",
            errno.EFBIG: "the file grew over the allowed size: see `ulimit -f`, or choose another file system",
            errno.EACCES: "permission denied",
            errno.EROFS: "the file system is read-only: choose another output folder",
        }.get(error.errno or 0)
        if hint is None:
            raise
        code = _fail(f"{hint}\n  where:     {error.filename or 'output'}", RealdiffError.exit_code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


class Progress(Protocol):
    """What `progress` yields."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more finished units."""

    def describe(self, text: str) -> None:
        """Replace the text before the bar."""


class _Silent:
    def advance(self, n: int = 1) -> None:
        """Show nothing."""

    def describe(self, text: str) -> None:
        """Show nothing."""


@contextmanager
def progress(description: str, total: int | None, unit: str = "frames") -> Iterator[Progress]:
    """Show a progress bar on stderr while the body runs; nothing where stderr isn't a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)

        class _Bar:
            def advance(self, n: int = 1) -> None:
                bar.advance(task, n)

            def describe(self, text: str) -> None:
                bar.update(task, description=text)

        yield _Bar()
