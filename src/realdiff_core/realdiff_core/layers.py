"""Layered YAML: files extend each other; several files and `key=value` overrides are merged, then checked together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from realdiff_core.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

EXTENDS = "extends"
_COMMAND_LINE = "command line"

# Where each value was set: the dotted key and the file, or the command line.
_Origins = dict[tuple[str, ...], str]


def load_layers(files: Sequence[str | Path], model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Reads settings from layers, later ones over earlier ones.

    Args:
        files: YAML files. A file's `extends: other.yaml` (or a list; paths relative to the file) is read before it.
            Mappings are merged key by key; any other value, lists included, is replaced.
        model: the settings' model.
        overrides: "key=value" or "outer.inner=value" with a YAML value, over all files.

    Returns:
        The checked settings.

    Raises:
        ConfigError: A file is missing, isn't YAML or extends itself; an override is no key=value; a key is unknown or
            a value wrong: names the file that set it and the key.
    """
    merged: dict[str, Any] = {}
    origins: _Origins = {}
    for file in files:
        _merge(merged, _read(Path(file), ()), (), origins)
    for override in overrides:
        _merge(merged, _override(override), (), origins)
    try:
        return model.model_validate({key: _plain(value) for key, value in merged.items()})
    except ValidationError as error:
        raise _explained(error, model, origins) from error


class _Value:
    """A value and where it was set."""

    def __init__(self, value: Any, origin: str) -> None:
        self.value, self.origin = value, origin


def _read(file: Path, ancestors: tuple[Path, ...]) -> dict[str, Any]:
    import yaml

    if file.resolve() in ancestors:
        raise ConfigError(
            "the configuration extends itself",
            where=file,
            got=" -> ".join(p.name for p in (*ancestors, file.resolve())),
            next_step=f"remove one of the `{EXTENDS}`",
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = f"{file} ({EXTENDS} of {ancestors[-1]})" if ancestors else str(file)
        raise ConfigError("configuration file is missing", where=where, next_step="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("configuration file can't be read", where=file, got=str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError("configuration file isn't valid YAML", where=file, got=str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "configuration file has the wrong form", where=file, expected="keys and values", got=repr(content)[:80]
        )
    below = content.pop(EXTENDS, [])
    result: dict[str, Any] = {}
    for parent in [below] if isinstance(below, str) else below:
        _merge(result, _read(file.parent / parent, (*ancestors, file.resolve())), (), {})
    _merge(result, _tagged(content, str(file)), (), {})
    return result


def _tagged(content: Any, origin: str) -> Any:
    if isinstance(content, dict):
        return {str(key): _tagged(value, origin) for key, value in content.items()}
    return _Value(content, origin)


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    return content.value


def _merge(into: dict[str, Any], layer: dict[str, Any], at: tuple[str, ...], origins: _Origins) -> None:
    for key, value in layer.items():
        below = into.get(key)
        if isinstance(value, dict):
            if not isinstance(below, dict):
                below = into[key] = {}
            _merge(below, value, (*at, key), origins)
        else:
            into[key] = value
            origins[(*at, key)] = value.origin


def _override(text: str) -> dict[str, Any]:
    import yaml

    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            "the override is not understood",
            where=_COMMAND_LINE,
            expected="key=value or outer.inner=value",
            got=repr(text),
            next_step="for example: batch=64 model.guidance.sigma_px=8",
        )
    try:
        content = _tagged(yaml.safe_load(value), _COMMAND_LINE)
    except yaml.YAMLError as error:
        raise ConfigError("the override's value isn't YAML", where=_COMMAND_LINE, got=repr(text)) from error
    for key in reversed(keys):
        content = {key: content}
    return dict(content)


def _explained(error: ValidationError, model: type[BaseModel], origins: _Origins) -> ConfigError:
    problems = error.errors()
    first = problems[0]
    location = tuple(map(str, first["loc"]))
    key = ".".join(location) or "(all)"
    origin = next((origins[location[:n]] for n in range(len(location), 0, -1) if location[:n] in origins), None)
    if origin is None:  # a mapping: what set any of its keys
        origin = next((o for path, o in origins.items() if path[: len(location)] == location), "defaults")
    expected = first["msg"]
    if first["type"] == "extra_forbidden":
        expected = f"one of: {', '.join(_fields(model, location[:-1]))}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConfigError(
        f"configuration is invalid{more}",
        where=f"{origin}, key {key}",
        expected=expected,
        got="nothing" if first["type"] == "missing" else repr(first["input"])[:200],
        next_step=f"correct `{key}`",
    )


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    current: Any = model
    for key in path:
        annotation = current.model_fields[key].annotation if key in current.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        current = annotation
    return list(current.model_fields)
