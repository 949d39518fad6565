"""Launch descriptions as text, for ``ros2 launch --print-description``."""

from __future__ import annotations

from collections.abc import Iterable

from .action import Action
from .actions import EmitEvent, ExecuteProcess, LogInfo, RegisterEventHandler
from .launch_description import LaunchDescription
from .launch_description_entity import LaunchDescriptionEntity
from .some_substitutions_type import SomeSubstitutionsType
from .utilities import normalize_to_list_of_substitutions


def _text(substitutions: SomeSubstitutionsType) -> str:
    return " + ".join(sub.describe() for sub in normalize_to_list_of_substitutions(substitutions))


def _process(action: ExecuteProcess) -> str:
    cmd = ", ".join(_text(part) for part in action.cmd)
    cwd = None if action.cwd is None else f"'{_text(action.cwd)}'"
    env = None if action.env is None else "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in action.env) + "}"
    return f"ExecuteProcess(cmd=[{cmd}], cwd={cwd}, env={env}, shell={action.shell})"


def _lines(entities: Iterable[LaunchDescriptionEntity]) -> list[str]:
    items = [_entity(entity) for entity in entities]
    lines = []
    for index, item in enumerate(items):
        last = index == len(items) - 1
        lines.append(("└── " if last else "├── ") + item[0])
        lines += [("    " if last else "│   ") + line for line in item[1:]]
    return lines


def _entity(entity: LaunchDescriptionEntity) -> list[str]:
    if isinstance(entity, LogInfo):
        return [f"LogInfo({_text(entity.msg)})"]
    if isinstance(entity, EmitEvent):
        return [f"EmitEvent(event='{entity.event.name}')"]
    if isinstance(entity, ExecuteProcess):
        return [_process(entity)]
    if isinstance(entity, RegisterEventHandler):
        description, entities = entity.event_handler.describe()
        inner = [f"└── {description}", *("    " + line for line in _lines(entities))]
        return [f"RegisterEventHandler('{entity.event_handler}'):", *inner]
    kind = "Action" if isinstance(entity, Action) else "Unknown entity"
    return [f"{kind}('{entity}')"]


class LaunchIntrospector:
    """Describes launch descriptions without running them."""

    def format_launch_description(self, launch_description: LaunchDescription) -> str:
        """Return the description as a tree."""
        return "\n".join([str(launch_description), *_lines(launch_description.entities)])
