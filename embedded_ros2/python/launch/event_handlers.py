"""Handlers for the events that launch files usually wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._gaps import module_gaps
from .event import Event
from .event_handler import BaseEventHandler
from .events import ExecutionComplete, IncludeLaunchDescription, Shutdown
from .events.process import ProcessExited, ProcessIO, ProcessStarted
from .launch_description_entity import LaunchDescriptionEntity

if TYPE_CHECKING:
    from .action import Action
    from .launch_context import LaunchContext
    from .some_entities_type import SomeEntitiesType

__all__ = [
    "OnExecutionComplete",
    "OnIncludeLaunchDescription",
    "OnProcessExit",
    "OnProcessIO",
    "OnProcessStart",
    "OnShutdown",
]

__getattr__ = module_gaps("launch.event_handlers", ("event_named",))


class OnActionEventBase(BaseEventHandler):
    """Answers one kind of event of one action (or of those a function picks, or of all)."""

    def __init__(
        self,
        *,
        action_matcher: Any,
        on_event: Any,
        target_event_cls: type[Event],
        target_action_cls: type[Action],
        action_name: str | None = None,
        handle_once: bool = False,
    ) -> None:
        """Check the target and what is to be done.

        Args:
            action_matcher: Action, function of an action, or None for all.
            on_event: Entity, entities, or a function of (event, context) that returns such.
            target_event_cls: Class of event waited for.
            target_action_cls: Class that the action must have.
            action_name: What descriptions call the action's class; its name without one.
            handle_once: Serve the first event only.

        Raises:
            TypeError: If the target is no such action or an entity is none.
        """
        if (
            action_matcher is not None
            and not isinstance(action_matcher, target_action_cls)
            and not callable(action_matcher)
        ):
            raise TypeError(f"action_matcher must be an '{target_action_cls.__name__}' instance or a callable")
        self.__any_action = action_matcher is None
        self.__event_name = target_event_cls.__name__
        self.__action_name = action_name or target_action_cls.__name__
        self.__function: Callable[[Any, LaunchContext], Any] | None = None
        self.__entities: list[LaunchDescriptionEntity] = []
        if callable(on_event):
            self.__function = on_event
        elif isinstance(on_event, Iterable):
            self.__entities = list(on_event)
        else:
            self.__entities = [on_event] if on_event is not None else []
        for entity in self.__entities:
            if not isinstance(entity, LaunchDescriptionEntity):
                raise TypeError(
                    f"expected all items in 'on_event' iterable to be of type 'LaunchDescriptionEntity' "
                    f"but got '{type(entity)}'"
                )

        def matcher(event: Any) -> bool:
            if not isinstance(event, target_event_cls):
                return False
            if isinstance(action_matcher, target_action_cls):
                return event.action is action_matcher  # type: ignore[attr-defined]
            return action_matcher is None or bool(action_matcher(event.action))  # type: ignore[attr-defined]

        super().__init__(matcher=matcher, handle_once=handle_once)

    @property
    def handler_description(self) -> str:
        """What is done on the event."""
        return "<actions>" if self.__entities else str(self.__function)

    @property
    def matcher_description(self) -> str:
        """Which event is waited for."""
        text = f"event == {self.__event_name}"
        return text if self.__any_action else f"{text} and {self.__action_name}(event.action)"

    def describe(self) -> tuple[str, list[LaunchDescriptionEntity]]:
        """Return a description and the entities visited on the event."""
        text, known = super().describe()
        return text, [*known, *self.__entities]

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        """Return the entities for this event."""
        super().handle(event, context)
        return self.__function(event, context) if self.__function is not None else self.__entities


class OnProcessStart(OnActionEventBase):
    """Does something when a process has started."""

    def __init__(self, *, target_action: Any = None, on_start: Any, **kwargs: Any) -> None:
        """Wait for the start of target_action (None: of any process), then do on_start."""
        from .actions import ExecuteProcess

        super().__init__(
            action_matcher=target_action,
            on_event=on_start,
            target_event_cls=ProcessStarted,
            target_action_cls=ExecuteProcess,
            **kwargs,
        )


class OnProcessExit(OnActionEventBase):
    """Does something when a process has ended."""

    def __init__(self, *, target_action: Any = None, on_exit: Any, **kwargs: Any) -> None:
        """Wait for the end of target_action (None: of any process), then do on_exit."""
        from .actions import ExecuteProcess

        super().__init__(
            action_matcher=target_action,
            on_event=on_exit,
            target_event_cls=ProcessExited,
            target_action_cls=ExecuteProcess,
            action_name="ExecuteLocal",
            **kwargs,
        )


class OnProcessIO(OnActionEventBase):
    """Does something with what a process writes."""

    def __init__(
        self,
        *,
        target_action: Any = None,
        on_stdin: Callable[[ProcessIO], Any] | None = None,
        on_stdout: Callable[[ProcessIO], Any] | None = None,
        on_stderr: Callable[[ProcessIO], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Wait for output of target_action (None: of any process) and pass it to the functions."""
        from .actions import ExecuteProcess

        def on_event(event: ProcessIO, _context: LaunchContext) -> Any:
            function = {0: on_stdin, 1: on_stdout, 2: on_stderr}[event.fd]
            return function(event) if function is not None else None

        super().__init__(
            action_matcher=target_action,
            on_event=on_event,
            target_event_cls=ProcessIO,
            target_action_cls=ExecuteProcess,
            action_name="ExecuteLocal",
            **kwargs,
        )


class OnExecutionComplete(OnActionEventBase):
    """Does something when an action has nothing more to do."""

    def __init__(self, *, target_action: Any = None, on_completion: Any, **kwargs: Any) -> None:
        """Wait for the completion of target_action (None: of any), then do on_completion."""
        from .action import Action

        super().__init__(
            action_matcher=target_action,
            on_event=on_completion,
            target_event_cls=ExecutionComplete,
            target_action_cls=Action,
            **kwargs,
        )


class OnShutdown(BaseEventHandler):
    """Does something when the launch is to end."""

    def __init__(self, *, on_shutdown: Any, **kwargs: Any) -> None:
        """Keep what is to be done: entities, or a function of (event, context)."""
        super().__init__(matcher=lambda event: isinstance(event, Shutdown), **kwargs)
        self.__function: Callable[[Any, Any], Any] = (
            on_shutdown if callable(on_shutdown) else lambda event, context: on_shutdown
        )

    @property
    def handler_description(self) -> str:
        """What is done on the event."""
        return str(self.__function)

    @property
    def matcher_description(self) -> str:
        """Which event is waited for."""
        return "event issubclass of launch.events.Shutdown"

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        """Return the entities for this event."""
        super().handle(event, context)
        entities: SomeEntitiesType | None = self.__function(event, context)
        return entities


class OnIncludeLaunchDescription(BaseEventHandler):
    """Visits launch descriptions that are to be included."""

    def __init__(self, **kwargs: Any) -> None:
        """Wait for IncludeLaunchDescription events."""
        super().__init__(matcher=lambda event: isinstance(event, IncludeLaunchDescription), **kwargs)

    def handle(self, event: Event, context: LaunchContext) -> SomeEntitiesType | None:
        """Return the launch description."""
        super().handle(event, context)
        assert isinstance(event, IncludeLaunchDescription)
        return event.launch_description
