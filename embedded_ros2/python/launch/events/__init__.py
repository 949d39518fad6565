"""Events of the launch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._gaps import module_gaps
from ..event import Event
from . import process

if TYPE_CHECKING:
    from ..action import Action
    from ..actions import TimerAction
    from ..launch_description import LaunchDescription

__all__ = [
    "ExecutionComplete",
    "IncludeLaunchDescription",
    "Shutdown",
    "TimerEvent",
    "matches_action",
    "process",
]

__getattr__ = module_gaps("launch.events", ())


class ExecutionComplete(Event):
    """An action has nothing more to do."""

    name = "launch.events.ExecutionComplete"

    def __init__(self, *, action: Action) -> None:
        """Name the action."""
        self.action = action


class IncludeLaunchDescription(Event):
    """A launch description is to be visited."""

    name = "launch.events.IncludeLaunchDescription"

    def __init__(self, launch_description: LaunchDescription) -> None:
        """Hold the description."""
        self.launch_description = launch_description


class Shutdown(Event):
    """The launch is to end."""

    name = "launch.events.Shutdown"

    def __init__(self, *, reason: str = "reason not given", due_to_sigint: bool = False) -> None:
        """Say why.

        Args:
            reason: For people.
            due_to_sigint: True if Ctrl-C was pressed, which the processes have then seen too.
        """
        self.reason = reason
        self.due_to_sigint = due_to_sigint


class TimerEvent(Event):
    """The time of a timer is over."""

    name = "launch.events.TimerEvent"

    def __init__(self, *, timer_action: TimerAction) -> None:
        """Name the timer."""
        self.timer_action = timer_action


def matches_action(target_action: Action) -> Callable[[Action], bool]:
    """Return a matcher for events that are aimed at one action."""
    return lambda action: action is target_action
