"""ROS nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from launch.actions import ExecuteProcess
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import get_logger
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitutions import LocalSubstitution
from launch.utilities import ensure_argument_type, normalize_to_list_of_substitutions, perform_substitutions

from ..parameter_descriptions import Parameter, ParameterFile, evaluate_value, flatten, write_parameter_file
from ..substitutions import ExecutableInPackage
from .settings import prefix_namespace


class _QuotedDumper(yaml.SafeDumper):
    """Quotes every text value: rcl reads YAML 1.1, where a bare y or on is a boolean."""


_QuotedDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


class Node(ExecuteProcess):
    """Run a node of a package."""

    UNSPECIFIED_NODE_NAME = "<node_name_unspecified>"
    UNSPECIFIED_NODE_NAMESPACE = "<node_namespace_unspecified>"

    def __init__(
        self,
        *,
        executable: SomeSubstitutionsType,
        package: SomeSubstitutionsType | None = None,
        name: SomeSubstitutionsType | None = None,
        namespace: SomeSubstitutionsType | None = None,
        exec_name: SomeSubstitutionsType | None = None,
        parameters: list[Any] | None = None,
        remappings: Iterable[tuple[SomeSubstitutionsType, SomeSubstitutionsType]] | None = None,
        ros_arguments: Iterable[SomeSubstitutionsType] | None = None,
        arguments: Iterable[SomeSubstitutionsType] | None = None,
        **kwargs: Any,
    ) -> None:
        """Describe the node.

        Args:
            executable: Executable of the package, or a path where no package is given.
            package: Package.
            name: Name of the node; without one, the node's own.
            namespace: Its namespace, put behind that of PushROSNamespace unless absolute.
            exec_name: Label in the output; the executable's name without one.
            parameters: Parameter files (paths) and dictionaries, later ones win.
            remappings: (from, to) names.
            ros_arguments: Arguments after ``--ros-args``.
            arguments: Arguments of the program.
            **kwargs: Arguments of ExecuteProcess other than cmd and name.
        """
        cmd: list[SomeSubstitutionsType] = [
            executable if package is None else ExecutableInPackage(package=package, executable=executable)
        ]
        cmd += list(arguments or ())
        if ros_arguments is not None:
            cmd += ["--ros-args", *ros_arguments]
        cmd.append("--ros-args")
        if name is not None:
            cmd += ["-r", LocalSubstitution("ros_specific_arguments['name']", description="node name")]
        super().__init__(cmd=cmd, name=exec_name, **kwargs)
        if parameters is not None:
            ensure_argument_type(parameters, list, "parameters", "Node")
        self.node_package = package
        self.node_executable = executable
        self.__name = name
        self.__namespace = namespace
        self.__parameters = [
            item if isinstance(item, (Mapping, Parameter, ParameterFile)) else ParameterFile(item)
            for item in parameters or []
        ]
        self.__remappings = [self.__rule(item) for item in remappings or ()]
        self.__expanded_name = self.UNSPECIFIED_NODE_NAME
        self.expanded_node_namespace = self.UNSPECIFIED_NODE_NAMESPACE
        self.expanded_remapping_rules: list[tuple[str, str]] | None = None
        self.__final_name: str | None = None

    @staticmethod
    def __rule(item: Any) -> tuple[SomeSubstitutionsType, SomeSubstitutionsType]:
        ensure_argument_type(item, tuple, "remap_rule")
        if len(item) != 2:
            raise TypeError(f"remap_rule must be a tuple of length 2, got length {len(item)}")
        return item[0], item[1]

    @property
    def node_name(self) -> str:
        """Full name of the node, once it is started."""
        if self.__final_name is None:
            raise RuntimeError("cannot access 'node_name' before executing action")
        return self.__final_name

    def is_node_name_fully_specified(self) -> bool:
        """Return whether name and namespace are both given."""
        unknown = (self.UNSPECIFIED_NODE_NAME, self.UNSPECIFIED_NODE_NAMESPACE)
        return not any(text in self.node_name for text in unknown)

    def perform_node_substitutions(self, context: LaunchContext) -> None:
        """Find out the node's name and complete the command; once only."""
        if self.__final_name is not None:
            return
        try:
            self.__expand_name(context)
        except Exception:
            get_logger("launch_ros.actions.node").error(
                "Error while expanding or validating node name or namespace for "
                f"'package={self.node_package}, executable={self.node_executable}, "
                f"name={self.__name}, namespace={self.__namespace}':"
            )
            raise
        separator = "" if self.expanded_node_namespace.endswith("/") else "/"
        self.__final_name = f"{self.expanded_node_namespace}{separator}{self.__expanded_name}"
        extra: list[str] = []
        for item in context.launch_configurations.get("global_params", []):
            if isinstance(item, tuple):
                extra += ["-p", f"{item[0]}:={item[1]}"]
            else:
                extra += ["--params-file", str(Path(item).absolute())]
        for parameters in self.__parameters:
            extra += self.__parameter_arguments(context, parameters)
        rules = list(context.launch_configurations.get("ros_remaps", []))
        rules += [
            (
                perform_substitutions(context, normalize_to_list_of_substitutions(source)),
                perform_substitutions(context, normalize_to_list_of_substitutions(target)),
            )
            for source, target in self.__remappings
        ]
        self.expanded_remapping_rules = rules or None
        for source, target in rules:
            extra += ["-r", f"{source}:={target}"]
        self.cmd.extend(normalize_to_list_of_substitutions(text) for text in extra)

    def __expand_name(self, context: LaunchContext) -> None:
        from rclpy.validate_namespace import validate_namespace
        from rclpy.validate_node_name import validate_node_name

        if self.__name is not None:
            self.__expanded_name = perform_substitutions(context, normalize_to_list_of_substitutions(self.__name))
            validate_node_name(self.__expanded_name)
        given = None
        if self.__namespace is not None:
            given = perform_substitutions(context, normalize_to_list_of_substitutions(self.__namespace))
        namespace = prefix_namespace(context.launch_configurations.get("ros_namespace"), given)
        if namespace is not None:
            self.expanded_node_namespace = namespace
            validate_namespace(namespace)
            subs = LocalSubstitution("ros_specific_arguments['ns']")
            self.cmd += [normalize_to_list_of_substitutions("-r"), normalize_to_list_of_substitutions(subs)]

    def __parameter_arguments(self, context: LaunchContext, parameters: Any) -> list[str]:
        if isinstance(parameters, Parameter):
            name, value = parameters.evaluate(context)
            text = yaml.dump(value, Dumper=_QuotedDumper, default_flow_style=True).removesuffix("...\n").strip()
            return ["-p", f"{name}:={text}"]
        if isinstance(parameters, ParameterFile):
            path = parameters.evaluate(context)
            if not path.is_file():
                get_logger("launch_ros.actions.node").warning(f"Parameter file path is not a file: {path}")
                return []
            return ["--params-file", str(path)]
        values = {}
        for subs, value in flatten(parameters):
            name = perform_substitutions(context, subs)
            values[name] = evaluate_value(context, name, value)
        who = self.node_name if self.is_node_name_fully_specified() else "/**"
        text = yaml.dump({who: {"ros__parameters": values}}, Dumper=_QuotedDumper, default_flow_style=False)
        return ["--params-file", str(write_parameter_file(context, text))]

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Start the node."""
        self.perform_node_substitutions(context)
        context.extend_locals(
            {
                "ros_specific_arguments": {
                    "name": f"__node:={self.__expanded_name}",
                    "ns": f"__ns:={self.expanded_node_namespace}",
                }
            }
        )
        result = super().execute(context)
        if self.is_node_name_fully_specified():
            if "unique_ros_node_names" not in context.get_locals_as_dict():
                context.extend_globals({"unique_ros_node_names": Counter()})
            names: Counter[str] = context.locals.unique_ros_node_names
            names[self.node_name] += 1
            if names[self.node_name] > 1:
                get_logger(self.final_name).warning(
                    f"there are now at least {names[self.node_name]} nodes with the name {self.node_name} "
                    "created within this launch context"
                )
        return result
