"""Every launch file of the project: it loads, and it uses nothing that the real launch lacks."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from embedded_testing import HERE, ROOT
from launch._gaps import UnsupportedLaunchFeature

# Names and keyword arguments of launch 3.4 and launch_ros 0.26 (Jazzy), by module; null where a name is no class.
REAL_API: dict[str, dict[str, list[str] | None]] = json.loads((HERE / "real_api.json").read_text())
FILES = sorted((ROOT / "launch").rglob("*.launch.py")) + sorted((ROOT / "src").rglob("launch/*.launch.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def used_names(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield (module, name, name in the file) of what a file takes from launch and launch_ros."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("launch", "launch_ros"):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in REAL_API:
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                else:
                    yield str(node.module), alias.name, alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in ("launch", "launch_ros"):
                    modules[alias.asname or alias.name] = alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            first = owner.split(".")[0]
            full = owner if owner in REAL_API else modules.get(first, "") + owner[len(first) :]
            if (owner in modules or first in modules) and full in REAL_API and f"{full}.{node.attr}" not in REAL_API:
                yield full, node.attr, ast.unparse(node)


def wrong_uses(source: str) -> list[str]:
    """Return what a launch file uses that the real launch does not have."""
    tree = ast.parse(source)
    wrong, classes = [], {}
    for module, name, local in used_names(tree):
        if name not in REAL_API.get(module, {}):
            wrong.append(f"{module}.{name}")
        else:
            classes[local] = REAL_API[module][name]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parameters = classes.get(ast.unparse(node.func))
            if parameters is not None:
                names = [keyword.arg for keyword in node.keywords if keyword.arg]
                wrong += [f"{ast.unparse(node.func)}({name}=…)" for name in names if name not in parameters]
    return wrong


def test_there_are_launch_files() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_uses_only_what_the_real_launch_has(path: Path) -> None:
    assert wrong_uses(path.read_text()) == []


def test_finds_what_the_real_launch_lacks() -> None:
    source = (
        "import launch\nfrom launch import actions\nfrom launch.actions import Fly, LogInfo\n"
        "from launch_ros.actions import Node\n"
        "LogInfo(msg='a', loud=True)\nNode(package='p', executable='e', wings=2)\n"
        "launch.substitutions.Guess()\nactions.Shutdown(reason='x')\n"
    )
    assert sorted(wrong_uses(source)) == [
        "LogInfo(loud=…)",
        "Node(wings=…)",
        "launch.actions.Fly",
        "launch.substitutions.Guess",
    ]


@pytest.mark.parametrize("module", sorted(REAL_API))
def test_the_runner_has_each_real_name_or_says_that_it_lacks_it(module: str) -> None:
    if module in ("launch_ros.descriptions",):
        pytest.skip("not in the runner; importing it fails like any missing module")
    loaded = importlib.import_module(module)
    for name in REAL_API[module]:
        try:
            getattr(loaded, name)
        except UnsupportedLaunchFeature as gap:
            assert name in gap.feature


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_shows_its_arguments(path: Path, ros2: Callable[..., tuple[int, str]]) -> None:
    code, output = ros2("launch", path, "--show-args")
    assert code == 0, output
    assert output.startswith("Arguments (pass arguments as '<name>:=<value>'):")
    assert "no description given" not in output


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_prints_its_description(path: Path, ros2: Callable[..., tuple[int, str]]) -> None:
    code, output = ros2("launch", path, "--print-description")
    assert code == 0, output
    assert "LaunchDescription" in output and "└── " in output
