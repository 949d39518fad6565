"""Base class of actions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .condition import Condition
from .launch_description_entity import LaunchDescriptionEntity

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class Action(LaunchDescriptionEntity):
    """Something a launch file wants done, under a condition if one is given."""

    def __init__(self, *, condition: Condition | None = None) -> None:
        """Keep the condition.

        Args:
            condition: The action runs only where it holds; None runs always.
        """
        self.__condition = condition

    @property
    def condition(self) -> Condition | None:
        """Condition of the action."""
        return self.__condition

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the entities that the action brings along, as far as known beforehand."""
        return []

    def describe_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return what comes along without a condition."""
        return self.get_sub_entities() if self.condition is None else []

    def describe_conditional_sub_entities(
        self,
    ) -> list[tuple[str, Iterable[LaunchDescriptionEntity]]]:
        """Return what comes along under the action's condition."""
        if self.condition is None:
            return []
        return [(f"Conditionally included by {self.describe()}", self.get_sub_entities())]

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Execute the action if its condition holds."""
        if self.__condition is not None and not self.__condition.evaluate(context):
            return None
        try:
            return self.execute(context)
        finally:
            self.__announce_completion(context)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Do the action; return entities to visit next."""
        return None

    def __announce_completion(self, context: LaunchContext) -> None:
        from .events import ExecutionComplete

        event = ExecutionComplete(action=self)
        if not context.would_handle_event(event):
            return
        future = self.get_asyncio_future()
        if future is None:
            context.emit_event_sync(event)
        else:
            future.add_done_callback(lambda _: context.emit_event_sync(event))
