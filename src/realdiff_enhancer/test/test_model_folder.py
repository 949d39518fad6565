"""A model folder: what a model says about its settings, and what of a folder is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from realdiff_core.config import camera_profile  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.models import create_model  # noqa: E402
from realdiff_enhancer.models.base import model_settings, settings_sha256  # noqa: E402
from realdiff_enhancer.two_stage import pipeline  # noqa: E402
from realdiff_enhancer.two_stage.config import StepCalibration, StyleConfig, TemporalConfig  # noqa: E402
from realdiff_enhancer.two_stage.model_folder import load_config, load_model, save_model, shipped_weights  # noqa: E402
from realdiff_enhancer.two_stage.networks import make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from test_two_stage import TINY  # noqa: E402


def loaded(config: dict[str, object] | None = None, **options: object) -> TwoStageModel:
    torch.manual_seed(3)
    changed = TINY.model_copy(update=config or {})
    return TwoStageModel(changed, make_coarse(TINY), make_fine(TINY), **{"steps": 2, "device": "cpu", **options})


def test_settings_tell_apart_what_computes_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "prepare_networks", lambda networks, *_: list(networks))
    variants = [
        loaded(),
        loaded({"temporal": TemporalConfig(correlation=0.5)}),
        loaded({"calibration": (StepCalibration(steps=2, gain=1.1),)}),
        loaded({"style": StyleConfig(sigma_px=0.2)}),
        loaded(device="openvino"),
        loaded().with_temporal(0.25, 0.5),
    ]
    assert len({settings_sha256(model) for model in variants}) == len(variants)
    assert settings_sha256(loaded()) == settings_sha256(variants[0])
    assert model_settings(variants[4])["backend"] == "openvino"


def test_settings_leave_out_what_is_not_used() -> None:
    elsewhere = TINY.fine.model_copy(update={"folder": "/somewhere/stable-diffusion"})
    unused = {"calibration": (StepCalibration(steps=50, gain=1.1),), "fine": elsewhere}
    assert settings_sha256(loaded(unused)) == settings_sha256(loaded())
    style = StyleConfig(sigma_px=0.2)
    assert settings_sha256(loaded({"style": style})) == settings_sha256(loaded(style=style))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with distilled networks."""
    torch.manual_seed(3)
    config = TINY.model_copy(update={"few_steps": (2, 1)})
    base, few = ((make_coarse(c), make_fine(c)) for c in (TINY, config))
    save_model(tmp_path / "m", config, *base, few)
    return tmp_path / "m"


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "config.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_hashes_of_the_weights_are_saved_and_no_setting(folder: Path) -> None:
    hashes = json.loads((folder / "config.json").read_text())["weights_sha256"]
    expected = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.safetensors")}
    assert hashes == expected and len(hashes) == 2
    for steps, name in ((2, "few_steps.safetensors"), (50, "model.safetensors")):
        assert load_model(folder, steps).sha256 == hashes[name]
    change(folder, lambda content: content.pop("weights_sha256"))  # as earlier versions wrote it
    assert load_config(folder).few_steps == (2, 1)
    assert load_model(folder, 2).sha256 == hashes["few_steps.safetensors"]


@pytest.mark.parametrize(("steps", "name"), [(2, "few_steps.safetensors"), (50, "model.safetensors")])
def test_a_flipped_bit_in_the_weights_is_noticed(folder: Path, steps: int, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-100] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged") as caught:
        load_model(folder, steps)
    got, message = hashlib.sha256(content).hexdigest(), str(caught.value)
    wanted = json.loads((folder / "config.json").read_text())["weights_sha256"][name]
    assert (
        got in message and wanted in message and str(folder / name) in message and "copy or train it again" in message
    )
    change(folder, lambda content: content.pop("weights_sha256"))
    assert load_model(folder, steps).sha256 == got  # nothing else would notice


def test_truncated_weights_without_a_hash_are_refused(folder: Path) -> None:
    change(folder, lambda content: content.pop("weights_sha256"))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="can't be loaded") as caught:
        load_model(folder, 50)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "where", "got"),
    [
        (lambda c: c.update(format_version=2), "key format_version", "got:       2"),
        (lambda c: c["codec"].update(scale_px=-1.0), "key codec.scale_px", "got:       -1.0"),
        (lambda c: c["calibration"].append({"gain": 1.0}), "key calibration.0.steps", "'nothing'"),
        (lambda c: c.update(colour_of_the_case="red"), "key colour_of_the_case", "'red'"),
        (lambda c: c.update(few_steps=[4, 3]), "config.json", "few_steps must halve"),
        (lambda c: c.update(weights_sha256=["ab"]), "key weights_sha256", "['ab']"),
    ],
)
def test_wrong_settings_are_named(folder: Path, edit: Callable[[dict[str, Any]], object], where: str, got: str) -> None:
    change(folder, edit)
    with pytest.raises(ConfigError, match="can't be loaded") as caught:
        load_model(folder)
    message = str(caught.value)
    assert where in message and got in message and "validation error" not in message
    assert ("another version of this software" in message) == ("format_version" in where)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\ufffe"])
def test_settings_that_are_no_dictionary_are_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-16"))
    with pytest.raises(ConfigError, match="can't be loaded"):
        load_config(folder)
    (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match="can't be loaded"):
        load_config(folder)


def test_shipped_weights_have_their_hash() -> None:
    shipped = shipped_weights("d435")
    hashes = json.loads((shipped / "config.json").read_text())["weights_sha256"]
    assert hashes == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in shipped.glob("*.safetensors")}


def test_weights_of_another_camera_are_refused(folder: Path) -> None:
    d435, d415 = camera_profile("d435"), camera_profile("d415")
    assert create_model("two_stage", profile=d435, device="cpu", weights=folder).weights_sha256
    for name in ("two_stage", "e2e"):
        with pytest.raises(ConfigError, match="another camera") as caught:
            create_model(name, profile=d415, device="cpu", weights=folder)
        message = str(caught.value)
        assert "55 mm (camera profile 'd415')" in message and "50 mm" in message and str(folder) in message
        assert "--profile d435" in message and "fit_camera" in message
    recalibrated = d435.model_copy(update={"baseline_m": 0.0502, "near_m": 0.2})
    assert create_model("two_stage", profile=recalibrated, device="cpu", weights=folder).weights_sha256
    change(folder, lambda content: content["codec"].update(baseline_m=0.055))  # as fit_camera leaves it
    assert create_model("two_stage", profile=d415, device="cpu", weights=folder).weights_sha256
