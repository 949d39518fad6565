"""Lets an action's coroutine wait for something that happens in the simulation, or for the client to cancel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Answer(Generic[T]):
    """Something that will be known later; what is said first holds."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._value: T | None = None
        self.known = False

    def give(self, value: T) -> None:
        """Makes it known."""
        if not self.known:
            self._value, self.known = value, True

    async def wait(self, handle: Any, cancelled: Callable[[], None]) -> T:
        """Waits for it.

        Args:
            handle: The action's goal handle.
            cancelled: Called once when the client cancels; it must make the answer known.
        """
        asked = False
        while not self.known:
            if handle.is_cancel_requested and not asked:
                asked = True
                cancelled()
                continue
            await _NextSpin()
        return self._value  # type: ignore[return-value]


class _NextSpin:
    """Awaiting this gives the executor a turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield
