"""The event loop that runs launch descriptions."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import traceback
from collections.abc import Iterable
from typing import Any

from .event import Event
from .event_handlers import OnIncludeLaunchDescription
from .events import IncludeLaunchDescription, Shutdown
from .launch_context import LaunchContext
from .launch_description import LaunchDescription
from .launch_description_entity import LaunchDescriptionEntity
from .logging import get_logger, launch_config, log_launch_config
from .utilities import normalize_to_list_of_entities, visit_all_entities_and_collect_futures


class LaunchService:
    """Visits launch descriptions, handles events, and ends when nothing is left to do."""

    def __init__(self, *, argv: Iterable[str] | None = None, noninteractive: bool = False, debug: bool = False) -> None:
        """Prepare a launch.

        Args:
            argv: Arguments of the command line, for those who ask the context.
            noninteractive: No terminal sends Ctrl-C to the processes, so the launch does.
            debug: More output.
        """
        launch_config.level = logging.DEBUG if debug else logging.INFO
        self.__logger = get_logger("launch")
        self.__context = LaunchContext(argv=argv, noninteractive=noninteractive)
        self.__context.register_event_handler(OnIncludeLaunchDescription())
        self.__pending: list[tuple[LaunchDescriptionEntity | None, asyncio.Future[Any]]] = []
        self.__loop: asyncio.AbstractEventLoop | None = None
        self.__shutting_down = False
        self.__sigint_seen = False
        self.__return_code = 0

    @property
    def context(self) -> LaunchContext:
        """State of the launch."""
        return self.__context

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop while it runs."""
        return self.__loop

    def include_launch_description(self, launch_description: LaunchDescription) -> None:
        """Visit a launch description as soon as the loop runs."""
        self.emit_event(IncludeLaunchDescription(launch_description))

    def emit_event(self, event: Event) -> None:
        """Queue an event, from any thread."""
        if self.__loop is not None and threading.current_thread() is not threading.main_thread():
            self.__loop.call_soon_threadsafe(self.__context.emit_event_sync, event)
        else:
            self.__context.emit_event_sync(event)

    def shutdown(self, force_sync: bool = False) -> None:
        """End the launch, from any thread."""
        if self.__loop is None:
            return
        if threading.current_thread() is threading.main_thread():
            self.__shutdown("LaunchService.shutdown() called")
        else:
            self.__loop.call_soon_threadsafe(self.__shutdown, "LaunchService.shutdown() called")

    def run(self, *, shutdown_when_idle: bool = True) -> int:
        """Run until everything is done; return 0, or 1 if something went wrong in the launch itself.

        Args:
            shutdown_when_idle: End when nothing is left to do.
        """
        return asyncio.run(self.run_async(shutdown_when_idle=shutdown_when_idle))

    async def run_async(self, *, shutdown_when_idle: bool = True) -> int:
        """Run within an event loop, in the main thread; see run().

        Raises:
            RuntimeError: If called from another thread or twice.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("LaunchService can only be run in the main thread.")
        if self.__loop is not None:
            raise RuntimeError("LaunchService cannot be run multiple times concurrently.")
        loop = asyncio.get_running_loop()
        self.__loop = loop
        self.__context.asyncio_loop = loop
        self.__context.wake = asyncio.Event()
        self.__return_code = 0
        loop.add_signal_handler(signal.SIGINT, self.__on_sigint)
        for number in (signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(number, self.__on_sigterm, number)
        try:
            log_launch_config(logger=self.__logger)
            await self.__run(shutdown_when_idle)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                loop.remove_signal_handler(number)
            self.__loop = None
            self.__context.asyncio_loop = None
            self.__context.wake = None
            self.__shutting_down = False
        return self.__return_code

    async def __run(self, shutdown_when_idle: bool) -> None:
        wake = self.__context.wake
        assert wake is not None
        while True:
            wake.clear()
            while self.__context.event_queue:
                self.__guard(self.__process, self.__context.event_queue.popleft())
            self.__collect()
            if self.__context.event_queue:
                continue
            if not self.__pending and self.__shutting_down:
                return
            if not self.__pending and shutdown_when_idle:
                self.__shutdown("idle")
                continue
            waiting = asyncio.ensure_future(wake.wait())
            await asyncio.wait(
                [waiting, *(future for _, future in self.__pending)], return_when=asyncio.FIRST_COMPLETED
            )
            waiting.cancel()

    def __process(self, event: Event) -> None:
        if isinstance(event, Shutdown):
            # Before the handlers: what they stop must not be taken for a failure.
            self.__shutting_down = True
            self.__context.is_shutdown = True
        for handler in self.__context.event_handlers:
            if not handler.matches(event):
                continue
            self.__logger.debug(f"processing event: '{event}' ✓ '{handler}'")
            self.__context.push_locals()
            try:
                for entity in normalize_to_list_of_entities(handler.handle(event, self.__context)):
                    self.__pending += visit_all_entities_and_collect_futures(entity, self.__context)
            finally:
                self.__context.pop_locals()

    def __collect(self) -> None:
        """Forget what is done; report what failed."""
        self.__pending += [(None, future) for future in self.__context.completion_futures]
        self.__context.completion_futures.clear()
        done = [future for _, future in self.__pending if future.done()]
        self.__pending = [(entity, future) for entity, future in self.__pending if not future.done()]
        for future in done:
            if not future.cancelled():
                self.__guard(future.result)

    def __guard(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:
            # Whatever a launch file raises ends the launch, with all its processes.
            self.__logger.debug(traceback.format_exc())
            message = f"Caught exception in launch (see debug for traceback): {error}"
            self.__logger.error(message)
            self.__return_code = 1
            self.__shutdown(message)

    def __shutdown(self, reason: str, *, due_to_sigint: bool = False) -> None:
        if not self.__shutting_down:
            self.__context.emit_event_sync(Shutdown(reason=reason, due_to_sigint=due_to_sigint))
        self.__shutting_down = True
        self.__context.is_shutdown = True

    def __on_sigint(self) -> None:
        message = "user interrupted with ctrl-c (SIGINT)"
        if self.__sigint_seen:
            self.__logger.warning(f"{message} again, ignoring...")
            return
        self.__sigint_seen = True
        self.__logger.warning(message)
        self.__shutdown("ctrl-c (SIGINT)", due_to_sigint=True)

    def __on_sigterm(self, number: signal.Signals) -> None:
        # The real launch gives up here and leaves its processes behind; this one takes them along.
        self.__logger.error(f"user interrupted with ctrl-\\ ({number.name}), terminating...")
        self.__return_code = 1
        self.__shutdown(number.name)
