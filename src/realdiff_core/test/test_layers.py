"""Layered YAML settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from realdiff_core.errors import ConfigError
from realdiff_core.layers import load_layers


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = 1
    height: int = 2


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    sizes: list[int] = []
    inner: Inner = Inner()


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_later_layers_win_and_mappings_merge(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="name: base\nsizes: [1, 2, 3]\ninner: {width: 5, height: 6}\n",
        child="extends: base.yaml\nname: child\ninner: {width: 7}\n",
        last="sizes: [9]\n",
    )
    settings = load_layers([tmp_path / "child.yaml", tmp_path / "last.yaml"], Settings, ["inner.height=8"])
    assert settings == Settings(name="child", sizes=[9], inner=Inner(width=7, height=8))


def test_unknown_key_names_its_file_and_the_known_keys(tmp_path: Path) -> None:
    write(tmp_path, base="name: a\ninner: {wdith: 3}\n", child="extends: base.yaml\ninner: {height: 1}\n")
    with pytest.raises(ConfigError) as error:
        load_layers([tmp_path / "child.yaml"], Settings)
    text = str(error.value)
    assert str(tmp_path / "base.yaml") in text
    assert "inner.wdith" in text
    assert "width, height" in text


def test_wrong_value_of_an_override_names_the_command_line(tmp_path: Path) -> None:
    write(tmp_path, base="name: a\n")
    with pytest.raises(ConfigError, match=r"command line, key inner\.width"):
        load_layers([tmp_path / "base.yaml"], Settings, ["inner.width=wide"])
    with pytest.raises(ConfigError, match="not understood"):
        load_layers([tmp_path / "base.yaml"], Settings, ["inner.width"])


def test_circles_and_missing_parents_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a="extends: b.yaml\nname: a\n", b="extends: a.yaml\n", c="extends: nowhere.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_layers([tmp_path / "a.yaml"], Settings)
    with pytest.raises(ConfigError, match="extends of"):
        load_layers([tmp_path / "c.yaml"], Settings)
