"""The colcon build: finds out which packages changed, builds those."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from workspace.layout import Layout, digest, read_stamp, write_stamp
from workspace.process import run_logged
from workspace.report import SetupError, Step
from workspace.ros import has_ros_package

# Installed by link, so an edit needs no build; a file that comes or goes does. All else is read by its content.
_READ = {".msg", ".srv", ".action", ".idl", ".cmake"}
_READ_NAMES = {"CMakeLists.txt", "package.xml", "setup.py", "setup.cfg"}
_SKIPPED = {"__pycache__", "test", "tests"}
COLCON = "import sys; from colcon_core.command import main; sys.argv[0] = 'colcon'; sys.exit(main())"


def packages(layout: Layout, env: Mapping[str, str]) -> dict[str, Path]:
    """Returns the packages to build, name → folder.

    All in src/, and of embedded_ros2/interfaces/ those that no sourced ROS 2 provides.
    """
    found = {path.parent.name: path.parent for path in sorted((layout.root / "src").glob("*/package.xml"))}
    for path in sorted((layout.embedded / "interfaces").glob("*/package.xml")):
        name = path.parent.name
        if not has_ros_package(name, env, layout.root):
            found[name] = path.parent
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        if entry.is_dir():
            if entry.name not in _SKIPPED and not entry.name.startswith(".") and not entry.name.endswith(".egg-info"):
                yield from _walk(Path(entry.path))
        elif not entry.name.endswith(".pyc"):
            yield Path(entry.path)


def package_digest(folder: Path, root: Path) -> str:
    """Returns a hash over what a build of the package depends on."""
    parts: list[str | bytes] = []
    module = folder / folder.name
    folders = [folder]
    if (folder / "CMakeLists.txt").is_file() and not module.is_dir():
        text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
        folders += [root / name for name in re.findall(r"\.\./\.\./(\w+)", text) if (root / name).is_dir()]
    for start in folders:
        for path in _walk(start):
            if path.is_relative_to(module):
                continue  # a Python package in development mode: found in the source tree
            parts.append(str(path.relative_to(root)))
            if path.suffix in _READ or path.name in _READ_NAMES:
                parts.append(path.read_bytes())
    return digest(parts)


def _settings(layout: Layout) -> dict[str, str]:
    """Returns what a build can't survive a change of: CMake's caches and the installed scripts name these."""
    python = str(layout.python.readlink()) if layout.python.is_symlink() else ""
    return {"root": str(layout.root), "sourced": str(layout.sourced), "python": python}


def _tools_digest(layout: Layout) -> str:
    """Returns a hash over what CMake packages are built with."""
    tools = [layout.root / "colcon.meta", layout.requirements / "ros.txt"]
    if not layout.sourced:
        tools += sorted((layout.embedded / "cmake").glob("*.cmake"))
    return digest(path.read_bytes() for path in tools if path.is_file())


def wanted(layout: Layout, env: Mapping[str, str]) -> dict[str, object]:
    """Returns the stamp of a build that is up to date."""
    tools = _tools_digest(layout)
    hashes = {}
    for name, folder in packages(layout, env).items():
        value = package_digest(folder, layout.root)
        hashes[name] = digest([value, tools]) if (folder / "CMakeLists.txt").is_file() else value
    return {"settings": _settings(layout), "packages": hashes}


def outdated(layout: Layout, target: Mapping[str, object]) -> list[str]:
    """Returns the packages of the target whose build is missing or old."""
    stamp = read_stamp(layout.state / "build.json")
    old = stamp.get("packages", {}) if stamp.get("settings") == target["settings"] else {}
    new = target["packages"]
    assert isinstance(new, dict)
    return [
        name
        for name, value in new.items()
        if old.get(name) != value or not (layout.install / name / "share" / name / "package.xml").exists()
    ]


def build(layout: Layout, env: Mapping[str, str], target: Mapping[str, object]) -> None:
    """Builds the packages that are out of date and stamps those that succeeded.

    Args:
        layout: The checkout.
        env: Environment of the build: ROS 2 and the virtual environment.
        target: What `wanted` returned; a file changed during the build is then seen by the next run.

    Raises:
        SetupError: A package failed; with the end of its log.
    """
    stamp_path = layout.state / "build.json"
    stamp = read_stamp(stamp_path)
    if stamp.get("settings") != target["settings"]:
        if stamp:
            _remove_builds(layout)
        stamp = {"settings": target["settings"], "packages": {}}
    names = outdated(layout, target)
    folders = packages(layout, env)
    hashes = target["packages"]
    assert isinstance(hashes, dict)
    for name in names:
        stamp["packages"].pop(name, None)
        shutil.rmtree(layout.install / name / "lib" / name, ignore_errors=True)  # verbs that are no more
    write_stamp(stamp_path, stamp)
    done: set[str] = set()
    with Step(f"colcon build ({len(names)} package{'s' if len(names) != 1 else ''})") as step:

        def on_line(line: str) -> None:
            if match := re.match(r"(Starting >>>|Finished <<<|Failed\s+<<<) (\S+)", line):
                if match.group(1).startswith("Finished"):
                    done.add(match.group(2))
                step.update(f"{len(done)} of {len(names)}: {match.group(2)}")

        log = layout.state / "colcon.log"
        status = run_logged(
            _command(layout, names, folders), log=log, on_line=on_line, env=_environment(layout, env), cwd=layout.root
        )
    for name in done & set(names):
        _remove_dangling_links(layout.install / name)
        stamp["packages"][name] = hashes[name]
    write_stamp(stamp_path, stamp)
    if status:
        failed = [name for name in names if name not in done]
        raise SetupError(
            f"colcon could not build {', '.join(failed) or 'the workspace'}.",
            f"mend what its log says, then ./run again (all of it: {layout.root / 'log' / 'latest_build'})",
            _failure(log),
        )


def _command(layout: Layout, names: list[str], folders: Mapping[str, Path]) -> list[str]:
    parents = {str(layout.root / "src") for folder in folders.values() if not folder.is_relative_to(layout.embedded)}
    parents |= {str(folder) for folder in folders.values() if folder.is_relative_to(layout.embedded)}
    command = [str(layout.python), "-c", COLCON, "build", "--symlink-install", "--event-handlers", "console_cohesion+"]
    command += ["--base-paths", *sorted(parents), "--packages-select", *names]
    cmake = ["-DBUILD_TESTING=OFF", "-Wno-dev"]
    if not layout.sourced:
        from embedded_ros2 import environment as embedded

        cmake += embedded.cmake_arguments()
    return [*command, "--cmake-args", *cmake]


def _environment(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    result = dict(env)
    if not layout.sourced:
        from embedded_ros2 import environment as embedded

        added = embedded.build_variables(layout.state / "idl")
        added["PYTHONPATH"] = os.pathsep.join(filter(None, [added["PYTHONPATH"], env.get("PYTHONPATH")]))
        result.update(added)
    return result


def _remove_builds(layout: Layout) -> None:
    for folder in (layout.install, *(path for path in layout.build.glob("*") if path.name != layout.state.name)):
        if (folder / "colcon_build.rc").exists() or folder == layout.install:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_dangling_links(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            if path.is_symlink() and not path.exists():
                path.unlink()


def _failure(log: Path) -> str:
    """Returns the lines of a colcon log that tell why it failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    telling = [line for line in lines if re.search(r"error|Error|No space|not found", line)]
    return "\n".join((telling or lines)[:12]) if lines else f"{sys.executable} wrote nothing"
