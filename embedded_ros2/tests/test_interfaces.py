"""The interface packages are those of upstream's Jazzy branches, field for field."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

INTERFACES = Path(__file__).resolve().parents[1] / "interfaces"

# Type hashes (REP-2011) of upstream's interfaces: two nodes talk only if these agree, and they depend on every field's
# name, type and place. Taken from control_msgs 5.8.0, franka_ros2 3.4.0, geometry2 0.36, ros2_control 4.46 and
# realsense-ros 4.55.
HASHES: dict[str, str] = json.loads((Path(__file__).parent / "interface_hashes.json").read_text())


def test_every_interface_is_listed() -> None:
    found = {f"{path.parts[-3]}/{path.parts[-2]}/{path.stem}" for path in INTERFACES.glob("*/*/*.*")}
    assert found == set(HASHES)


@pytest.mark.parametrize("package", sorted({name.split("/")[0] for name in HASHES}))
def test_every_file_is_built(package: str) -> None:
    text = (INTERFACES / package / "CMakeLists.txt").read_text()
    for name in HASHES:
        owner, kind, short = name.split("/")
        if owner == package:
            assert f"{kind}/{short}.{kind}" in text


@pytest.mark.parametrize("name", sorted(HASHES))
def test_hash_is_upstreams(name: str) -> None:
    package, kind, short = name.split("/")
    roots = [Path(path) for path in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if path]
    found = [root / "share" / package / kind / f"{short}.json" for root in roots]
    built = next((path for path in found if path.is_file()), None)
    if built is None:
        pytest.skip(f"{package} is not built: run the tests with ./run pytest")
    hashes = {item["type_name"]: item["hash_string"] for item in json.loads(built.read_text())["type_hashes"]}
    assert hashes[name] == f"RIHS01_{HASHES[name]}"
