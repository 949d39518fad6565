"""Files of a run: tensors as safetensors, and what lies between them as JSON in the same file; never a pickle.

A file is written beside its final name and moved, so a run that is killed leaves a whole file or none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from realdiff_core.errors import ConfigError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

_STRUCTURE = "structure"
_MAKE_AGAIN = "delete this file: the same command then makes it again"
_Result = TypeVar("_Result")


def write_tensors(file: Path, tensors: dict[str, Tensor], structure: str | None = None) -> None:
    """Writes tensors beside the final name and moves the file.

    Args:
        file: of safetensors.
        tensors: by name, on any device.
        structure: text that is kept with them.
    """
    partial = file.with_name(f".{file.name}.partial")
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(held, partial, metadata=None if structure is None else {_STRUCTURE: structure})
    partial.replace(file)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Reads what `write_tensors` wrote; on the CPU.

    Raises:
        ConfigError: the file is damaged.
    """
    return using(file, lambda: load_file(file))


def write_state(file: Path, state: dict[str, Any]) -> None:
    """Writes a state dictionary, e.g. of networks and optimisers.

    Args:
        file: of safetensors.
        state: dictionaries with keys that are strings or integers, lists and tuples of tensors, numbers, strings, None.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_taken_apart(state, tensors))
    write_tensors(file, tensors, structure)


def read_state(file: Path) -> dict[str, Any]:
    """What `write_state` was given; tensors on the CPU, laid out in memory as they were.

    Raises:
        ConfigError: the file is damaged.
    """

    def read() -> dict[str, Any]:
        with safe_open(file, "pt") as opened:
            structure = json.loads((opened.metadata() or {})[_STRUCTURE])
            state: dict[str, Any] = _put_together(structure, opened.get_tensor)
        return state

    return using(file, read)


def using(file: Path, action: Callable[[], _Result], next_step: str = _MAKE_AGAIN) -> _Result:
    """What an action with the content of a run's file gives.

    Args:
        file: for the message.
        action: reads the file, or uses what it held.
        next_step: for the message.

    Raises:
        ConfigError: the file is damaged, or its content doesn't fit.
    """
    try:
        return action()
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            "a file of the run is damaged",
            where=str(file),
            expected="a file that this run wrote",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            next_step=next_step,
        ) from error


def _taken_apart(value: object, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value; its tensors go into `tensors`. What isn't JSON's own becomes [kind, content]."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):05d}"
        # a copy, because safetensors refuses tensors that share memory
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
        return ["tensor", [name, list(value.stride())]]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"a key of a state must be a string or an integer, got {key!r}")
        return ["dict", [[key, _taken_apart(item, tensors)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_taken_apart(item, tensors) for item in value]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state can't hold a {type(value).__name__}")


def _put_together(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    """Undoes `_taken_apart`."""
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        name, stride = content
        stored = tensor(name)
        # Kernels go through memory as it is laid out, so a continued run rounds alike only with the same layout.
        return torch.empty_strided(stored.shape, stride, dtype=stored.dtype).copy_(stored)
    if kind == "dict":
        return {key: _put_together(item, tensor) for key, item in content}
    items = [_put_together(item, tensor) for item in content]
    return tuple(items) if kind == "tuple" else items
