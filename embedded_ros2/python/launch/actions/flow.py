"""Actions that group, delay, log, and react to events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..action import Action
from ..event import Event
from ..event_handler import BaseEventHandler, EventHandler
from ..events import Shutdown as ShutdownEvent
from ..events import TimerEvent
from ..events.process import ProcessExited
from ..launch_description_entity import LaunchDescriptionEntity
from ..logging import get_logger
from ..some_substitutions_type import SomeSubstitutionsType
from ..utilities import (
    ensure_argument_type,
    normalize_to_list_of_entities,
    normalize_to_list_of_substitutions,
    perform_substitutions,
)
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution
from .settings import (
    PopEnvironment,
    PopLaunchConfigurations,
    PushEnvironment,
    PushLaunchConfigurations,
    ResetEnvironment,
    ResetLaunchConfigurations,
    SetLaunchConfiguration,
)

if TYPE_CHECKING:
    from ..launch_context import LaunchContext


class GroupAction(Action):
    """Actions in a scope of their own, with a common condition."""

    def __init__(
        self,
        actions: Iterable[LaunchDescriptionEntity],
        *,
        scoped: bool = True,
        forwarding: bool = True,
        launch_configurations: dict[Any, SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the actions.

        Args:
            actions: Actions.
            scoped: What they do to launch configurations and environment ends with the group.
            forwarding: They see the launch configurations around the group.
            launch_configurations: Launch configurations set at the start of the group.
            **kwargs: condition.
        """
        super().__init__(**kwargs)
        settings = dict(launch_configurations or {})
        sets = [SetLaunchConfiguration(name, value) for name, value in settings.items()]
        inner: list[LaunchDescriptionEntity] = [*sets, *actions]
        if scoped and not forwarding:
            inner = [ResetEnvironment(), ResetLaunchConfigurations(settings), *inner[len(sets) :]]
        if scoped:
            inner = [
                PushLaunchConfigurations(),
                PushEnvironment(),
                *inner,
                PopEnvironment(),
                PopLaunchConfigurations(),
            ]
        self.__entities = inner

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the actions, with those that open and close the scope."""
        return self.__entities

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Return the actions."""
        return self.__entities


class OpaqueFunction(Action):
    """Call a function of the context; it may return entities to visit."""

    def __init__(
        self,
        *,
        function: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        **left_over_kwargs: Any,
    ) -> None:
        """Keep the function and its further arguments."""
        super().__init__(**left_over_kwargs)
        if not callable(function):
            raise TypeError(f"OpaqueFunction expected a callable for 'function', got '{type(function)}'")
        self.__function = function
        self.__args = tuple(args or ())
        self.__kwargs = dict(kwargs or {})

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Call the function."""
        result: list[LaunchDescriptionEntity] | None = self.__function(context, *self.__args, **self.__kwargs)
        return result


class LogInfo(Action):
    """Write a line to the output."""

    def __init__(self, *, msg: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Keep the line."""
        super().__init__(**kwargs)
        self.msg = normalize_to_list_of_substitutions(msg)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Write it."""
        get_logger("launch.user").info(perform_substitutions(context, self.msg))
        return None


class EmitEvent(Action):
    """Emit an event."""

    def __init__(self, *, event: Event, **kwargs: Any) -> None:
        """Keep the event."""
        super().__init__(**kwargs)
        if not isinstance(event, Event):
            raise RuntimeError(f"EmitEvent() expected an event instance, got '{event}'.")
        self.event = event

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Emit it."""
        context.emit_event_sync(self.event)
        return None


class Shutdown(EmitEvent):
    """End the launch."""

    def __init__(self, *, reason: str = "reason not given", **kwargs: Any) -> None:
        """Say why."""
        super().__init__(event=ShutdownEvent(reason=reason), **kwargs)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Emit the event; name the process whose end is the reason, if one is."""
        event = context.get_locals_as_dict().get("event")
        if isinstance(event, ProcessExited):
            get_logger("launch").info(f"process[{event.process_name}] was required: shutting down launched system")
        return super().execute(context)


class RegisterEventHandler(Action):
    """From now on, answer events."""

    def __init__(self, event_handler: BaseEventHandler, **kwargs: Any) -> None:
        """Keep the event handler."""
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Register it."""
        context.register_event_handler(self.event_handler)
        return None

    def describe_conditional_sub_entities(
        self,
    ) -> list[tuple[str, Iterable[LaunchDescriptionEntity]]]:
        """Return what is visited on the event."""
        description, entities = self.event_handler.describe()
        return [(description, normalize_to_list_of_entities(entities))] if entities else []


class UnregisterEventHandler(Action):
    """No longer answer events."""

    def __init__(self, event_handler: BaseEventHandler, **kwargs: Any) -> None:
        """Keep the event handler."""
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Unregister it."""
        context.unregister_event_handler(self.event_handler)
        return None


class TimerAction(Action):
    """Visit actions after a while."""

    def __init__(
        self,
        *,
        period: float | SomeSubstitutionsType,
        actions: Iterable[LaunchDescriptionEntity],
        cancel_on_shutdown: bool | SomeSubstitutionsType = True,
        **kwargs: Any,
    ) -> None:
        """Keep time and actions.

        Args:
            period: Time [s], a float or a substitution.
            actions: Actions.
            cancel_on_shutdown: Forget the timer when the launch ends, instead of waiting for it.
            **kwargs: condition.
        """
        super().__init__(**kwargs)
        from ..substitution import Substitution

        ensure_argument_type(period, (str, Substitution, list, tuple, float), "period", "TimerAction")
        self.period = normalize_typed_substitution(period, float)
        self.actions = list(actions)
        self.__cancel_on_shutdown = normalize_typed_substitution(cancel_on_shutdown, bool)
        self.__locals: dict[str, Any] = {}
        self.__canceled = False
        self.__done: asyncio.Future[None] | None = None
        self.__timer: asyncio.TimerHandle | None = None

    def describe(self) -> str:
        """Return the time."""
        return f"TimerAction(period={self.period}, actions=<actions>)"

    def describe_conditional_sub_entities(
        self,
    ) -> list[tuple[str, Iterable[LaunchDescriptionEntity]]]:
        """Return the actions."""
        return [(f"{self.period} seconds pass without being canceled", self.actions)]

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        """Return a future that completes when the time is over or the timer canceled."""
        return self.__done

    def cancel(self) -> None:
        """Forget the timer."""
        self.__canceled = True
        if self.__timer is not None:
            self.__timer.cancel()
        self.__finish()

    def __finish(self) -> None:
        if self.__done is not None and not self.__done.done():
            self.__done.set_result(None)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Start the timer."""
        assert context.asyncio_loop is not None
        self.__done = context.asyncio_loop.create_future()
        if self.__canceled:
            self.__finish()
            return None
        # The actions see the launch file and the event that the timer was started in.
        self.__locals = context.get_locals_as_dict()
        period = perform_typed_substitution(context, self.period, float)

        def expire() -> None:
            context.emit_event_sync(TimerEvent(timer_action=self))
            self.__finish()

        def visit_actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
            context.extend_locals(self.__locals)
            return self.actions

        context.register_event_handler(
            EventHandler(
                matcher=lambda event: isinstance(event, TimerEvent) and event.timer_action is self,
                entities=OpaqueFunction(function=visit_actions),
                handle_once=True,
            )
        )
        self.__timer = context.asyncio_loop.call_later(period, expire)
        if perform_typed_substitution(context, self.__cancel_on_shutdown, bool):
            context.register_event_handler(
                EventHandler(
                    matcher=lambda event: isinstance(event, ShutdownEvent),
                    entities=OpaqueFunction(function=lambda context: self.cancel()),
                )
            )
        return None
