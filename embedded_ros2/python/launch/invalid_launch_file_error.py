"""Error for launch files that can't be loaded."""

from __future__ import annotations

from collections.abc import Sequence


class InvalidLaunchFileError(Exception):
    """A launch file can't be loaded."""

    def __init__(self, extension: str = "", *, likely_errors: Sequence[Exception] = ()) -> None:
        """Describe the errors.

        Args:
            extension: Of the file's name.
            likely_errors: What was raised.
        """
        if not extension or not likely_errors:
            message = "The launch file may have a syntax error, or its format is unknown"
        else:
            start = "multiple exceptions" if len(likely_errors) > 1 else "exception"
            message = f"Caught {start} when trying to load file of format [{extension}]:"
            message += "".join(f"\n - {type(error).__name__}: {error}" for error in likely_errors)
        super().__init__(message)
