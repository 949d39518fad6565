"""Fitting a camera at rest: how its noise behaves over time is fitted as well, and kept where it helps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.config import camera_profile
from realdiff_enhancer.data.pair_maker import DepthSequence
from realdiff_enhancer.data.sequence import SequenceOptions
from realdiff_enhancer.evaluation import temporal_fit
from realdiff_enhancer.evaluation.fit_page import fit_page
from realdiff_enhancer.evaluation.temporal_fit import TemporalFit
from realdiff_enhancer.fitting import FitOptions, fit, save_profile
from realdiff_enhancer.metrics.temporal import FixedAndAr1
from test_fit_camera import TINY, recording, tiny_model  # noqa: F401
from test_report import _Page
from test_static_camera import clip

from realdiff_enhancer import fitting

CAMERA = np.array([0.6, 0.5])


def found(after: float, clips: list[DepthSequence]) -> Callable[..., TemporalFit]:
    """What stands for `fit_temporal`: the model misses the camera by 0.2, with the setting that is found by `after`."""

    def fit_temporal(name: str, sequence: DepthSequence, *_: object) -> TemporalFit:
        clips.append(sequence)
        setting, lags = FixedAndAr1(0.375, 0.25), np.array([1, 2])
        curves = (CAMERA, CAMERA, CAMERA, CAMERA)
        return TemporalFit(name, "x", lags, *curves, setting, (setting, setting), CAMERA + 0.2, CAMERA + after)

    return fit_temporal


def test_a_camera_at_rest_shows_how_noise_behaves_over_time(
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is found is written beside the weights, which stay, and on the card; the clip is the first frames."""
    from realdiff_enhancer.two_stage.pipeline import TwoStageModel

    clips: list[DepthSequence] = []
    monkeypatch.setattr(temporal_fit, "fit_temporal", found(0.05, clips))
    monkeypatch.setattr("realdiff_enhancer.fitting_pairs.CLIP_FRAMES", 11)
    (tmp_path / "work").mkdir()
    options = FitOptions(
        name="my_d435", base=camera_profile("d435"), steps=2, initial=tiny_model, batch=2, crop=(64, 64), train=TINY
    )
    lines: list[str] = []
    raw, reading = recording(tmp_path / "raw"), SequenceOptions(baseline_m=0.05)
    result = fit(raw, reading, options, tmp_path / "work", lines.append)
    assert [(len(clip.depths_m), list(clip.numbers)) for clip in clips] == [(11, list(range(11)))]
    assert "noise over time: fixed share 0.38, correlation 0.25; misfit 0.200 -> 0.050" in lines
    folders = (result.model, tiny_model)
    temporal, start = (json.loads((path / "config.json").read_text())["temporal"] for path in folders)
    assert (temporal["static_share"], temporal["correlation"]) == (0.375, 0.25)
    assert temporal["surface_step_px"] == start["surface_step_px"]
    assert TwoStageModel.from_pretrained(result.model, steps=2).config.temporal.static_share == 0.375
    page = fit_page(result, "fit_camera …")
    save_profile(result, page, tmp_path / "home", overwrite=False)
    text = " ".join(_Page(page).text.split())
    assert "a share of 0.38 never changes" in text and "by 0.200 with" in text
    record = json.loads((tmp_path / "home" / "weights" / "two_stage_my_d435" / "fit.json").read_text())
    assert record["temporal"] == {"static_share": 0.375, "correlation": 0.25}


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("after", [0.3, float("nan")])
def test_a_fit_that_does_not_help_is_left_out(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: float,
) -> None:
    monkeypatch.setattr(temporal_fit, "fit_temporal", found(after, []))
    shutil.copytree(tiny_model, tmp_path / "model")
    lines: list[str] = []
    options = FitOptions(name="x", base=camera_profile("d435"))
    assert fitting._over_time(clip(12), tmp_path / "model", options, lines.append) is None
    assert (tmp_path / "model" / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
    assert lines == [f"noise over time stays as it was: the fit misses the camera's by {after:.3f}, the model by 0.200"]
