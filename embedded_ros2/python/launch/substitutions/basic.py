"""Substitutions that look something up."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions

if TYPE_CHECKING:
    from ..launch_context import LaunchContext


class SubstitutionFailure(RuntimeError):
    """A substitution has no text in this context."""


def describe_all(subs: Iterable[Substitution]) -> str:
    """Return the descriptions of substitutions, joined as the real launch prints them."""
    return " + ".join(sub.describe() for sub in subs)


class TextSubstitution(Substitution):
    """Text as it is."""

    def __init__(self, *, text: str) -> None:
        """Keep the text."""
        if not isinstance(text, str):
            raise TypeError(f"TextSubstitution expected Text object got '{type(text)}' instead.")
        self.text = text

    def describe(self) -> str:
        """Return the text in quotes."""
        return f"'{self.text}'"

    def perform(self, context: LaunchContext) -> str:
        """Return the text."""
        return self.text


class LaunchConfiguration(Substitution):
    """Value of a launch configuration, which is where launch arguments are kept."""

    def __init__(self, variable_name: SomeSubstitutionsType, *, default: Any = None) -> None:
        """Name the launch configuration.

        Args:
            variable_name: Its name.
            default: Value where it does not exist; None makes that an error.
        """
        self.variable_name = normalize_to_list_of_substitutions(variable_name)
        self.__default: list[Substitution] | None = None
        if default is not None:
            items = [default] if isinstance(default, str) or not isinstance(default, Iterable) else list(default)
            self.__default = normalize_to_list_of_substitutions(
                [item if isinstance(item, (str, Substitution)) else str(item) for item in items]
            )

    def describe(self) -> str:
        """Return the name."""
        return f"LaunchConfig({describe_all(self.variable_name)})"

    def perform(self, context: LaunchContext) -> str:
        """Return the value.

        Raises:
            SubstitutionFailure: If it does not exist and there is no default.
        """
        name = perform_substitutions(context, self.variable_name)
        if name in context.launch_configurations:
            return str(context.launch_configurations[name])
        if self.__default is None:
            raise SubstitutionFailure(f"launch configuration '{name}' does not exist")
        return perform_substitutions(context, self.__default)


class EnvironmentVariable(Substitution):
    """Value of an environment variable."""

    def __init__(self, name: SomeSubstitutionsType, *, default_value: SomeSubstitutionsType | None = None) -> None:
        """Name the variable.

        Args:
            name: Its name.
            default_value: Value where it is not set; None makes that an error.
        """
        self.name = normalize_to_list_of_substitutions(name)
        self.default_value = None if default_value is None else normalize_to_list_of_substitutions(default_value)

    def describe(self) -> str:
        """Return the name."""
        return f"EnvVar({describe_all(self.name)})"

    def perform(self, context: LaunchContext) -> str:
        """Return the value.

        Raises:
            SubstitutionFailure: If it is not set and there is no default.
        """
        name = perform_substitutions(context, self.name)
        value = context.environment.get(name)
        if value is not None:
            return value
        if self.default_value is None:
            raise SubstitutionFailure(f"environment variable '{name}' does not exist")
        return perform_substitutions(context, self.default_value)


class PathJoinSubstitution(Substitution):
    """Path made of parts."""

    def __init__(self, substitutions: Iterable[str | Substitution]) -> None:
        """Keep the parts."""
        self.substitutions = normalize_to_list_of_substitutions(substitutions)

    def describe(self) -> str:
        """Return the parts."""
        return f"PathJoin('{describe_all(self.substitutions)}')"

    def perform(self, context: LaunchContext) -> str:
        """Return the path."""
        parts = [context.perform_substitution(part) for part in self.substitutions]
        # os.path and not Path: the real launch keeps '.' and doubled parts as they are.
        return os.path.join(*parts)  # noqa: PTH118


class FindExecutable(Substitution):
    """Path of an executable on the PATH."""

    def __init__(self, *, name: SomeSubstitutionsType) -> None:
        """Name the executable."""
        self.name = normalize_to_list_of_substitutions(name)

    def describe(self) -> str:
        """Return the name."""
        return f"FindExec({describe_all(self.name)})"

    def perform(self, context: LaunchContext) -> str:
        """Return the path.

        Raises:
            SubstitutionFailure: If it is not on the PATH.
        """
        name = perform_substitutions(context, self.name)
        path = shutil.which(name)
        if path is None:
            raise SubstitutionFailure(f"executable '{name}' not found on the PATH")
        return path


class _OfThisLaunchFile(Substitution):
    """Something about the launch file in hand."""

    attribute = ""

    def describe(self) -> str:
        """Return the kind of substitution."""
        return f"{type(self).__name__}()"

    def perform(self, context: LaunchContext) -> str:
        """Return the text.

        Raises:
            SubstitutionFailure: If there is no launch file.
        """
        known = context.get_locals_as_dict()
        if self.attribute not in known:
            raise SubstitutionFailure(f"{type(self).__name__} used outside of a launch file (in a script)")
        return str(known[self.attribute])


class ThisLaunchFile(_OfThisLaunchFile):
    """Path of the launch file in hand."""

    attribute = "current_launch_file_path"


class ThisLaunchFileDir(_OfThisLaunchFile):
    """Directory of the launch file in hand."""

    attribute = "current_launch_file_directory"


class LaunchLogDir(Substitution):
    """Directory of the log files of this launch."""

    def describe(self) -> str:
        """Return the kind of substitution."""
        return "LaunchLogDir()"

    def perform(self, context: LaunchContext) -> str:
        """Return the directory."""
        from ..logging import launch_config

        return str(launch_config.log_dir)


class LocalSubstitution(Substitution):
    """An attribute of context.locals."""

    def __init__(self, expression: str, description: str | None = None) -> None:
        """Keep the expression that follows ``context.locals.``."""
        if not isinstance(expression, str):
            raise TypeError(f"'LocalSubstitution' expected text, got '{expression}' of type '{type(expression)}'")
        self.expression = expression
        self.description = description

    def describe(self) -> str:
        """Return the description or the expression."""
        return f"LocalVar('{self.expression if self.description is None else self.description}')"

    def perform(self, context: LaunchContext) -> str:
        """Return the value."""
        return str(eval("context.locals." + self.expression, {}, {"context": context}))


class FileContent(Substitution):
    """Content of a file."""

    def __init__(self, path: SomeSubstitutionsType) -> None:
        """Keep the path."""
        self.path = normalize_to_list_of_substitutions(path)

    def describe(self) -> str:
        """Return the path."""
        return f"FileContent('{describe_all(self.path)}')"

    def perform(self, context: LaunchContext) -> str:
        """Return the content.

        Raises:
            SubstitutionFailure: If the file can't be read.
        """
        path = Path(perform_substitutions(context, self.path))
        try:
            return path.read_text()
        except OSError as error:
            raise SubstitutionFailure(f"Failed to read file at '{path}': {error}") from error


class Command(Substitution):
    """What a command writes to stdout (a xacro call, say)."""

    def __init__(self, command: SomeSubstitutionsType, *, on_stderr: SomeSubstitutionsType = "fail") -> None:
        """Keep the command.

        Args:
            command: Command line, split as a shell would, run without a shell.
            on_stderr: 'fail', 'warn', 'ignore' or 'capture', for a command that succeeds but
                writes to stderr.
        """
        self.command = normalize_to_list_of_substitutions(command)
        self.on_stderr = normalize_to_list_of_substitutions(on_stderr)

    def describe(self) -> str:
        """Return the command."""
        return f"Command({describe_all(self.command)})"

    def perform(self, context: LaunchContext) -> str:
        """Run the command and return its output.

        Raises:
            SubstitutionFailure: If it can't be run, fails, or writes to stderr where it may not.
        """
        from ..logging import get_logger

        command = perform_substitutions(context, self.command)
        on_stderr = perform_substitutions(context, self.on_stderr)
        if on_stderr not in ("fail", "ignore", "warn", "capture"):
            raise SubstitutionFailure("expected 'on_stderr' to be one of: 'fail', 'ignore', 'warn' or 'capture'")
        stderr = subprocess.STDOUT if on_stderr == "capture" else subprocess.PIPE
        try:
            result = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)
        except FileNotFoundError as error:
            raise SubstitutionFailure(f"file not found: {error}") from error
        if result.returncode != 0:
            message = f"executed command failed. Command: {command}"
            raise SubstitutionFailure(message + (f"\nCaptured stderr output: {result.stderr}" if result.stderr else ""))
        if result.stderr:
            message = (
                f"executed command showed stderr output. Command: {command}\nCaptured stderr output:\n{result.stderr}"
            )
            if on_stderr == "fail":
                raise SubstitutionFailure(message)
            if on_stderr == "warn":
                get_logger().warning(message)
        return result.stdout
