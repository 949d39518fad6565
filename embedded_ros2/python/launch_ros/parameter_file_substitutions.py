"""Substitutions written in parameter files: ``$(var name)``, ``$(find-pkg-share package)``."""

from __future__ import annotations

import re

from launch._gaps import UnsupportedLaunchFeature
from launch.substitution import Substitution
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, TextSubstitution, ThisLaunchFileDir

from .substitutions import FindPackagePrefix, FindPackageShare

_ONE = re.compile(r"\$\((?P<kind>[a-z-]+)(?P<arguments>[^()$]*)\)")


def parse_substitution(text: str) -> list[Substitution]:
    """Return text with substitutions as a list of substitutions.

    Raises:
        UnsupportedLaunchFeature: If a kind of substitution is not known here, or they are nested.
        ValueError: If the number of arguments is wrong.
    """
    result: list[Substitution] = []
    end = 0
    for match in _ONE.finditer(text):
        result += [TextSubstitution(text=text[end : match.start()]), _make(match["kind"], match["arguments"].split())]
        end = match.end()
    result.append(TextSubstitution(text=text[end:]))
    for item in result:
        if isinstance(item, TextSubstitution) and "$(" in item.text:
            start = item.text.index("$(")
            raise UnsupportedLaunchFeature(f"'{item.text[start : start + 40].splitlines()[0]}' in a parameter file")
    return result


def _make(kind: str, arguments: list[str]) -> Substitution:
    first = arguments[0].strip("'\"") if arguments else ""
    second = arguments[1].strip("'\"") if len(arguments) == 2 else None
    limits = {"var": (1, 2), "env": (1, 2), "find-pkg-share": (1, 1), "find-pkg-prefix": (1, 1), "dirname": (0, 0)}
    if kind not in limits:
        raise UnsupportedLaunchFeature(f"'$({kind} …)' in a parameter file")
    low, high = limits[kind]
    if not low <= len(arguments) <= high:
        raise ValueError(f"'$({kind} {' '.join(arguments)})' has {len(arguments)} arguments, expected {low} to {high}")
    if kind == "var":
        return LaunchConfiguration(first, default=second)
    if kind == "env":
        return EnvironmentVariable(first, default_value=second)
    if kind == "dirname":
        return ThisLaunchFileDir()
    return FindPackageShare(first) if kind == "find-pkg-share" else FindPackagePrefix(first)
