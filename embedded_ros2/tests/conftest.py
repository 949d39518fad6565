"""Fixtures for the tests of the embedded ROS 2: its commands, and nodes to try them on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from realdiff_core.ros_domain import free_domain

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Where the real launch is installed it is not shadowed: then these tests are not collected.
sys.path.append(str(HERE.parent / "python"))

from embedded_testing import ROS2, Process, embedded_environment  # noqa: E402


def _sourced() -> bool:
    prefix = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any((Path(path) / "share" / "launch" / "package.xml").is_file() for path in prefix if path)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out where a real ROS 2 is used: it brings its own commands, with their own tests."""
    return True if _sourced() and collection_path.name.startswith("test_") else None


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment with a domain of its own and the package demo_nodes."""
    prefix = tmp_path_factory.mktemp("prefix")
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "demo_nodes").touch()
    share = prefix / "share" / "demo_nodes"
    share.mkdir()
    (share / "package.xml").write_text("<package format='3'><name>demo_nodes</name><version>1.2.3</version></package>")
    library = prefix / "lib" / "demo_nodes"
    library.mkdir(parents=True)
    for path in (HERE / "nodes").glob("*.py"):
        script = library / path.stem
        script.write_text(path.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
        script.chmod(0o755)
    variables = embedded_environment()
    variables["AMENT_PREFIX_PATH"] = os.pathsep.join([str(prefix), variables["AMENT_PREFIX_PATH"]])
    variables["ROS_DOMAIN_ID"] = str(free_domain())
    variables["ROS_LOG_DIR"] = str(prefix / "log")
    return variables


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start `ros2 …`, or any program by its path, and end it with the test."""
    started: list[Process] = []

    def run(*arguments: str | Path, **variables: str) -> Process:
        first = Path(arguments[0])
        command = [str(item) for item in arguments]
        if not first.is_absolute():
            command = [sys.executable, str(ROS2), *command]
        started.append(Process(command, {**environment, **variables}, tmp_path))
        return started[-1]

    yield run
    for process in started:
        process.stop()


@pytest.fixture
def ros2(start: Callable[..., Process]) -> Callable[..., tuple[int, str]]:
    """Run `ros2 …` to its end; return exit code and output."""

    def run(*arguments: str | Path, **variables: str) -> tuple[int, str]:
        process = start(*arguments, **variables)
        code = process.wait()
        return code, process.output

    return run


@pytest.fixture(scope="module")
def talker(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The node talker, for all tests of a module."""
    path = Path(environment["AMENT_PREFIX_PATH"].split(os.pathsep)[0]) / "lib" / "demo_nodes" / "talker"
    process = Process([str(path)], environment, tmp_path_factory.mktemp("talker"))
    process.wait_for("ready /talker")
    yield process
    process.stop()
