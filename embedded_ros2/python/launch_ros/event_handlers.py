"""Handlers for events of lifecycle nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launch._gaps import module_gaps
from launch.event_handler import EventHandler
from launch.some_entities_type import SomeEntitiesType

from .actions.lifecycle_node import LifecycleNode
from .events.lifecycle import StateTransition

__all__ = ["OnStateTransition"]

__getattr__ = module_gaps("launch_ros.event_handlers", ())


class OnStateTransition(EventHandler):
    """Does something when a lifecycle node has changed its state."""

    def __init__(
        self,
        *,
        entities: SomeEntitiesType,
        target_lifecycle_node: LifecycleNode | None = None,
        transition: str | None = None,
        start_state: str | None = None,
        goal_state: str | None = None,
        matcher: Callable[[Any], bool] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say which transitions; None is any.

        Args:
            entities: Entities visited on each.
            target_lifecycle_node: Node.
            transition: Label of the transition.
            start_state: Label of the state before.
            goal_state: Label of the state after.
            matcher: Function of the event, instead of all the others.
            **kwargs: handle_once.

        Raises:
            RuntimeError: If the target is no lifecycle node.
        """
        if not isinstance(target_lifecycle_node, (LifecycleNode, type(None))):
            raise RuntimeError("OnStateTransition requires a 'LifecycleNode' action as the target")

        def matches(event: Any) -> bool:
            return isinstance(event, StateTransition) and all(
                wanted is None or wanted == actual
                for wanted, actual in (
                    (target_lifecycle_node, event.action),
                    (transition, event.transition),
                    (start_state, event.start_state),
                    (goal_state, event.goal_state),
                )
            )

        super().__init__(matcher=matcher or matches, entities=entities, **kwargs)
        self.__any_node = target_lifecycle_node is None

    @property
    def handler_description(self) -> str:
        """What is done on the event."""
        return "<actions>"

    @property
    def matcher_description(self) -> str:
        """Which event is waited for."""
        return "event == StateTransition" + ("" if self.__any_node else " and event.action == LifecycleNode")
