"""The Stable Diffusion backbone on a tiny random folder that the test makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.two_stage.config import NetworkConfig, TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.networks import as_denoiser, make_coarse, make_fine  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from realdiff_enhancer.two_stage.training import TrainConfig, train  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_two_stage import frames  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """unet/ of a Stable Diffusion folder, with random weights and next to no channels."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("sd")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    unet.save_pretrained(root / "unet")
    return root


def model(folder: Path | str | None) -> dict[str, Any]:
    name = str(folder) if folder else None
    return {
        "coarse": {"kind": "stable_diffusion", "folder": name, "stride": 8},
        "fine": {"kind": "stable_diffusion", "folder": name, "stride": 4},
    }


def test_the_folder_s_weights_are_used_and_new_inputs_start_without_effect(folder: Path) -> None:
    config = TwoStageConfig.model_validate(model(folder))
    coarse = make_coarse(config)
    kept = coarse.state_dict()
    original = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(kept["unet.mid_block.resnets.0.conv1.weight"], original["mid_block.resnets.0.conv1.weight"])
    assert torch.equal(kept["unet.conv_in.weight"][:, :4], original["conv_in.weight"])
    assert not kept["unet.conv_in.weight"][:, 4:].any()
    fine = make_fine(config)
    channels = fine.state_dict()["unet.conv_in.weight"].shape[1] // 4
    sample = torch.randn((2, channels, 16, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = as_denoiser(fine)(sample, torch.tensor([10, 20]), torch.tensor([0, 1]))
    assert output.shape == (2, 20, 16, 24)


def test_a_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    for missing in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="huggingface-cli download stabilityai/stable-diffusion-2-1"):
            make_coarse(TwoStageConfig.model_validate(model(missing)))


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "sd" / "unet"
    broken.mkdir(parents=True)
    (broken / "config.json").write_bytes((folder / "unet" / "config.json").read_bytes())
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save(weights, broken / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="as safetensors"):
        make_coarse(TwoStageConfig.model_validate(model(tmp_path / "sd")))


def test_grid_has_to_fit_the_latents(folder: Path) -> None:
    with pytest.raises(ConfigError, match="1, 2, 4 or 8"):
        make_coarse(TwoStageConfig(coarse=NetworkConfig(kind="stable_diffusion", folder=str(folder), stride=16)))


def test_it_trains_and_samples(folder: Path, tmp_path: Path) -> None:
    pack = tmp_path / "tiny.npz"
    tiny_training.make_pack(pack, count=3)
    changes = {"coarse_steps": 1, "fine_steps": 1, "distil_steps": 0, "calibration_frames": 0, "validation_frames": 0}
    settings = tiny_training.settings(pack, model=model(folder), **changes)
    train(TrainConfig.model_validate(settings), tmp_path / "m", report=lambda line: None)
    trained = TwoStageModel.from_pretrained(tmp_path / "m", steps=2, device="cpu")
    assert trained.enhance(frames(1)).depth.shape == (1, 64, 96)
