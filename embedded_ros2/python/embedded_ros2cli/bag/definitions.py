"""Definitions of message types, as bags keep them."""

from __future__ import annotations

from ..interface import definition, nested_type

_SEPARATOR = "=" * 80


def full_definition(message_type: str) -> str:
    """Return the definition of a message and, after it, of every message it uses.

    Args:
        message_type: 'package/msg/Name'.

    Raises:
        RuntimeError: If the package or one that it uses is not installed.
    """
    texts: dict[str, str] = {}
    waiting = [message_type]
    while waiting:
        name = waiting.pop(0)
        if name in texts:
            continue
        texts[name] = definition(name)
        package = name.split("/")[0]
        found = (nested_type(line, package) for line in texts[name].splitlines())
        waiting += [item for item in found if item is not None]
    main = texts.pop(message_type)
    parts = [main]
    for name, text in texts.items():
        # The short name, as rosbag2 writes it: package/Name.
        parts.append(f"{_SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n{text}")
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"
