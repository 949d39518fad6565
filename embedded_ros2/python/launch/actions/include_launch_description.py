"""Launch files within launch files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import Action
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .settings import SetLaunchConfiguration

if TYPE_CHECKING:
    from ..launch_context import LaunchContext
    from ..launch_description_source import LaunchDescriptionSource


class IncludeLaunchDescription(Action):
    """Visit what another launch file describes.

    Its arguments become launch configurations, and stay so after it: put the include into a
    GroupAction to keep them apart.
    """

    def __init__(
        self,
        launch_description_source: LaunchDescriptionSource | SomeSubstitutionsType,
        *,
        launch_arguments: Iterable[tuple[SomeSubstitutionsType, SomeSubstitutionsType]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Name the launch file.

        Args:
            launch_description_source: The file, or its path.
            launch_arguments: (name, value) of its arguments.
            **kwargs: condition.
        """
        from ..launch_description_source import LaunchDescriptionSource
        from ..launch_description_sources import AnyLaunchDescriptionSource

        super().__init__(**kwargs)
        if not isinstance(launch_description_source, LaunchDescriptionSource):
            launch_description_source = AnyLaunchDescriptionSource(launch_description_source)
        self.launch_description_source = launch_description_source
        self.launch_arguments = tuple(launch_arguments or ())

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the other file's description, if its path is known beforehand."""
        description = self.launch_description_source.try_get_launch_description_without_context()
        return [] if description is None else [description]

    def argument_names_without_context(self) -> list[str]:
        """Return the names of the arguments given, as far as they are plain text."""
        from ..launch_context import LaunchContext
        from ..substitutions import SubstitutionFailure

        try:
            return self.__argument_names(LaunchContext())
        except SubstitutionFailure:
            return []

    def __argument_names(self, context: LaunchContext) -> list[str]:
        return [
            perform_substitutions(context, normalize_to_list_of_substitutions(name))
            for name, _ in self.launch_arguments
        ]

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        """Load the file, check its required arguments, and return what to visit.

        Raises:
            RuntimeError: If a required argument is missing.
        """
        description = self.launch_description_source.get_launch_description(context)
        location = self.launch_description_source.location
        path = Path(location).absolute()
        context.extend_locals(
            {
                "current_launch_file_path": str(path),
                "current_launch_file_directory": str(path.parent) if path.exists() else location,
            }
        )
        given = self.__argument_names(context)
        for argument, includes in description.get_launch_arguments_with_include_launch_description_actions():
            if argument._conditionally_included or argument.default_value is not None:
                continue
            for include in includes or []:
                given.extend(include.argument_names_without_context())
            if argument.name not in given:
                raise RuntimeError(
                    f"Included launch description missing required argument '{argument.name}' "
                    f"(description: '{argument.description}'), given: [{', '.join(given)}]"
                )
        return [*(SetLaunchConfiguration(name, value) for name, value in self.launch_arguments), description]
