"""Events of nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from launch._gaps import module_gaps

from . import lifecycle

if TYPE_CHECKING:
    from ..actions import Node

__all__ = ["lifecycle", "matches_node_name"]

__getattr__ = module_gaps("launch_ros.events", ())


def matches_node_name(node_name: str) -> Callable[[Node], bool]:
    """Return a matcher for the node with this full name."""
    wanted = node_name if node_name.startswith("/") else f"/{node_name}"
    return lambda action: action.node_name == wanted
