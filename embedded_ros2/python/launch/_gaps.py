"""Clear messages for what the real launch offers and this runner lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn


class UnsupportedLaunchFeature(ImportError):
    """A launch file uses a feature of the real launch that the embedded runner lacks.

    It is an ImportError so that ``from launch.actions import X`` shows this message
    instead of a bare "cannot import name".
    """

    def __init__(self, feature: str) -> None:
        """Name the feature.

        Args:
            feature: What is missing, as the launch file spells it.
        """
        super().__init__(
            f"the embedded launch runner does not have '{feature}'. It runs the subset of launch "
            "that this project's launch files use; source a ROS 2 Jazzy installation to use the "
            "real launch, or add the feature to embedded_ros2/python."
        )
        self.feature = feature


def module_gaps(module: str, names: Iterable[str]) -> Callable[[str], NoReturn]:
    """Make a module-level ``__getattr__`` that names features of the real API which are missing.

    Args:
        module: Dotted name of the module.
        names: Names that the real module has and this one lacks.

    Returns:
        A function for the module's ``__getattr__``. It raises UnsupportedLaunchFeature for
        those names and AttributeError for any other, as for a name that no launch has.
    """
    missing = frozenset(names)

    def __getattr__(name: str) -> NoReturn:
        if name in missing:
            raise UnsupportedLaunchFeature(f"{module}.{name}")
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return __getattr__
