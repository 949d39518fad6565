"""Base class of everything a launch description holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class LaunchDescriptionEntity:
    """A part of a launch description; it is visited while launching."""

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Do what the entity is for and return the entities to visit next."""
        raise NotImplementedError(f"{type(self).__name__}.visit")

    def describe(self) -> str:
        """Return a description for people."""
        return repr(self)

    def describe_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the entities that are always visited after this one, as far as known."""
        return []

    def describe_conditional_sub_entities(
        self,
    ) -> list[tuple[str, Iterable[LaunchDescriptionEntity]]]:
        """Return (condition, entities) for entities that are visited in some cases only."""
        return []

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        """Return a future that completes when the entity has nothing more to do, or None."""
        return None
