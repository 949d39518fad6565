"""Where bundles are found by name, and that the package brings those that ship with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from realdiff_core.errors import ConfigError
from realdiff_policy.bundle_path import bundle_folders, find_bundle

PACKAGE = Path(__file__).resolve().parents[1]


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_comes_before_a_name_and_the_users_bundles_before_those_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, installed = make(tmp_path / "own" / "pour_tea"), make(tmp_path / "prefix/share/realdiff/bundles/pour_tea")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    assert find_bundle("pour_tea") == installed
    monkeypatch.setenv("REALDIFF_BUNDLES", str(tmp_path / "own"))
    assert find_bundle("pour_tea") == own
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "pour_tea")
    assert find_bundle("pour_tea") == tmp_path / "pour_tea"
    assert find_bundle("own/pour_tea") == own


def test_the_package_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    assert PACKAGE / "realdiff_policy" / "bundles" in bundle_folders()


def test_what_is_missing_is_named_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "own" / "pour_tea")
    monkeypatch.setenv("REALDIFF_BUNDLES", str(tmp_path / "own"))
    with pytest.raises(ConfigError) as error:
        find_bundle("fold_towel")
    assert "fold_towel" in str(error.value) and "pour_tea" in str(error.value)


def test_what_ships_is_installed_with_the_package(tmp_path: Path) -> None:
    """As `colcon build` and `pip` install it: by setup.py, into a place without the source tree."""
    source, library = tmp_path / "source", tmp_path / "lib"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("test", "bundles", "__pycache__", "*.egg-info"))
    make(source / "realdiff_policy" / "bundles" / "pour_tea")
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(library)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    program = "from realdiff_policy.bundle_path import find_bundle; print(find_bundle('pour_tea'))"
    paths = os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "AMENT_PREFIX_PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    installed = library / "realdiff_policy" / "bundles" / "pour_tea"
    assert Path(found.stdout.strip()) == installed
    assert (installed / "model.safetensors").read_bytes() == b"weights"


def test_bundles_that_ship_are_whole_and_small() -> None:
    """Every bundle in the source tree: readable, its files those that were exported, at most 16 MB."""
    from realdiff_policy.policies.diffusion_policy.checkpoint import check_files, read_record

    for folder in sorted((PACKAGE / "realdiff_policy" / "bundles").glob("*/")):
        record = read_record(folder)
        check_files(folder, record)
        assert record.contract.task == folder.name
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 16_000_000
        parity = record.training["parity"]
        assert parity["max_error"] <= 1e-3
