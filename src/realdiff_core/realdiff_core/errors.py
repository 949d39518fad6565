"""Errors that tell the user what is wrong, where, what was expected, what was found, and what to do next."""

from __future__ import annotations


class RealdiffError(Exception):
    """Base of every error that a user can cause or mend.

    Args:
        what: What went wrong, in one sentence without a full stop.
        where: File, topic or key that is concerned.
        expected: What was expected there.
        got: What was found instead.
        next_step: What the user can do about it, often a command.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        next_step: str | None = None,
    ) -> None:
        """Keep the parts; `str()` puts them together."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.next_step = next_step

    def at(self, where: object) -> RealdiffError:
        """Name the place, keeping what is already known about it; returns self so that it can be raised.

        A conversion deep in the library knows what is wrong with an image but not which file and topic it came from;
        the caller adds that.
        """
        self.where = where if self.where is None else f"{where}, {self.where}"
        return self

    def __str__(self) -> str:
        """Return the whole message, one part a line."""
        lines = [self.what]
        for label, value in (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("next step", self.next_step),
        ):
            if value is not None:
                lines.append(f"  {label + ':':<10} {value}")
        return "\n".join(lines)


class BagError(RealdiffError):
    """A bag can't be read or written as asked."""


class ImageError(RealdiffError):
    """An image message contradicts itself or has an encoding that isn't handled."""


class DepthError(RealdiffError):
    """A depth image isn't one, or its values can't be converted."""


class CameraError(RealdiffError):
    """Camera intrinsics are missing or make no sense."""


class ConfigError(RealdiffError):
    """A configuration file is missing or invalid."""


class ProvenanceError(RealdiffError):
    """Depth of this origin must not be used this way."""


class OutputError(RealdiffError):
    """The output exists already or can't be written."""
