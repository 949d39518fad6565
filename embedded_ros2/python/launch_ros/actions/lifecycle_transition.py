"""Several transitions of lifecycle nodes, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from launch.action import Action
from launch.actions import EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handler import BaseEventHandler, EventHandler
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import get_logger
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions
from lifecycle_msgs.msg import Transition

from ..events.lifecycle import ChangeState, StateTransition

#: transition: (state while it runs, state when it is done).
_STATES = {
    Transition.TRANSITION_CONFIGURE: ("configuring", "inactive"),
    Transition.TRANSITION_CLEANUP: ("cleaningup", "unconfigured"),
    Transition.TRANSITION_ACTIVATE: ("activating", "active"),
    Transition.TRANSITION_DEACTIVATE: ("deactivating", "inactive"),
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: ("shuttingdown", "finalized"),
    Transition.TRANSITION_INACTIVE_SHUTDOWN: ("shuttingdown", "finalized"),
    Transition.TRANSITION_ACTIVE_SHUTDOWN: ("shuttingdown", "finalized"),
}


class LifecycleTransition(Action):
    """Take lifecycle nodes through transitions; each waits for the one before it."""

    def __init__(
        self,
        *,
        lifecycle_node_names: Sequence[SomeSubstitutionsType],
        transition_ids: Sequence[int | SomeSubstitutionsType],
        **kwargs: Any,
    ) -> None:
        """Name nodes and transitions.

        Args:
            lifecycle_node_names: Full names of nodes that this launch file starts.
            transition_ids: Constants of lifecycle_msgs/msg/Transition.
            **kwargs: condition.

        Raises:
            ValueError: If one of them is empty.
        """
        super().__init__(**kwargs)
        if not transition_ids:
            raise ValueError("No transition_ids provided.")
        if not lifecycle_node_names:
            raise ValueError("No lifecycle_node_names provided.")
        self.__names = [normalize_to_list_of_substitutions(name) for name in lifecycle_node_names]
        self.__ids = [
            normalize_to_list_of_substitutions(str(number) if isinstance(number, int) else number)
            for number in transition_ids
        ]

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        """Register what follows each transition and ask for the first.

        Raises:
            ValueError: If a transition is no number.
        """
        numbers = []
        for subs in self.__ids:
            text = perform_substitutions(context, subs)
            if not text.isdigit():
                raise ValueError(f"expected integer for lifecycle transition, got {text}")
            numbers.append(int(text))
        actions: list[LaunchDescriptionEntity] = []
        for subs in self.__names:
            actions += self.__for_node(perform_substitutions(context, subs), numbers)
        return actions

    @staticmethod
    def __for_node(name: str, numbers: list[int]) -> list[LaunchDescriptionEntity]:
        full_name = name if name.startswith("/") else f"/{name}"

        def is_meant(node: Any) -> bool:
            return bool(node.node_name == full_name)

        def reached(states: tuple[str | None, str], event: Any) -> bool:
            return (
                isinstance(event, StateTransition)
                and is_meant(event.action)
                and states[0] in (None, event.start_state)
                and states[1] == event.goal_state
            )

        emits = [
            EmitEvent(event=ChangeState(lifecycle_node_matcher=is_meant, transition_id=number)) for number in numbers
        ]
        handlers: list[BaseEventHandler] = []

        def give_up(context: LaunchContext, reason: str | None = None) -> None:
            if reason is not None:
                get_logger("launch_ros.actions.lifecycle_transition").info(
                    f"Stopping transitions for {name} because '{reason}'"
                )
            for handler in handlers:
                if handler in context.event_handlers:
                    context.unregister_event_handler(handler)

        followers: list[Action] = [*emits[1:], OpaqueFunction(function=give_up)]
        for number, follower in zip(numbers, followers, strict=True):
            matcher: Callable[[Any], bool] = partial(reached, _STATES[number])
            handlers.append(EventHandler(matcher=matcher, entities=[follower], handle_once=True))
        error = OpaqueFunction(function=give_up, kwargs={"reason": "error occured during transitions"})
        handlers.append(
            EventHandler(matcher=partial(reached, (None, "errorprocessing")), entities=[error], handle_once=True)
        )
        return [*(RegisterEventHandler(handler) for handler in handlers), emits[0]]
