"""ros2 pkg."""

from __future__ import annotations

import argparse
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .cli import verb, verbs

_NOT_FOUND = "Package not found"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    sub = verbs(parser)
    item = verb(sub, "executables", _executables, "Output a list of package specific executables")
    item.add_argument("package_name", nargs="?", help="The package name")
    item.add_argument("--full-path", action="store_true", help="Show full path of each executable")
    verb(sub, "list", _list, "Output a list of available packages")
    item = verb(sub, "prefix", _prefix, "Output the prefix path of a package")
    item.add_argument("package_name", help="The package name")
    item.add_argument("--share", action="store_true", help="Show share directory for the package")
    item = verb(sub, "xml", _xml, "Output the XML of the package manifest or a specific tag")
    item.add_argument("package_name", help="The package name")
    item.add_argument("-t", "--tag", help="The XML tag to output (e.g. 'version')")


def executables(package: str) -> list[Path]:
    """Return the executables of a package.

    Raises:
        RuntimeError: If there is no such package.
    """
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        base = Path(get_package_prefix(package)) / "lib" / package
    except (PackageNotFoundError, ValueError) as error:
        raise RuntimeError(f"Package '{package}' not found") from error
    found = []
    for directory, children, files in os.walk(base):
        children[:] = sorted(name for name in children if not name.startswith("."))
        paths = [Path(directory) / name for name in sorted(files)]
        found += [path for path in paths if os.access(path, os.X_OK)]
    return found


def _list(args: argparse.Namespace) -> None:
    from ament_index_python.packages import get_packages_with_prefixes

    for name in sorted(get_packages_with_prefixes()):
        print(name)


def _prefix(args: argparse.Namespace) -> str | None:
    from ament_index_python.packages import (
        PackageNotFoundError,
        get_package_prefix,
        get_package_share_directory,
    )

    find = get_package_share_directory if args.share else get_package_prefix
    try:
        print(find(args.package_name))
    except (PackageNotFoundError, ValueError):
        return _NOT_FOUND
    return None


def _executables(args: argparse.Namespace) -> None:
    from ament_index_python.packages import get_packages_with_prefixes

    names = sorted(get_packages_with_prefixes()) if args.package_name is None else [args.package_name]
    for name in names:
        for path in sorted(executables(name)):
            print(path if args.full_path else f"{name} {path.name}")


def _xml(args: argparse.Namespace) -> str | None:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        path = Path(get_package_share_directory(args.package_name)) / "package.xml"
    except (PackageNotFoundError, ValueError):
        return _NOT_FOUND
    if not path.is_file():
        return "Package XML manifest not found"
    tree = ElementTree.parse(path)
    if args.tag is None:
        ElementTree.dump(tree)
        return None
    elements = tree.getroot().findall(args.tag)
    for element in elements:
        print(element.text)
    return None if elements else "XML tag not found"
