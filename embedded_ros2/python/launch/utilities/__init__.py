"""Helpers for launch descriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._gaps import module_gaps
from ..launch_description_entity import LaunchDescriptionEntity
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution

if TYPE_CHECKING:
    from ..launch_context import LaunchContext

__getattr__ = module_gaps("launch.utilities", ("AsyncSafeSignalManager", "isclassinstance"))


def normalize_to_list_of_substitutions(subs: SomeSubstitutionsType) -> list[Substitution]:
    """Return substitutions whose texts, one after the other, are the value.

    Args:
        subs: Text, a substitution, or several of both.

    Raises:
        TypeError: If something else is among them.
    """
    from ..substitutions import TextSubstitution

    if isinstance(subs, (str, Substitution)):
        subs = [subs]
    result: list[Substitution] = []
    for item in subs:
        if isinstance(item, Substitution):
            result.append(item)
        elif isinstance(item, str):
            result.append(TextSubstitution(text=item))
        else:
            raise TypeError(
                f"Failed to normalize given item of type '{type(item)}', when only "
                "'str' or 'launch.Substitution' were expected."
            )
    return result


def perform_substitutions(context: LaunchContext, subs: Iterable[Substitution]) -> str:
    """Return the texts of the substitutions, joined."""
    return "".join(context.perform_substitution(sub) for sub in subs)


def normalize_to_list_of_entities(entities: Any) -> list[LaunchDescriptionEntity]:
    """Return entities as a flat list; None is no entity."""
    if entities is None:
        return []
    if isinstance(entities, LaunchDescriptionEntity):
        return [entities]
    return [entity for item in entities for entity in normalize_to_list_of_entities(item)]


def is_a(obj: Any, entity_type: type) -> bool:
    """Return whether obj is an instance of entity_type."""
    return isinstance(obj, entity_type)


def is_a_subclass(obj: Any, entity_type: type) -> bool:
    """Return whether obj is an instance or a subclass of entity_type."""
    return isinstance(obj, entity_type) or (isinstance(obj, type) and issubclass(obj, entity_type))


def ensure_argument_type(
    argument: Any, types: type | Iterable[type], argument_name: str, caller: str | None = None
) -> None:
    """Check the type of an argument.

    Raises:
        TypeError: If it is of none of the types.
    """
    allowed = (types,) if isinstance(types, type) else tuple(types)
    if not isinstance(argument, allowed):
        start = "E" if caller is None else f"'{caller}' e"
        names = ", ".join(str(item) for item in allowed)
        raise TypeError(
            f"{start}xpected '{argument_name}' to be one of [{names}], but got '{argument}' of type '{type(argument)}'"
        )


def visit_all_entities_and_collect_futures(
    entity: LaunchDescriptionEntity, context: LaunchContext
) -> list[tuple[LaunchDescriptionEntity, asyncio.Future[None]]]:
    """Visit an entity and what it brings along, depth first.

    Returns:
        Entities that are not done yet, each with its future.
    """
    if not isinstance(entity, LaunchDescriptionEntity):
        raise RuntimeError(f"expected a LaunchDescriptionEntity, got '{entity}'")
    children = entity.visit(context)
    future = entity.get_asyncio_future()
    pairs = [] if future is None else [(entity, future)]
    for child in children or []:
        pairs += visit_all_entities_and_collect_futures(child, context)
    return pairs
