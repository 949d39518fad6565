"""Launch descriptions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .launch_description_entity import LaunchDescriptionEntity
from .logging import get_logger

if TYPE_CHECKING:
    from .actions import DeclareLaunchArgument, IncludeLaunchDescription
    from .launch_context import LaunchContext


class LaunchDescription(LaunchDescriptionEntity):
    """What a launch file returns: entities, visited one after the other."""

    def __init__(
        self,
        initial_entities: Iterable[LaunchDescriptionEntity] | None = None,
        *,
        deprecated_reason: str | None = None,
    ) -> None:
        """Keep the entities.

        Args:
            initial_entities: Entities.
            deprecated_reason: Why the launch file should no longer be used.
        """
        self.entities = list(initial_entities or ())
        self.deprecated_reason = deprecated_reason

    @property
    def deprecated(self) -> bool:
        """Whether the launch file should no longer be used."""
        return self.deprecated_reason is not None

    def add_entity(self, entity: LaunchDescriptionEntity) -> None:
        """Add an entity."""
        self.entities.append(entity)

    def add_action(self, action: LaunchDescriptionEntity) -> None:
        """Add an action."""
        self.entities.append(action)

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        """Return the entities."""
        if self.deprecated_reason is not None:
            path = context.get_locals_as_dict().get("current_launch_file_path")
            what = "deprecated launch description" if path is None else f"launch file [{path}] is deprecated"
            get_logger("root").warning(f"{what}: {self.deprecated_reason}")
        return self.entities

    def describe_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the entities."""
        return self.entities

    def get_launch_arguments(self, conditional_inclusion: bool = False) -> list[DeclareLaunchArgument]:
        """Return the declared arguments, those of included files among them as far as known."""
        found = self.get_launch_arguments_with_include_launch_description_actions(conditional_inclusion)
        return [argument for argument, _ in found]

    def get_launch_arguments_with_include_launch_description_actions(
        self, conditional_inclusion: bool = False
    ) -> list[tuple[DeclareLaunchArgument, list[IncludeLaunchDescription] | None]]:
        """Find the declared arguments.

        Args:
            conditional_inclusion: The description itself is visited in some cases only.

        Returns:
            (argument, includes on the way to it or None), the first declaration of each name.
        """
        from .actions import DeclareLaunchArgument, IncludeLaunchDescription, ResetLaunchConfigurations

        found: dict[str, tuple[DeclareLaunchArgument, list[IncludeLaunchDescription] | None]] = {}

        def search(
            entities: Iterable[LaunchDescriptionEntity],
            conditional: bool,
            includes: list[IncludeLaunchDescription] | None,
        ) -> None:
            for entity in entities:
                if isinstance(entity, ResetLaunchConfigurations):
                    # What is declared after it can't be set from outside.
                    return
                if isinstance(entity, DeclareLaunchArgument):
                    if entity.name in found:
                        continue
                    entity._conditionally_included = conditional or entity.condition is not None
                    found[entity.name] = (entity, includes)
                inner = includes
                if isinstance(entity, IncludeLaunchDescription):
                    # One list for all that follow in this file, as the real launch has it.
                    if inner is None:
                        inner = []
                    inner.append(entity)
                search(entity.describe_sub_entities(), False, inner)
                for _, children in entity.describe_conditional_sub_entities():
                    search(children, True, inner)

        search(self.entities, conditional_inclusion, None)
        return list(found.values())
