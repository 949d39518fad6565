"""Events of lifecycle nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import lifecycle_msgs.msg
from launch._gaps import module_gaps
from launch.event import Event

if TYPE_CHECKING:
    from ..actions import LifecycleNode

__all__ = ["ChangeState", "StateTransition"]

__getattr__ = module_gaps("launch_ros.events.lifecycle", ("matches_node_name",))

_Transition = lifecycle_msgs.msg.Transition


class ChangeState(Event):
    """Lifecycle nodes are to change their state."""

    name = "launch_ros.events.lifecycle.ChangeState"
    valid_transitions: ClassVar[dict[int, str]] = {
        getattr(_Transition, name): name
        for name in (
            "TRANSITION_CREATE",
            "TRANSITION_CONFIGURE",
            "TRANSITION_CLEANUP",
            "TRANSITION_ACTIVATE",
            "TRANSITION_DEACTIVATE",
            "TRANSITION_UNCONFIGURED_SHUTDOWN",
            "TRANSITION_INACTIVE_SHUTDOWN",
            "TRANSITION_ACTIVE_SHUTDOWN",
            "TRANSITION_DESTROY",
        )
    }

    def __init__(self, *, lifecycle_node_matcher: Callable[[LifecycleNode], bool], transition_id: int) -> None:
        """Say which nodes and which transition.

        Args:
            lifecycle_node_matcher: Returns whether a node is meant.
            transition_id: Constant of lifecycle_msgs/msg/Transition.

        Raises:
            ValueError: If it is no such constant.
        """
        if transition_id not in self.valid_transitions:
            known = ", ".join(f"{name}: {number}" for number, name in self.valid_transitions.items())
            raise ValueError(f"given transition_id of '{transition_id}', expected one of {{{known}}}")
        self.lifecycle_node_matcher = lifecycle_node_matcher
        self.transition_id = transition_id


class StateTransition(Event):
    """A lifecycle node has changed its state."""

    name = "launch_ros.events.lifecycle.StateTransition"

    def __init__(self, *, action: LifecycleNode, msg: lifecycle_msgs.msg.TransitionEvent) -> None:
        """Keep node and transition."""
        self.action = action
        self.msg = msg
        self.timestamp: int = msg.timestamp
        self.transition: str = msg.transition.label
        self.start_state: str = msg.start_state.label
        self.goal_state: str = msg.goal_state.label
