"""Actions that set namespaces, parameters and remappings for the nodes after them in a scope."""

from __future__ import annotations

from typing import Any

from launch.action import Action
from launch.launch_context import LaunchContext
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitutions import SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

from ..parameter_descriptions import evaluate_value


def prefix_namespace(base: str | None, namespace: str | None) -> str | None:
    """Put a namespace behind another, unless it is absolute.

    Args:
        base: Namespace around, None for none.
        namespace: Namespace, None for none.

    Returns:
        The absolute namespace, None if both are None.
    """
    if namespace is None and base is None:
        return None
    if not base or (namespace or "").startswith("/"):
        combined = namespace if namespace is not None else ""
    elif namespace is None:
        combined = base
    else:
        combined = f"{base.rstrip('/')}/{namespace}"
    return "/" + combined.strip("/") if combined.strip("/") else "/"


class PushROSNamespace(Action):
    """Put the nodes after it into a namespace; it ends with the group."""

    def __init__(self, namespace: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Keep the namespace."""
        super().__init__(**kwargs)
        self.namespace = normalize_to_list_of_substitutions(namespace)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it.

        Raises:
            SubstitutionFailure: If it is not valid.
        """
        from rclpy.exceptions import InvalidNamespaceException
        from rclpy.validate_namespace import validate_namespace

        pushed = perform_substitutions(context, self.namespace)
        previous = context.launch_configurations.get("ros_namespace")
        namespace = prefix_namespace(previous, pushed)
        try:
            validate_namespace(namespace or "")
        except InvalidNamespaceException as error:
            raise SubstitutionFailure(
                f"The resulting namespace is invalid: [previous_namespace='{previous}', pushed_namespace='{pushed}']"
            ) from error
        context.launch_configurations["ros_namespace"] = namespace
        return None


def _append(context: LaunchContext, key: str, value: Any) -> None:
    context.launch_configurations.setdefault(key, []).append(value)


class SetParameter(Action):
    """Set a parameter of the nodes after it."""

    def __init__(self, name: SomeSubstitutionsType, value: Any, **kwargs: Any) -> None:
        """Keep name and value."""
        super().__init__(**kwargs)
        self.name = normalize_to_list_of_substitutions(name)
        self.value = value

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it."""
        name = perform_substitutions(context, self.name)
        _append(context, "global_params", (name, evaluate_value(context, name, self.value)))
        return None


class SetParametersFromFile(Action):
    """Give a parameter file to the nodes after it."""

    def __init__(self, filename: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Keep the path."""
        super().__init__(**kwargs)
        self.filename = normalize_to_list_of_substitutions(filename)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it."""
        _append(context, "global_params", perform_substitutions(context, self.filename))
        return None


class SetRemap(Action):
    """Remap a name in the nodes after it."""

    def __init__(self, src: SomeSubstitutionsType, dst: SomeSubstitutionsType, **kwargs: Any) -> None:
        """Keep both names."""
        super().__init__(**kwargs)
        self.src = normalize_to_list_of_substitutions(src)
        self.dst = normalize_to_list_of_substitutions(dst)

    def execute(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        """Set it."""
        _append(
            context, "ros_remaps", (perform_substitutions(context, self.src), perform_substitutions(context, self.dst))
        )
        return None
