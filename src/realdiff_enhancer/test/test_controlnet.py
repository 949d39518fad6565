"""ControlNet conditioning: starts as its base, leaves the base alone, trains and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from diffusers import UNet2DModel  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from realdiff_core.config import camera_profile  # noqa: E402
from realdiff_enhancer.models import create_model  # noqa: E402
from realdiff_enhancer.two_stage.control import ControlledDenoiser  # noqa: E402
from realdiff_enhancer.two_stage.training import TrainConfig, train_run  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_two_stage import frames  # noqa: E402


def test_it_starts_as_its_base_and_then_listens_to_the_condition() -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=None,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=4,
        num_class_embeds=2,
    )
    controlled = ControlledDenoiser(unet, 3, 5)
    sample, time, label = torch.randn((2, 8, 16, 24)), torch.tensor([3, 700]), torch.tensor([0, 1])
    with torch.no_grad():
        alone = unet(sample[:, :3], time, class_labels=label).sample
        torch.testing.assert_close(controlled(sample, time, label)[0], alone)
        for parameter in (*controlled.joints.parameters(), *controlled.hint.parameters()):
            parameter.normal_(std=0.1)
        one = controlled(sample, time, label)[0]
        sample[:, 3:] += 1.0
        other = controlled(sample, time, label)[0]
    assert not torch.allclose(one, alone)
    assert not torch.allclose(one, other)


def test_it_trains_on_a_frozen_base_and_resumes_exactly(tmp_path: Path) -> None:
    pack = tmp_path / "tiny.npz"
    tiny_training.make_pack(pack, count=3)
    fine = {"kind": "control", "stride": 4, "channels": [8, 8], "norm_groups": 4}
    changes = {"base_steps": 2, "distil_steps": 0, "calibration_frames": 0, "validation_frames": 0}
    settings = tiny_training.settings(pack, model={"stages": "one", "fine": fine}, **changes)
    config = TrainConfig.model_validate(settings)
    assert train_run(config, tmp_path / "whole", report=lambda line: None).finished
    while not train_run(config, tmp_path / "parts", report=lambda line: None, time_limit_s=0.0).finished:
        pass
    whole, parts = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    base = load_file(tmp_path / "whole" / "base" / "weights.safetensors")
    assert all(torch.equal(whole[f"fine.base.{key}"], value.half()) for key, value in base.items())
    assert whole["fine.joints.0.weight"].abs().max() > 0
    model = create_model(
        "controlnet", profile=camera_profile("d435"), device="cpu", steps=2, weights=tmp_path / "whole" / "model"
    )
    assert np.isfinite(model.enhance(frames(1)).depth).any()
    with pytest.raises(ValidationError, match=r"needs model\.stages: one, base_steps"):
        TrainConfig.model_validate({**settings, "base_steps": 0})
