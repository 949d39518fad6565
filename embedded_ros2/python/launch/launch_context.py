"""What is known while launching: launch configurations, environment, event handlers."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, MutableMapping
from types import SimpleNamespace
from typing import Any

from .event import Event
from .event_handler import BaseEventHandler
from .substitution import Substitution


class _Locals(SimpleNamespace):
    """Attributes of the event in hand and of the launch file in hand."""

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(vars(self))
        raise AttributeError(f"context.locals does not contain attribute '{name}', it contains: [{known}]")


class LaunchContext:
    """State of one launch."""

    def __init__(self, *, argv: Iterable[str] | None = None, noninteractive: bool = False) -> None:
        """Start with an empty context.

        Args:
            argv: Arguments of the command line, for those who ask.
            noninteractive: True if no terminal sends Ctrl-C to the processes themselves.
        """
        self.argv = list(argv or [])
        self.noninteractive = noninteractive
        self.is_shutdown = False
        self.asyncio_loop: asyncio.AbstractEventLoop | None = None
        self.event_queue: deque[Event] = deque()
        self.wake: asyncio.Event | None = None
        self.completion_futures: list[asyncio.Future[Any]] = []
        # Any is what the values of a launch configuration really are: text, and lists for
        # the parameters and remappings that launch_ros keeps there.
        self.launch_configurations: dict[str, Any] = {}
        self.__handlers: deque[BaseEventHandler] = deque()
        self.__globals: dict[str, Any] = {}
        self.__locals: dict[str, Any] = {}
        self.__locals_stack: list[dict[str, Any]] = []
        self.__configurations_stack: list[dict[str, Any]] = []
        self.__environment_stack: list[dict[str, str]] = []
        self.__initial_environment = dict(os.environ)

    # --- locals ------------------------------------------------------------------------
    def extend_globals(self, extensions: dict[str, Any]) -> None:
        """Add attributes to ``locals`` for good."""
        self.__globals.update(extensions)

    def extend_locals(self, extensions: dict[str, Any]) -> None:
        """Add attributes to ``locals`` until the event in hand is done."""
        self.__locals.update(extensions)

    def get_locals_as_dict(self) -> dict[str, Any]:
        """Return ``locals`` as a dictionary."""
        return {**self.__globals, **self.__locals}

    @property
    def locals(self) -> Any:
        """Attributes such as ``event`` and ``current_launch_file_directory``."""
        return _Locals(**self.get_locals_as_dict())

    def push_locals(self) -> None:
        """Remember the locals."""
        self.__locals_stack.append(dict(self.__locals))

    def pop_locals(self) -> None:
        """Return to the locals remembered last."""
        self.__locals = self.__locals_stack.pop()

    # --- launch configurations and environment -----------------------------------------
    def push_launch_configurations(self) -> None:
        """Open a scope of launch configurations."""
        self.__configurations_stack.append(dict(self.launch_configurations))

    def pop_launch_configurations(self) -> None:
        """Close the scope opened last."""
        if not self.__configurations_stack:
            raise RuntimeError("launch_configurations stack unexpectedly empty")
        self.launch_configurations = self.__configurations_stack.pop()

    @property
    def environment(self) -> MutableMapping[str, str]:
        """Environment that processes are started with."""
        return os.environ

    def push_environment(self) -> None:
        """Open a scope of environment variables."""
        self.__environment_stack.append(dict(os.environ))

    def pop_environment(self) -> None:
        """Close the scope opened last."""
        if not self.__environment_stack:
            raise RuntimeError("environment stack unexpectedly empty")
        self.__set_environment(self.__environment_stack.pop())

    def reset_environment(self) -> None:
        """Return to the environment at the start."""
        self.__set_environment(self.__initial_environment)

    @staticmethod
    def __set_environment(variables: dict[str, str]) -> None:
        os.environ.clear()
        os.environ.update(variables)

    # --- events ------------------------------------------------------------------------
    @property
    def event_handlers(self) -> tuple[BaseEventHandler, ...]:
        """Event handlers in the order in which they are asked: the newest first."""
        return tuple(self.__handlers)

    def register_event_handler(self, event_handler: BaseEventHandler, append: bool = False) -> None:
        """Add an event handler before the others, or after them with ``append``."""
        if append:
            self.__handlers.append(event_handler)
        else:
            self.__handlers.appendleft(event_handler)

    def unregister_event_handler(self, event_handler: BaseEventHandler) -> None:
        """Remove an event handler.

        Raises:
            ValueError: If it is not registered.
        """
        self.__handlers.remove(event_handler)

    def would_handle_event(self, event: Event) -> bool:
        """Return whether any handler waits for such an event."""
        return any(handler.matches(event) for handler in self.__handlers)

    def emit_event_sync(self, event: Event) -> None:
        """Queue an event (from the thread of the event loop)."""
        self.event_queue.append(event)
        if self.wake is not None:
            self.wake.set()

    async def emit_event(self, event: Event) -> None:
        """Queue an event."""
        self.emit_event_sync(event)

    def add_completion_future(self, completion_future: asyncio.Future[Any]) -> None:
        """Keep the launch alive until this future is done."""
        self.completion_futures.append(completion_future)
        if self.wake is not None:
            self.wake.set()

    def perform_substitution(self, substitution: Substitution) -> str:
        """Return the text of a substitution."""
        return substitution.perform(self)
