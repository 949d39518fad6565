"""Base class of conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Condition:
    """Decides while launching whether an action runs."""

    def __init__(self, *, predicate: Callable[[LaunchContext], bool]) -> None:
        """Wrap a predicate."""
        self._predicate = predicate

    def describe(self) -> str:
        """Return a description for people."""
        return repr(self)

    def evaluate(self, context: LaunchContext) -> bool:
        """Return whether the action runs."""
        return self._predicate(context)
