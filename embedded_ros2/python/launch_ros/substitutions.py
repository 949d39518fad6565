"""Substitutions that find packages."""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch._gaps import module_gaps
from launch.launch_context import LaunchContext
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitution import Substitution
from launch.substitutions import SubstitutionFailure
from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

__all__ = ["ExecutableInPackage", "FindPackage", "FindPackagePrefix", "FindPackageShare"]

__getattr__ = module_gaps("launch_ros.substitutions", ("Parameter",))


class FindPackage(Substitution):
    """A directory of a package."""

    def __init__(self, package: SomeSubstitutionsType) -> None:
        """Name the package."""
        self.package = normalize_to_list_of_substitutions(package)

    def describe(self) -> str:
        """Return the package's name."""
        return f"{type(self).__name__}(pkg={' + '.join(sub.describe() for sub in self.package)})"

    def find(self, package_name: str) -> str:
        """Return the directory.

        Raises:
            PackageNotFoundError: If there is no such package.
        """
        raise NotImplementedError(f"{type(self).__name__}.find")

    def perform(self, context: LaunchContext) -> str:
        """Return the directory."""
        return self.find(perform_substitutions(context, self.package))


class FindPackagePrefix(FindPackage):
    """Where a package is installed."""

    def find(self, package_name: str) -> str:
        """Return the prefix."""
        return str(get_package_prefix(package_name))


class FindPackageShare(FindPackage):
    """The share directory of a package."""

    def find(self, package_name: str) -> str:
        """Return the share directory."""
        return str(get_package_share_directory(package_name))


class ExecutableInPackage(FindPackagePrefix):
    """Path of an executable of a package."""

    def __init__(self, executable: SomeSubstitutionsType, package: SomeSubstitutionsType) -> None:
        """Name executable and package."""
        super().__init__(package)
        self.executable = normalize_to_list_of_substitutions(executable)

    def describe(self) -> str:
        """Return package and executable."""
        package = " + ".join(sub.describe() for sub in self.package)
        executable = " + ".join(sub.describe() for sub in self.executable)
        return f"ExecInPkg(pkg={package}, exec={executable})"

    def perform(self, context: LaunchContext) -> str:
        """Return the path.

        Raises:
            SubstitutionFailure: If the package has no such executable.
        """
        package = perform_substitutions(context, self.package)
        executable = perform_substitutions(context, self.executable)
        prefix = super().perform(context)
        directory = Path(prefix) / "lib" / package
        if not directory.exists():
            raise SubstitutionFailure(
                f"package '{package}' found at '{prefix}', but libexec directory '{directory}' does not exist"
            )
        path = directory / executable
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise SubstitutionFailure(f"executable '{executable}' not found on the libexec directory '{directory}' ")
        return str(path)
