"""Base class of what is replaced by text when a launch file runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Substitution:
    """Text that is known only while launching."""

    def describe(self) -> str:
        """Return a text for ``--show-args`` and ``--print-description``."""
        return repr(self)

    def perform(self, context: LaunchContext) -> str:
        """Return the text for this context.

        Raises:
            SubstitutionFailure: If there is no such text.
        """
        raise NotImplementedError(f"{type(self).__name__}.perform")
