"""Lifecycle nodes."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from launch.actions import OpaqueFunction
from launch.event_handler import EventHandler
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import get_logger
from launch.some_substitutions_type import SomeSubstitutionsType

from ..events.lifecycle import ChangeState, StateTransition
from ..ros_adapters import get_ros_node
from .node import Node


class LifecycleNode(Node):
    """Run a lifecycle node; it answers ChangeState events and emits StateTransition events."""

    def __init__(
        self,
        *,
        name: SomeSubstitutionsType,
        namespace: SomeSubstitutionsType,
        autostart: bool = False,
        **kwargs: Any,
    ) -> None:
        """Describe the node.

        Args:
            name: Name.
            namespace: Namespace; '' for none.
            autostart: Configure and activate it after the start.
            **kwargs: Arguments of Node.
        """
        super().__init__(name=name, namespace=namespace, **kwargs)
        self.__autostart = autostart
        self.__subscription: Any = None
        self.__client: Any = None

    @property
    def node_autostart(self) -> bool:
        """Whether it is configured and activated after the start."""
        return self.__autostart

    @property
    def is_lifecycle_node(self) -> bool:
        """True, other than for Node."""
        return True

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Start the node and follow its state.

        Raises:
            RuntimeError: If it has no name.
        """
        from lifecycle_msgs.msg import Transition, TransitionEvent
        from lifecycle_msgs.srv import ChangeState as ChangeStateService

        self.perform_node_substitutions(context)
        if self.UNSPECIFIED_NODE_NAME in self.node_name:
            raise RuntimeError("node_name unexpectedly incomplete for lifecycle node")
        node = get_ros_node(context)
        self.__subscription = node.create_subscription(
            TransitionEvent, f"{self.node_name}/transition_event", partial(self.__on_transition, context), 10
        )
        self.__client = node.create_client(ChangeStateService, f"{self.node_name}/change_state")
        context.register_event_handler(
            EventHandler(
                matcher=lambda event: isinstance(event, ChangeState) and event.lifecycle_node_matcher(self),
                entities=[OpaqueFunction(function=self.__on_change_state)],
            )
        )
        actions = super().execute(context) or []
        if self.__autostart:
            from .lifecycle_transition import LifecycleTransition

            actions.append(
                LifecycleTransition(
                    lifecycle_node_names=[self.node_name],
                    transition_ids=[Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
                )
            )
        return actions

    def __on_transition(self, context: LaunchContext, msg: Any) -> None:
        # Runs in the thread of the node; the loop may have ended meanwhile.
        if context.asyncio_loop is not None:
            event = StateTransition(action=self, msg=msg)
            context.asyncio_loop.call_soon_threadsafe(context.emit_event_sync, event)

    def __on_change_state(self, context: LaunchContext) -> None:
        assert context.asyncio_loop is not None
        event: ChangeState = context.locals.event
        context.add_completion_future(
            context.asyncio_loop.run_in_executor(None, self.__change_state, context, event.transition_id)
        )

    def __change_state(self, context: LaunchContext, transition_id: int) -> None:
        from rclpy.exceptions import InvalidHandle

        try:
            self.__ask(context, transition_id)
        except InvalidHandle:
            # The launch's own node is gone while this thread still waits on it.
            if not context.is_shutdown:
                raise
            get_logger("launch_ros.actions.lifecycle_node").warning(
                f"Abandoning the transition of '{self.node_name}', due to shutdown."
            )

    def __ask(self, context: LaunchContext, transition_id: int) -> None:
        logger = get_logger("launch_ros.actions.lifecycle_node")
        while not self.__client.wait_for_service(timeout_sec=0.5):
            if context.is_shutdown:
                logger.warning(f"Abandoning wait for the '{self.__client.srv_name}' service, due to shutdown.")
                return
        request = self.__client.srv_type.Request()
        request.transition.id = transition_id
        answered = threading.Event()
        future = self.__client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        while not answered.wait(0.5):
            if context.is_shutdown:
                logger.warning(f"Abandoning wait for the '{self.__client.srv_name}' service response, due to shutdown.")
                future.cancel()
                return
        if not future.result().success:
            transition = ChangeState.valid_transitions[transition_id]
            logger.error(f"Failed to make transition '{transition}' for LifecycleNode '{self.node_name}'")
