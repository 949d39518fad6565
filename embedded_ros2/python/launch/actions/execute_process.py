"""Processes."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import Action
from ..conditions import evaluate_condition_expression
from ..event_handler import EventHandler
from ..event_handlers import OnProcessExit, OnShutdown
from ..events import Shutdown as ShutdownEvent
from ..events import matches_action
from ..events.process import ProcessExited, ProcessStarted, ShutdownProcess, SignalProcess
from ..launch_description_entity import LaunchDescriptionEntity
from ..logging import get_logger
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..substitutions import LaunchConfiguration
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from ..utilities.type_utils import normalize_typed_substitution, perform_typed_substitution
from .child import Child
from .flow import EmitEvent, OpaqueFunction, TimerAction

if TYPE_CHECKING:
    from ..launch_context import LaunchContext

_counter_lock = threading.Lock()
_counter = 0


def _numbered(name: str) -> str:
    global _counter
    with _counter_lock:
        _counter += 1
        return f"{name}-{_counter}"


def _pairs(variables: dict[Any, SomeSubstitutionsType] | None) -> list[tuple[list[Substitution], list[Substitution]]]:
    return [
        (normalize_to_list_of_substitutions(name), normalize_to_list_of_substitutions(value))
        for name, value in (variables or {}).items()
    ]


class ExecuteProcess(Action):
    """Run a program until it ends or the launch does.

    At the end of the launch it gets SIGINT, then SIGTERM, then SIGKILL, each after a time.
    """

    def __init__(
        self,
        *,
        cmd: Iterable[SomeSubstitutionsType],
        prefix: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        cwd: SomeSubstitutionsType | None = None,
        env: dict[Any, SomeSubstitutionsType] | None = None,
        additional_env: dict[Any, SomeSubstitutionsType] | None = None,
        shell: bool = False,
        sigterm_timeout: SomeSubstitutionsType = LaunchConfiguration("sigterm_timeout", default=5),  # noqa: B008
        sigkill_timeout: SomeSubstitutionsType = LaunchConfiguration("sigkill_timeout", default=5),  # noqa: B008
        emulate_tty: bool = False,
        output: Any = "log",
        output_format: str = "[{this.process_description.final_name}] {line}",
        cached_output: bool = False,
        log_cmd: bool = False,
        on_exit: Any = None,
        respawn: bool | SomeSubstitutionsType = False,
        respawn_delay: float | None = None,
        respawn_max_retries: int = -1,
        **kwargs: Any,
    ) -> None:
        """Describe the process.

        Args:
            cmd: The program and its arguments, each text or substitutions.
            prefix: Command in front of it (a debugger, say); without one, the launch
                configurations launch-prefix and launch-prefix-filter decide.
            name: Label in the output; the program's name without one.
            cwd: Working directory.
            env: The whole environment, instead of the launch's.
            additional_env: Variables in addition.
            shell: Run cmd by a shell.
            sigterm_timeout: Time [s] from SIGINT to SIGTERM.
            sigkill_timeout: Time [s] from SIGTERM to SIGKILL.
            emulate_tty: Give it a terminal, so that it writes colours and each line at once.
            output: Where its output goes, see launch.logging.get_output_loggers.
            output_format: Format of a line.
            cached_output: Keep the output for get_stdout() and get_stderr().
            log_cmd: Write the command to the output.
            on_exit: Entities, or a function of (event, context), for when it has ended.
            respawn: Start it again when it ends.
            respawn_delay: Time [s] before that.
            respawn_max_retries: How often; negative for ever.
            **kwargs: condition.
        """
        super().__init__(**kwargs)
        self.cmd = [normalize_to_list_of_substitutions(part) for part in cmd]
        self.prefix = normalize_to_list_of_substitutions(
            LaunchConfiguration("launch-prefix", default="") if prefix is None else prefix
        )
        self.__prefix_filter = [LaunchConfiguration("launch-prefix-filter", default="")] if prefix is None else None
        self.__label = None if name is None else normalize_to_list_of_substitutions(name)
        self.cwd = None if cwd is None else normalize_to_list_of_substitutions(cwd)
        self.env = None if env is None else _pairs(env)
        self.additional_env = None if additional_env is None else _pairs(additional_env)
        self.shell = shell
        self.sigterm_timeout = normalize_to_list_of_substitutions(sigterm_timeout)
        self.sigkill_timeout = normalize_to_list_of_substitutions(sigkill_timeout)
        self.emulate_tty = emulate_tty
        wanted = os.environ.get("OVERRIDE_LAUNCH_PROCESS_OUTPUT", output)
        self.output = wanted if isinstance(wanted, dict) else normalize_to_list_of_substitutions(wanted)
        self.output_format = output_format
        self.cached_output = cached_output
        self.__log_cmd = log_cmd
        self.__on_exit = on_exit
        self.__respawn = normalize_typed_substitution(respawn, bool)
        self.__respawn_delay = respawn_delay
        self.__respawns_left = respawn_max_retries

        self.final_name: str | None = None
        self.__details: dict[str, Any] | None = None
        self.__child: Child | None = None
        self.__done: asyncio.Future[None] | None = None
        self.__stopping: asyncio.Event | None = None
        self.__timers: list[TimerAction] = []
        self.__return_code: int | None = None

    # --- what others ask -----------------------------------------------------------------
    @property
    def name(self) -> Any:
        """Label in the output: the final one once the process is started."""
        return self.final_name if self.final_name is not None else self.__label

    @property
    def process_description(self) -> ExecuteProcess:
        """What output formats call the process: this action, which has final_name."""
        return self

    @property
    def process_details(self) -> dict[str, Any] | None:
        """Arguments of process events: action, name, cmd, cwd, env, pid; None before the start."""
        return self.__details

    @property
    def return_code(self) -> int | None:
        """Exit code, negative for a signal, None while it runs."""
        return self.__return_code

    def get_stdout(self) -> str:
        """Return what was written to stdout, where cached_output is on."""
        return self.__cached("stdout")

    def get_stderr(self) -> str:
        """Return what was written to stderr, where cached_output is on."""
        return self.__cached("stderr")

    def __cached(self, source: str) -> str:
        if not self.cached_output:
            raise RuntimeError(f"cached output must be true to be able to get {source}, proc '{self.name}'")
        return "" if self.__child is None else self.__child.cached[source]

    def get_sub_entities(self) -> list[LaunchDescriptionEntity]:
        """Return the on_exit entities."""
        return self.__on_exit if isinstance(self.__on_exit, list) else []

    def get_asyncio_future(self) -> asyncio.Future[None] | None:
        """Return a future that completes with the process's end."""
        return self.__done

    # --- start -----------------------------------------------------------------------------
    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Start the process.

        Raises:
            RuntimeError: If this action was executed before.
        """
        if self.__details is not None:
            raise RuntimeError(f"ExecuteProcess action '{self.final_name}': executed more than once")
        self.__prepare(context)
        if context.is_shutdown:
            return None
        assert context.asyncio_loop is not None
        output = self.output if isinstance(self.output, dict) else perform_substitutions(context, self.output)
        self.__child = Child(self, output)
        self.__done = context.asyncio_loop.create_future()
        self.__stopping = asyncio.Event()
        for handler in (
            EventHandler(
                matcher=lambda event: isinstance(event, ShutdownProcess) and event.process_matcher(self),
                entities=OpaqueFunction(function=lambda context: self.__stop(send_sigint=True)),
            ),
            EventHandler(
                matcher=lambda event: isinstance(event, SignalProcess) and event.process_matcher(self),
                entities=OpaqueFunction(function=self.__on_signal),
            ),
            OnShutdown(on_shutdown=self.__on_shutdown),
            OnProcessExit(target_action=self, on_exit=self.__on_exit),
        ):
            context.register_event_handler(handler)
        tty = self.emulate_tty
        if "emulate_tty" in context.launch_configurations:
            tty = evaluate_condition_expression(context, [LaunchConfiguration("emulate_tty")])
        task = context.asyncio_loop.create_task(self.__run(context, tty))
        task.add_done_callback(self.__finish)
        return None

    def __prepare(self, context: LaunchContext) -> None:
        cmd = [perform_substitutions(context, part) for part in self.cmd]
        pattern = "" if self.__prefix_filter is None else perform_substitutions(context, self.__prefix_filter)
        label = Path(cmd[0]).name
        if re.match(pattern, label):
            cmd = shlex.split(perform_substitutions(context, self.prefix)) + cmd
            label = Path(cmd[0]).name
        if self.__label is not None:
            label = perform_substitutions(context, self.__label)
        env = dict(context.environment)
        if self.env is not None:
            env = {perform_substitutions(context, k): perform_substitutions(context, v) for k, v in self.env}
        for key, value in self.additional_env or []:
            env[perform_substitutions(context, key)] = perform_substitutions(context, value)
        self.final_name = _numbered(label)
        self.__details = {
            "action": self,
            "name": self.final_name,
            "cmd": cmd,
            "cwd": None if self.cwd is None else perform_substitutions(context, self.cwd),
            "env": env,
        }
        self.__respawn = perform_typed_substitution(context, self.__respawn, bool)
        self.__timeouts = tuple(
            float(perform_substitutions(context, subs)) for subs in (self.sigterm_timeout, self.sigkill_timeout)
        )

    async def __run(self, context: LaunchContext, tty: bool) -> None:
        assert self.__details is not None and self.__child is not None and self.__stopping is not None
        logger = get_logger(self.final_name)
        cmd = self.__details["cmd"]
        command = " ".join(part for part in cmd if part.strip())
        while True:
            if self.__log_cmd:
                custom = self.env is not None or self.additional_env is not None
                logger.info(f"process details: cmd='{command}', cwd='{self.__details['cwd']}', custom_env?={custom}")
            try:
                pid = await self.__child.start(context, cmd, self.__details["cwd"], self.__details["env"], tty)
            except OSError as error:
                logger.error(f"exception occurred while executing process: {error}")
                self.__return_code = 127
                return
            self.__details["pid"] = pid
            logger.info(f"process started with pid [{pid}]")
            context.emit_event_sync(ProcessStarted(**self.__details))
            if self.__stopping.is_set() and not self.__timers:
                # The launch ended between the decision to start and the start.
                context.emit_event_sync(ShutdownProcess(process_matcher=matches_action(self)))
            code = await self.__child.wait()
            self.__return_code = code
            if code == 0:
                logger.info(f"process has finished cleanly [pid {pid}]")
            else:
                logger.error(f"process has died [pid {pid}, exit code {code}, cmd '{command}'].")
            context.emit_event_sync(ProcessExited(returncode=code, **self.__details))
            if not self.__respawn or self.__stopping.is_set() or context.is_shutdown or self.__respawns_left == 0:
                return
            self.__respawns_left -= 1
            try:
                await asyncio.wait_for(self.__stopping.wait(), timeout=self.__respawn_delay or 0.0)
                return
            except asyncio.TimeoutError:
                self.__return_code = None

    def __finish(self, task: asyncio.Task[None]) -> None:
        for timer in self.__timers:
            timer.cancel()
        if self.__done is None or self.__done.done():
            return
        if task.cancelled() or task.exception() is None:
            self.__done.set_result(None)
        else:
            self.__done.set_exception(task.exception())  # type: ignore[arg-type]

    # --- stop ------------------------------------------------------------------------------
    def __on_shutdown(self, event: ShutdownEvent, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        # Ctrl-C in a terminal reaches the processes by itself; a second SIGINT would cut their cleaning up short.
        return self.__stop(send_sigint=not event.due_to_sigint or context.noninteractive)

    def __stop(self, *, send_sigint: bool) -> list[LaunchDescriptionEntity] | None:
        if self.__stopping is None or self.__timers:
            return None
        self.__stopping.set()
        if self.__child is None or not self.__child.running:
            return None
        sigterm_after, sigkill_after = self.__timeouts

        def escalate(after: float, sent: str, next_signal: signal.Signals, elapsed: str) -> TimerAction:
            def say(_context: LaunchContext) -> None:
                get_logger(self.final_name).error(
                    f"process[{self.final_name}] failed to terminate '{elapsed}' seconds after receiving "
                    f"'{sent}', escalating to '{next_signal.name}'"
                )

            event = SignalProcess(signal_number=next_signal, process_matcher=matches_action(self))
            return TimerAction(
                period=after, actions=[OpaqueFunction(function=say), EmitEvent(event=event)], cancel_on_shutdown=False
            )

        total = sigterm_after + sigkill_after
        self.__timers = [
            escalate(sigterm_after, "SIGINT", signal.SIGTERM, f"{sigterm_after:g}"),
            escalate(total, "SIGTERM", signal.SIGKILL, str(total)),
        ]
        actions: list[LaunchDescriptionEntity] = [*self.__timers]
        if send_sigint:
            event = SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(self))
            actions.append(EmitEvent(event=event))
        return actions

    def __on_signal(self, context: LaunchContext) -> None:
        event: SignalProcess = context.locals.event
        if self.__child is None or not self.__child.running:
            return
        get_logger(self.final_name).info(f"sending signal '{event.signal_name}' to process[{self.final_name}]")
        self.__child.send(signal.Signals[event.signal_name])
