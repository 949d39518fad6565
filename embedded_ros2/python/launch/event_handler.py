"""Base classes of event handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .event import Event
from .launch_description_entity import LaunchDescriptionEntity

if TYPE_CHECKING:
    from .launch_context import LaunchContext
    from .some_entities_type import SomeEntitiesType


class BaseEventHandler:
    """Answers events that its matcher accepts."""

    def __init__(self, *, matcher: Callable[[Any], bool], handle_once: bool = False) -> None:
        """Keep the matcher.

        Args:
            matcher: Returns whether an event is meant.
            handle_once: Forget the handler after the first event.
        """
        self.__matcher = matcher
        self.__handle_once = handle_once

    @property
    def handle_once(self) -> bool:
        """Whether the handler serves one event only."""
        return self.__handle_once

    @property
    def matcher_description(self) -> str | None:
        """What the handler waits for."""
        return None

    @property
    def handler_description(self) -> str | None:
        """What the handler does."""
        return None

    def matches(self, event: Event) -> bool:
        """Return whether the handler answers this event."""
        return self.__matcher(event)

    def describe(self) -> tuple[str, list[LaunchDescriptionEntity]]:
        """Return a description and the entities that are visited, as far as known."""
        return (
            f"{type(self).__name__}(matcher='{self.matcher_description}', "
            f"handler='{self.handler_description}', handle_once={self.handle_once})",
            [],
        )

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        """Answer the event; return entities to visit."""
        context.extend_locals({"event": event})
        if self.handle_once:
            context.unregister_event_handler(self)
        return None


class EventHandler(BaseEventHandler):
    """Visits given entities on each event that the matcher accepts."""

    def __init__(
        self,
        *,
        matcher: Callable[[Any], bool],
        entities: SomeEntitiesType | None = None,
        handle_once: bool = False,
    ) -> None:
        """Keep the entities."""
        super().__init__(matcher=matcher, handle_once=handle_once)
        self.__entities = entities

    @property
    def entities(self) -> SomeEntitiesType | None:
        """Entities visited on each event."""
        return self.__entities

    def describe(self) -> tuple[str, list[LaunchDescriptionEntity]]:
        """Return a description and the entities."""
        text, known = super().describe()
        if isinstance(self.__entities, LaunchDescriptionEntity):
            known.append(self.__entities)
        elif isinstance(self.__entities, Iterable):
            known.extend(self.__entities)
        return text, known

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        """Return the entities."""
        super().handle(event, context)
        return self.__entities
