"""Conditions of actions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._gaps import module_gaps
from .condition import Condition
from .some_substitutions_type import SomeSubstitutionsType
from .substitution import Substitution
from .utilities import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from .launch_context import LaunchContext

__getattr__ = module_gaps("launch.conditions", ())

VALID_TRUE_EXPRESSIONS = ["true", "1"]
VALID_FALSE_EXPRESSIONS = ["false", "0"]


class InvalidConditionExpressionError(ValueError):
    """A condition is neither true nor false."""


def evaluate_condition_expression(context: LaunchContext, expression: Iterable[Substitution]) -> bool:
    """Return whether text is true ('true', '1') or false ('false', '0').

    Raises:
        InvalidConditionExpressionError: If it is neither.
    """
    expression = list(expression)
    text = perform_substitutions(context, expression).strip().lower()
    if text in VALID_TRUE_EXPRESSIONS:
        return True
    if text in VALID_FALSE_EXPRESSIONS:
        return False
    valid = ", ".join(VALID_TRUE_EXPRESSIONS + VALID_FALSE_EXPRESSIONS)
    source = " + ".join(str(sub) for sub in expression)
    raise InvalidConditionExpressionError(
        f"invalid condition expression, expected one of [{valid}] but got '{text}', expanded from '{source}'"
    )


class IfCondition(Condition):
    """Holds where a text is 'true' or '1'."""

    def __init__(self, predicate_expression: SomeSubstitutionsType) -> None:
        """Keep the text."""
        self.__expression = normalize_to_list_of_substitutions(predicate_expression)
        super().__init__(predicate=self._evaluate)

    def _evaluate(self, context: LaunchContext) -> bool:
        return evaluate_condition_expression(context, self.__expression)


class UnlessCondition(IfCondition):
    """Holds where a text is 'false' or '0'."""

    def _evaluate(self, context: LaunchContext) -> bool:
        return not super()._evaluate(context)


class LaunchConfigurationEquals(Condition):
    """Holds where a launch configuration has a value (None: where it does not exist). Deprecated."""

    def __init__(self, launch_configuration_name: str, expected_value: SomeSubstitutionsType | None) -> None:
        """Keep name and value."""
        warnings.warn(
            "The 'LaunchConfigurationEquals' and 'LaunchConfigurationNotEquals' Conditions are deprecated. "
            "Use the 'EqualsSubstitution' and 'NotEqualsSubstitution' substitutions instead!",
            UserWarning,
            stacklevel=2,
        )
        self.__name = launch_configuration_name
        self.__expected = None if expected_value is None else normalize_to_list_of_substitutions(expected_value)
        super().__init__(predicate=self._evaluate)

    def _evaluate(self, context: LaunchContext) -> bool:
        expected = None if self.__expected is None else perform_substitutions(context, self.__expected)
        return bool(context.launch_configurations.get(self.__name) == expected)


class LaunchConfigurationNotEquals(LaunchConfigurationEquals):
    """Holds where LaunchConfigurationEquals does not. Deprecated."""

    def _evaluate(self, context: LaunchContext) -> bool:
        return not super()._evaluate(context)
