"""Where bundles are found by name."""

from __future__ import annotations

import os
from pathlib import Path

from realdiff_core.errors import ConfigError

RECORD_FILE = "policy.json"

BUNDLE_HELP = "folder of a bundle, or name of one that ships or lies in $REALDIFF_BUNDLES; or `policy` folder of a run"


def bundle_folders() -> list[Path]:
    """Folders in which bundles are looked for by name, in order."""
    folders = []
    if override := os.environ.get("REALDIFF_BUNDLES"):
        folders.append(Path(override))
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders += [Path(prefix) / "share" / "realdiff" / "bundles" for prefix in prefixes if prefix]
    folders.append(Path(__file__).resolve().parent / "bundles")  # what the package ships
    folders.append(Path(__file__).resolve().parents[3] / "bundles")  # the source tree
    return folders


def find_bundle(name: str) -> Path:
    """Returns a bundle's folder.

    Args:
        name: A folder, or the name of a bundle that ships with the software or lies in REALDIFF_BUNDLES.

    Raises:
        ConfigError: There is no such bundle; lists what there is.
    """
    if (Path(name) / RECORD_FILE).is_file():
        return Path(name).resolve()
    folders = bundle_folders()
    for folder in folders:
        if (folder / name / RECORD_FILE).is_file():
            return folder / name
    there = sorted({path.parent.name for folder in folders for path in folder.glob(f"*/{RECORD_FILE}")})
    raise ConfigError(
        "there is no such policy bundle",
        where=name,
        expected=f"a folder with {RECORD_FILE}" + (f", or one of: {', '.join(there)}" if there else ""),
        got="a folder without it" if Path(name).is_dir() else "nothing of that name",
        next_step="make one: ros2 run realdiff_policy export RUN -o BUNDLE",
    )
