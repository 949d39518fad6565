"""A model folder: what a model says about its settings, and what of a folder is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from realdiff_enhancer.models.base import model_settings, settings_sha256  # noqa: E402
from realdiff_enhancer.two_stage import pipeline  # noqa: E402
from realdiff_enhancer.two_stage.config import StepCalibration, StyleConfig, TemporalConfig  # noqa: E402
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
