"""Launch files in Python."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from ._gaps import UnsupportedLaunchFeature, module_gaps
from .invalid_launch_file_error import InvalidLaunchFileError
from .launch_description import LaunchDescription
from .launch_description_source import LaunchDescriptionSource
from .some_substitutions_type import SomeSubstitutionsType

__all__ = [
    "AnyLaunchDescriptionSource",
    "InvalidLaunchFileError",
    "InvalidPythonLaunchFileError",
    "PythonLaunchDescriptionSource",
    "get_launch_description_from_any_launch_file",
    "get_launch_description_from_python_launch_file",
    "load_python_launch_file_as_module",
]

__getattr__ = module_gaps(
    "launch.launch_description_sources",
    (
        "FrontendLaunchDescriptionSource",
        "InvalidFrontendLaunchFileError",
        "get_launch_description_from_frontend_launch_file",
    ),
)


class InvalidPythonLaunchFileError(Exception):
    """A Python file is no launch file."""


class _UncachedLoader(SourceFileLoader):
    """Compiles a launch file each time.

    Python's cache tells versions of a file apart by size and whole seconds: a file edited within a second of its last
    run could run in its old version.
    """

    def path_stats(self, path: str) -> NoReturn:
        """Refuse: without a file's time Python neither reads nor writes its cache."""
        raise OSError("launch files are not cached")


def load_python_launch_file_as_module(python_launch_file_path: str) -> ModuleType:
    """Import a launch file by its path."""
    loader = _UncachedLoader("python_launch_file", python_launch_file_path)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def get_launch_description_from_python_launch_file(python_launch_file_path: str) -> LaunchDescription:
    """Return what a launch file describes.

    Raises:
        InvalidPythonLaunchFileError: If it has no generate_launch_description().
        Exception: Whatever the file raises.
    """
    module = load_python_launch_file_as_module(python_launch_file_path)
    if not hasattr(module, "generate_launch_description"):
        raise InvalidPythonLaunchFileError(
            f"launch file at '{python_launch_file_path}' does not contain the required function "
            "'generate_launch_description()'"
        )
    description: LaunchDescription = module.generate_launch_description()
    return description


def get_launch_description_from_any_launch_file(launch_file_path: str) -> LaunchDescription:
    """Return what a launch file describes.

    Raises:
        InvalidLaunchFileError: If it can't be loaded; its cause is the first error.
        UnsupportedLaunchFeature: If it is no Python file, or uses what this runner lacks.
    """
    extension = Path(launch_file_path).suffix[1:]
    if extension in ("xml", "yaml", "yml"):
        raise UnsupportedLaunchFeature(f"launch files in {extension.upper()}")
    try:
        return get_launch_description_from_python_launch_file(launch_file_path)
    except UnsupportedLaunchFeature:
        raise
    except Exception as error:
        raise InvalidLaunchFileError(extension, likely_errors=[error]) from error


class PythonLaunchDescriptionSource(LaunchDescriptionSource):
    """A launch file in Python."""

    def __init__(self, launch_file_path: SomeSubstitutionsType) -> None:
        """Keep its path."""
        super().__init__(None, launch_file_path, "interpreted python launch file")

    def _load(self, location: str) -> LaunchDescription:
        return get_launch_description_from_python_launch_file(location)


class AnyLaunchDescriptionSource(LaunchDescriptionSource):
    """A launch file of a format that its name tells."""

    def __init__(self, launch_file_path: SomeSubstitutionsType) -> None:
        """Keep its path."""
        super().__init__(None, launch_file_path, "interpreted launch file")

    def _load(self, location: str) -> LaunchDescription:
        return get_launch_description_from_any_launch_file(location)
