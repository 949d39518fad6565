"""Where launch descriptions come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .launch_description import LaunchDescription
from .logging import get_logger
from .some_substitutions_type import SomeSubstitutionsType
from .utilities import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from .launch_context import LaunchContext


class LaunchDescriptionSource:
    """A launch description, or where to load it from."""

    def __init__(
        self,
        launch_description: LaunchDescription | None = None,
        location: SomeSubstitutionsType = "<string>",
        method: str = "unspecified mechanism from a script",
    ) -> None:
        """Keep the description or its location.

        Args:
            launch_description: The description, if it is there already.
            location: Path of the launch file.
            method: How it is loaded, for people.
        """
        self.__description = launch_description
        self.__location = normalize_to_list_of_substitutions(location)
        self.__expanded: str | None = None
        self.method = method

    @property
    def location(self) -> str:
        """Path of the launch file; before it is loaded, a description of it."""
        if self.__expanded is not None:
            return self.__expanded
        return " + ".join(str(sub) for sub in self.__location)

    def try_get_launch_description_without_context(self) -> LaunchDescription | None:
        """Return the description if it can be loaded before launching, None otherwise."""
        from .launch_context import LaunchContext

        if self.__description is not None:
            return self.__description
        try:
            return self._load(perform_substitutions(LaunchContext(), self.__location))
        except Exception as error:
            # Best effort: the path may use launch configurations, the file may be for another machine.
            get_logger("launch").debug(f"Failed to load the launch file without a context: {error}")
            return None

    def get_launch_description(self, context: LaunchContext) -> LaunchDescription:
        """Load the description.

        Raises:
            Exception: Whatever loading it raises.
        """
        if self.__expanded is None:
            self.__expanded = perform_substitutions(context, self.__location)
        if self.__description is None:
            self.__description = self._load(self.__expanded)
        return self.__description

    def _load(self, location: str) -> LaunchDescription:
        raise RuntimeError("LaunchDescriptionSource without a launch description or a way to load one")
