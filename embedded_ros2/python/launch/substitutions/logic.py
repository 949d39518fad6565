"""Substitutions that decide or calculate."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import is_substitution, perform_typed_substitution
from .basic import SubstitutionFailure, describe_all

if TYPE_CHECKING:
    from ..launch_context import LaunchContext


def _text(value: bool) -> str:
    return str(value).lower()


def _truth(context: LaunchContext, value: list[Substitution]) -> bool:
    try:
        return bool(perform_typed_substitution(context, value, bool))
    except (TypeError, ValueError) as error:
        raise SubstitutionFailure(error) from error


class PythonExpression(Substitution):
    """Value of a Python expression."""

    def __init__(self, expression: SomeSubstitutionsType, python_modules: SomeSubstitutionsType = ("math",)) -> None:
        """Keep the expression.

        Args:
            expression: Python.
            python_modules: Modules that it uses; names of math may be used bare.
        """
        self.expression = normalize_to_list_of_substitutions(expression)
        self.python_modules = normalize_to_list_of_substitutions(python_modules)

    def describe(self) -> str:
        """Return the expression."""
        modules = ", ".join(module.describe() for module in self.python_modules)
        return f"PythonExpr({describe_all(self.expression)}, [{modules}])"

    def perform(self, context: LaunchContext) -> str:
        """Evaluate the expression.

        Raises:
            Exception: Whatever the expression raises.
        """
        names: dict[str, Any] = {}
        for module in self.python_modules:
            loaded = importlib.import_module(context.perform_substitution(module))
            if loaded.__name__ == "math":
                names.update(vars(loaded))
            names[loaded.__name__] = loaded
        return str(eval(perform_substitutions(context, self.expression), {}, names))


class NotSubstitution(Substitution):
    """'true' where the value is false, and the other way round."""

    def __init__(self, value: SomeSubstitutionsType) -> None:
        """Keep the value."""
        self.value = normalize_to_list_of_substitutions(value)

    def describe(self) -> str:
        """Return the value."""
        return f"NotSubstitution({self.value})"

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'."""
        return _text(not _truth(context, self.value))


class _Pair(Substitution):
    def __init__(self, left: SomeSubstitutionsType, right: SomeSubstitutionsType) -> None:
        """Keep both values."""
        self.left = normalize_to_list_of_substitutions(left)
        self.right = normalize_to_list_of_substitutions(right)

    def describe(self) -> str:
        """Return both values."""
        return f"{type(self).__name__}({self.left} {self.right})"


class AndSubstitution(_Pair):
    """'true' where both values are true."""

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'; both values must be booleans."""
        left, right = _truth(context, self.left), _truth(context, self.right)
        return _text(left and right)


class OrSubstitution(_Pair):
    """'true' where one of the values is true."""

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'; both values must be booleans."""
        left, right = _truth(context, self.left), _truth(context, self.right)
        return _text(left or right)


class AnySubstitution(Substitution):
    """'true' where one of any number of values is true."""

    def __init__(self, *args: SomeSubstitutionsType) -> None:
        """Keep the values."""
        self.args = [normalize_to_list_of_substitutions(value) for value in args]

    def describe(self) -> str:
        """Return the values."""
        return f"{type(self).__name__}({' '.join(str(value) for value in self.args)})"

    def _truths(self, context: LaunchContext) -> Iterator[bool]:
        # All are looked up, so that a value that is no boolean is an error wherever it stands.
        yield from [_truth(context, value) for value in self.args]

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'; all values must be booleans."""
        return _text(any(self._truths(context)))


class AllSubstitution(AnySubstitution):
    """'true' where all values are true."""

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'; all values must be booleans."""
        return _text(all(self._truths(context)))


class EqualsSubstitution(Substitution):
    """'true' where two values are equal: as booleans, as numbers, or as text."""

    def __init__(self, left: Any, right: Any) -> None:
        """Keep both values; None is the empty text."""
        self.left = normalize_to_list_of_substitutions(self.__as_text(left))
        self.right = normalize_to_list_of_substitutions(self.__as_text(right))

    @staticmethod
    def __as_text(value: Any) -> Any:
        if is_substitution(value):
            return value
        if value is None:
            return ""
        return _text(value) if isinstance(value, bool) else str(value)

    def describe(self) -> str:
        """Return both values."""
        return f"{type(self).__name__}({self.left} {self.right})"

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'."""
        left = perform_substitutions(context, self.left)
        right = perform_substitutions(context, self.right)
        booleans = {"true": True, "1": True, "false": False, "0": False}
        if left.lower() in booleans and right.lower() in booleans:
            return _text(booleans[left.lower()] == booleans[right.lower()])
        try:
            return _text(math.isclose(float(left), float(right)))
        except ValueError:
            return _text(left == right)


class NotEqualsSubstitution(EqualsSubstitution):
    """'true' where two values differ."""

    def perform(self, context: LaunchContext) -> str:
        """Return 'true' or 'false'."""
        return _text(super().perform(context) != "true")


class IfElseSubstitution(Substitution):
    """One of two values."""

    def __init__(
        self,
        condition: SomeSubstitutionsType,
        if_value: SomeSubstitutionsType = "",
        else_value: SomeSubstitutionsType = "",
    ) -> None:
        """Keep the condition and both values.

        Raises:
            RuntimeError: If neither value is given.
        """
        if isinstance(if_value, str) and isinstance(else_value, str) and if_value == else_value == "":
            raise RuntimeError("One of if_value and else_value must be specified")
        self.condition = normalize_to_list_of_substitutions(condition)
        self.if_value = normalize_to_list_of_substitutions(if_value)
        self.else_value = normalize_to_list_of_substitutions(else_value)

    def describe(self) -> str:
        """Return the condition and both values."""
        return f"IfElseSubstitution({self.condition}, {self.if_value}, {self.else_value})"

    def perform(self, context: LaunchContext) -> str:
        """Return one of the values; only that one is looked up."""
        chosen = self.if_value if _truth(context, self.condition) else self.else_value
        return perform_substitutions(context, chosen)
