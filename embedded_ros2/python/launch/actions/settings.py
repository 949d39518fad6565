"""Actions that change launch configurations and environment variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..action import Action
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution

if TYPE_CHECKING:
    from ..launch_context import LaunchContext


class _Named(Action):
    def __init__(self, name: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Name what is changed."""
        super().__init__(**kwargs)
        self.name = normalize_to_list_of_substitutions(name)


class _NamedValue(_Named):
    def __init__(self, name: SomeSubstitutionsType, value: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Name what is changed, and its value."""
        super().__init__(name, **kwargs)
        self.value = normalize_to_list_of_substitutions(value)


class SetLaunchConfiguration(_NamedValue):
    """Set a launch configuration."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it."""
        context.launch_configurations[perform_substitutions(context, self.name)] = perform_substitutions(
            context, self.value
        )
        return None


class UnsetLaunchConfiguration(_Named):
    """Remove a launch configuration."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Remove it, if it exists."""
        context.launch_configurations.pop(perform_substitutions(context, self.name), None)
        return None


class SetEnvironmentVariable(_NamedValue):
    """Set an environment variable for the processes started later."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it."""
        context.environment[perform_substitutions(context, self.name)] = perform_substitutions(context, self.value)
        return None


class UnsetEnvironmentVariable(_Named):
    """Remove an environment variable."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Remove it, if it is set."""
        context.environment.pop(perform_substitutions(context, self.name), None)
        return None


class AppendEnvironmentVariable(_NamedValue):
    """Add to an environment variable that is a list, such as PATH."""

    def __init__(
        self,
        name: SomeSubstitutionsType,
        value: SomeSubstitutionsType,
        prepend: bool | SomeSubstitutionsType = False,
        separator: SomeSubstitutionsType = os.pathsep,
        **kwargs: Any,
    ) -> None:
        """Name variable and value.

        Args:
            name: Variable.
            value: What is added.
            prepend: Add it in front.
            separator: Text between the items.
            **kwargs: condition.
        """
        super().__init__(name, value, **kwargs)
        self.prepend = normalize_typed_substitution(prepend, bool)
        self.separator = normalize_to_list_of_substitutions(separator)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Add the value, or set it where the variable is not set."""
        name = perform_substitutions(context, self.name)
        items = [context.environment[name]] if name in context.environment else []
        value = perform_substitutions(context, self.value)
        if perform_typed_substitution(context, self.prepend, bool):
            items.insert(0, value)
        else:
            items.append(value)
        context.environment[name] = perform_substitutions(context, self.separator).join(items)
        return None


class PushLaunchConfigurations(Action):
    """Open a scope of launch configurations."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Open it."""
        context.push_launch_configurations()
        return None


class PopLaunchConfigurations(Action):
    """Close the scope of launch configurations opened last."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Close it."""
        context.pop_launch_configurations()
        return None


class PushEnvironment(Action):
    """Open a scope of environment variables."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Open it."""
        context.push_environment()
        return None


class PopEnvironment(Action):
    """Close the scope of environment variables opened last."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Close it."""
        context.pop_environment()
        return None


class ResetEnvironment(Action):
    """Return to the environment that the launch was started with."""

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Return to it."""
        context.reset_environment()
        return None


class ResetLaunchConfigurations(Action):
    """Forget all launch configurations but the given ones."""

    def __init__(
        self,
        launch_configurations: dict[Any, SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        """Name those that stay, with their values."""
        super().__init__(**kwargs)
        self.__kept = launch_configurations or {}

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Forget the others."""
        kept = {
            perform_substitutions(context, normalize_to_list_of_substitutions(name)): perform_substitutions(
                context, normalize_to_list_of_substitutions(value)
            )
            for name, value in self.__kept.items()
        }
        context.launch_configurations.clear()
        context.launch_configurations.update(kept)
        return None
