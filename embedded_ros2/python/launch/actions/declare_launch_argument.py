"""Arguments of launch files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..action import Action
from ..launch_description_entity import LaunchDescriptionEntity
from ..logging import get_logger
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from ..launch_context import LaunchContext


class DeclareLaunchArgument(Action):
    """Declare an argument: ``name:=value`` on the command line, or from an including file.

    Its value is the launch configuration of the same name.
    """

    def __init__(
        self,
        name: str,
        *,
        default_value: SomeSubstitutionsType | None = None,
        description: str | None = None,
        choices: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Describe the argument.

        Args:
            name: Its name.
            default_value: Value where none is given; None makes the argument required.
            description: For ``--show-args``.
            choices: Allowed values; None allows any.
            **kwargs: condition.

        Raises:
            RuntimeError: If choices is empty or the default is not among them.
        """
        super().__init__(**kwargs)
        self.name = name
        self.default_value = None if default_value is None else normalize_to_list_of_substitutions(default_value)
        self.choices = choices
        if choices is not None:
            if not choices:
                self.__fail("Provided choices arg is empty. Use None to ignore the choice list.")
            if isinstance(default_value, str) and default_value not in choices:
                self.__fail(f'Provided default_value "{default_value}" is not in provided choices "{choices}".')
        self.description = self.__describe(description)
        #: Set where the argument is found: whether it is declared under a condition only.
        self._conditionally_included = False

    def __describe(self, description: str | None) -> str:
        if description is None:
            return "no description given" if self.choices is None else f"One of: {self.choices}"
        if self.choices is None:
            return description
        end = "" if description.endswith(".") else "."
        return f"{description}{end} Valid choices are: {self.choices}"

    @staticmethod
    def __fail(message: str) -> None:
        get_logger("launch.actions.declare_launch_argument").error(message)
        raise RuntimeError(message)

    @property
    def default_text(self) -> str | None:
        """Default value as ``--show-args`` prints it, None if there is none."""
        if self.default_value is None:
            return None
        return " + ".join(item.describe() for item in self.default_value if isinstance(item, Substitution))

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set the launch configuration where no value was given, and check it.

        Raises:
            RuntimeError: If a required argument is missing or a value is not allowed.
        """
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                get_logger("launch.actions.declare_launch_argument").error(
                    f'Required launch argument "{self.name}" (description: "{self.description}") was not provided'
                )
                raise RuntimeError(f'Required launch argument "{self.name}" was not provided.')
            context.launch_configurations[self.name] = perform_substitutions(context, self.default_value)
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            self.__fail(
                f'Argument "{self.name}" provided value "{value}" is not valid. Valid options are: {self.choices}'
            )
        return None
